"""Tensors in half precision for a snapshot: only what is not zero, and as few bits of mantissa as the place asks for.

Of a number of 16 bits, 10 are mantissa. Where those do not fit, the lowest are rounded away: what they took compresses to
nothing. At 4 bits a weight is off by at most 3 %, which some hundred updates mend.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

MANTISSA = 10  # bits, of a half-precision number
Tensors = Mapping[str, NDArray[Any]]


def rounded(values: NDArray[np.float16], bits: int) -> NDArray[np.float16]:
    """Keep so many bits of the mantissa, rounding to the nearest."""
    drop = MANTISSA - bits
    if not drop:
        return values
    whole = values.view(np.uint16).astype(np.uint32) + (1 << (drop - 1))
    return (whole >> drop << drop).astype(np.uint16).view(np.float16)


def packed(tensors: Tensors, bits: int) -> tuple[dict[str, NDArray[np.uint8]], str]:
    """Return bytes and a description of them; the bytes lie in planes, high bytes apart from low ones, to compress well."""
    values, zeros, shapes = [], [], {}
    for name, tensor in sorted(tensors.items()):
        half = rounded(tensor.astype(np.float16).reshape(-1), bits)
        kept = half != 0
        values.append(half[kept])
        zeros.append(kept)
        shapes[name] = list(tensor.shape)
    flat = np.concatenate(values) if values else np.zeros(0, np.float16)
    planes = np.ascontiguousarray(flat.view(np.uint8).reshape(-1, 2).T)
    places = np.packbits(np.concatenate(zeros)) if zeros else np.zeros(0, np.uint8)
    return {"planes": planes, "kept": places}, json.dumps(shapes)


def unpacked(arrays: Tensors, shapes: str) -> dict[str, NDArray[np.float32]]:
    """Return the tensors that `packed` took, as float32."""
    forms = {name: tuple(shape) for name, shape in json.loads(shapes).items()}
    sizes = [int(np.prod(shape)) for shape in forms.values()]
    kept = np.unpackbits(arrays["kept"], count=sum(sizes)).astype(bool)
    flat = np.zeros(sum(sizes), np.float32)
    flat[kept] = np.ascontiguousarray(arrays["planes"].T).view(np.float16).reshape(-1)
    parts = np.split(flat, np.cumsum(sizes)[:-1]) if sizes else []
    return {name: part.reshape(shape) for (name, shape), part in zip(forms.items(), parts, strict=True)}
