"""A ticket as one ONNX file for other programs: any batch, height and width, checked before it is written."""

import base64
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper

from mirl.engine import tone
from mirl.engine.engine import open_backend
from mirl.engine.onnx import FATAL_ONLY
from mirl.engine.onnx_graph import batched_model
from mirl.errors import MirlError
from mirl.files import write_bytes
from mirl.haze_head import head_facts, head_shapes
from mirl.recipe import to_dict
from mirl.ticket import Ticket

SIZES = ((2, 17, 23), (1, 40, 33), (3, 5, 8), (1, 1, 1))  # batch, height, width of the check
TOLERANCE = 1e-4  # of values in [0, 1]; larger values may differ by as much in proportion


def export_onnx(ticket: Ticket, path: Path) -> float:
    """Write the network as ONNX to `path` in one step and return the largest difference that its check found.

    `image` (batch, 3, height, width), RGB in [0, 1], any sizes of at least 1, to `restored` of the same shape, not clipped.
    Raises MirlError, and writes nothing, when ONNX Runtime does not give what the network gives; see `check_parity`.
    """
    content = described_model(ticket).SerializeToString()
    difference = check_parity(ticket, content)
    write_bytes(path, content)
    return difference


def described_model(ticket: Ticket) -> onnx.ModelProto:
    """Return `batched_model` with metadata, each entry JSON: the ticket's network, density, provenance, and `restoring`.

    `restoring` is the recipe for programs that want the pixels of `mirl restore`: see `restoring_recipe`.
    """
    model = batched_model(ticket)
    model.producer_name, model.producer_version = "mirl", version("mirl")
    facts = {
        "network": to_dict(ticket.network),
        "density": ticket.density,
        "provenance": ticket.provenance,
        "restoring": restoring_recipe(ticket),
    }
    helper.set_model_props(model, {name: json.dumps(value, sort_keys=True) for name, value in facts.items()})
    return model


def restoring_recipe(ticket: Ticket) -> dict[str, Any]:
    """Return how photographs are restored with the network, as plain JSON: windows, tone, haze head.

    A window of 0 is the whole image. Tone names the constants of `mirl.engine.tone`, which docs/engine.md explains. A haze
    head comes with its values, float16 in base64, in the order of a ticket's file; without one haze is 1.
    """
    head = ticket.haze_head
    tensors = [] if head is None else [head.tensors[name] for name in head_shapes(head.widths)]
    values = b"".join(tensor.astype("<f2").tobytes() for tensor in tensors)
    return {
        "window": ticket.windows.size,
        "overlap": ticket.windows.overlap,
        "tone": {
            "block": tone.BLOCK,
            "local": tone.LOCAL,
            "removed": list(tone.REMOVED),
            "amount": list(tone.AMOUNT),
            "correlation": list(tone.CORRELATION),
            "raised": list(tone.RAISED),
        },
        "haze_head": None if head is None else {**(head_facts(head) or {}), "values": base64.b64encode(values).decode()},
    }


def check_parity(ticket: Ticket, content: bytes) -> float:
    """Run an exported file in ONNX Runtime beside PyTorch, or the native engine without it, on images of odd sizes.

    Returns the largest difference, in proportion to values above 1. Raises MirlError when it passes `TOLERANCE`, when a
    shape is wrong, or when ONNX Runtime cannot run the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = FATAL_ONLY
    random, worst = np.random.default_rng(0), 0.0
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        for batch, height, width in SIZES:
            images = random.random((batch, height, width, 3), dtype=np.float32)
            restored = session.run(None, {"image": np.ascontiguousarray(images.transpose(0, 3, 1, 2))})[0]
            worst = float(np.maximum(worst, _difference(restored.transpose(0, 2, 3, 1), _reference(ticket, images))))
    except MirlError:
        raise
    except Exception as error:  # onnxruntime has no class of its own
        raise MirlError(f"the exported network does not run in ONNX Runtime: {error!s:.200}; nothing was written") from error
    if not worst <= TOLERANCE:
        raise MirlError(
            f"the exported network differs from the ticket's by {worst:.1e}, at most {TOLERANCE:.0e} is allowed; nothing "
            "was written"
        )
    return worst


def _reference(ticket: Ticket, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the ticket's network gives, from an engine that shares nothing with the graph."""
    try:
        backend = open_backend(ticket, "torch")
    except MirlError:
        backend = open_backend(ticket, "native")
    return np.stack([backend.forward(image) for image in images])


def _difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    if found.shape != wanted.shape:
        raise MirlError(f"the exported network gives {found.shape} where {wanted.shape} is expected; nothing was written")
    with np.errstate(invalid="ignore", over="ignore"):  # infinite on both sides: no number, so no parity
        return float(np.max(np.abs(found - wanted) / np.maximum(np.abs(wanted), 1)))
