"""A ticket as one ONNX file for other programs: any batch, height and width, checked against the network before it is written.

The graph is `onnx_graph`'s with every image of a batch on its own: attention and prompts are of one image. It pads inside:
edges are reflected up to multiples of 8, as our engines do, and the result is cut back.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

import mirl
from mirl.engine.engine import open_backend
from mirl.engine.onnx_graph import OPSET, Graph
from mirl.errors import MirlError
from mirl.files import write_bytes
from mirl.layers import stage_widths
from mirl.recipe import to_dict
from mirl.ticket import Ticket

SIZES = ((2, 17, 23), (1, 40, 33), (3, 5, 8), (1, 1, 1))  # batch, height, width of the check
TOLERANCE = 1e-4  # of values in [0, 1]; larger values may differ by as much in proportion
_FATAL_ONLY = 4  # errors are raised, need not be printed as well


def export_onnx(ticket: Ticket, path: Path) -> float:
    """Write the network as ONNX to `path` in one step and return the largest difference that its check found.

    `image` (batch, 3, height, width), RGB in [0, 1], any sizes of at least 1, to `restored` of the same shape, not clipped.
    Raises MirlError, and writes nothing, when ONNX Runtime does not give what the network gives; see `check_parity`.
    """
    content = batched_model(ticket).SerializeToString()
    difference = check_parity(ticket, content)
    write_bytes(path, content)
    return difference


def batched_model(ticket: Ticket) -> onnx.ModelProto:
    """Return the network with batch, height and width left open; the ticket's network and provenance are its metadata."""
    graph = Graph(ticket, "own", "onnxruntime", batched=True)
    padded = "image"
    for axis in (2, 3):
        padded = graph.add("Gather", [padded, _reflected(graph, axis)], axis=axis)
    whole = graph.add("Add", [padded, graph.change(padded)])
    cut = [whole, graph.integers(0, 0), graph.add("Shape", ["image"], start=2), graph.integers(2, 3)]
    graph.nodes.append(helper.make_node("Slice", cut, ["restored"], name="restored"))
    sizes: list[Any] = ["batch", 3, "height", "width"]
    image, restored = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in ("image", "restored"))
    built = helper.make_graph(graph.nodes, "promptir", [image], [restored], list(graph.constants.values()))
    model = helper.make_model(built, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    model.producer_name, model.producer_version = "mirl", mirl.__version__
    facts = {"network": to_dict(ticket.network), "density": ticket.density, "provenance": ticket.provenance}
    helper.set_model_props(model, {name: json.dumps(value, sort_keys=True) for name, value in facts.items()})
    return model


def _reflected(graph: Graph, axis: int) -> str:
    """Add where each row or column of the padded image comes from: 0 1 2 1 0 1 2 1 for three of them."""
    size = graph.add("Squeeze", [graph.add("Shape", ["image"], start=axis, end=axis + 1)])
    none, one, two, eight = (graph.constant(np.array(value, np.int64)) for value in (0, 1, 2, 8))
    padded = graph.add("Add", [size, graph.add("Mod", [graph.add("Neg", [size]), eight])])
    period = graph.add("Max", [graph.add("Mul", [graph.add("Sub", [size, one]), two]), one])
    place = graph.add("Mod", [graph.add("Range", [none, padded, one]), period])
    return graph.add("Min", [place, graph.add("Sub", [period, place])])


def check_parity(ticket: Ticket, content: bytes) -> float:
    """Run an exported file in ONNX Runtime beside PyTorch, or the native engine without it, on images of odd sizes.

    Returns the largest difference, in proportion to values above 1. Raises MirlError when it passes `TOLERANCE`, when a
    shape is wrong, or when ONNX Runtime cannot run the file.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _FATAL_ONLY
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
            f"the exported network differs from the ticket's by {worst:.1e}, at most {TOLERANCE:.0e} is allowed; nothing was "
            "written"
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
