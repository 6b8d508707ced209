"""The blocks of a `.mirl` file: masks bit-packed, values in byte planes, each a zlib stream of a known size."""

import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError


def pack_mask(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Return a mask eight weights to the byte, in C order, the lowest bit first."""
    return np.packbits(mask.reshape(-1), bitorder="little")


def unpack_mask(packed: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the mask of this shape that `pack_mask` packed; bytes that are missing count as pruned."""
    return np.unpackbits(packed, count=math.prod(shape), bitorder="little").astype(bool).reshape(shape)


def deflate(data: bytes) -> bytes:
    """Deflate with strings, runs or Huffman codes alone, and return the smallest: random masks repeat no string."""
    strategies = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_RLE, zlib.Z_HUFFMAN_ONLY)
    encoders = (zlib.compressobj(6, strategy=strategy) for strategy in strategies)  # 9: ten times as long for some 1 %
    return min((encoder.compress(data) + encoder.flush() for encoder in encoders), key=len)


def inflate(data: bytes, size: int, exact: bool = True) -> bytes:
    """Inflate to at most `size` bytes (exactly `size` unless told otherwise), never taking more memory than that."""
    decoder = zlib.decompressobj()
    try:
        content = decoder.decompress(data, size + 1)
    except zlib.error as error:
        raise MirlError(f"a block of the ticket cannot be inflated: {error}") from error
    if not decoder.eof or decoder.unused_data or len(content) > size or (exact and len(content) != size):
        raise MirlError(f"a block of the ticket does not hold the {size} bytes its network asks for")
    return content


def join(arrays: list[NDArray[Any]], kind: Any) -> NDArray[Any]:
    """Return the values of all arrays, one after the other; of type `kind` where there is none."""
    return np.concatenate([a.reshape(-1) for a in arrays]) if arrays else np.empty(0, kind)


def planes(values: NDArray[Any]) -> bytes:
    """Return all first bytes, then all second bytes, ...: exponents deflate well once they stand together."""
    return values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()


def unplanes(data: bytes, kind: str) -> NDArray[np.float32]:
    """Return the values that `planes` took apart, as float32."""
    size = np.dtype(kind).itemsize
    rows = np.frombuffer(data, np.uint8).reshape(size, -1)
    return np.ascontiguousarray(rows.T).view(kind).reshape(-1).astype(np.float32)
