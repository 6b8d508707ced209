"""The runtimes that `mirl bench` compares: how each loads a ticket, and what it needs.

All compute in float32 with the same number of threads. ONNX Runtime and OpenVINO get a model of the image's own size,
padded to multiples of 8, which is what runs fastest there.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from importlib import import_module, metadata, util
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mirl.engine.engine import BACKENDS, open_backend
from mirl.ticket import Ticket

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Opened:
    """A runtime that has loaded a ticket; `facts` is what it says about its work (the native engine's counts)."""

    forward: Callable[[Pixels], Pixels]
    facts: dict[str, Any] | None = None


@dataclass(frozen=True)
class Runtime:
    """How to open a runtime for (ticket, threads, height, width), the packages it needs and how to get them."""

    open: Callable[[Ticket, int, int, int], Opened]
    packages: tuple[str, ...]
    install: str

    @property
    def version(self) -> str:
        """Version of the package that does the work."""
        return metadata.version(self.packages[-1])


def _open_native(ticket: Ticket, threads: int, height: int, width: int) -> Opened:
    backend = open_backend(ticket, "native", threads)
    facts = getattr(backend, "facts", None)
    return Opened(backend.forward, asdict(facts) if is_dataclass(facts) and not isinstance(facts, type) else None)


def _open_torch(ticket: Ticket, threads: int, height: int, width: int) -> Opened:
    return Opened(open_backend(ticket, "torch", threads).forward)


def _open_onnxruntime(ticket: Ticket, threads: int, height: int, width: int) -> Opened:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.enable_mem_pattern = False  # it nearly doubles the peak and gains no time
    model = _model_of(ticket, height, width, "onnxruntime")
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return Opened(_channels_first(lambda image: session.run(None, {"image": image})[0]))


def _open_openvino(ticket: Ticket, threads: int, height: int, width: int) -> Opened:
    import openvino

    core = openvino.Core()
    model = core.read_model(_model_of(ticket, height, width, "openvino").SerializeToString())
    options = {
        "ENABLE_CPU_PINNING": False,  # on a shared machine a pinned thread waits for whoever else has its processor
        "INFERENCE_PRECISION_HINT": "f32",  # it would take bfloat16 where the processor has it
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = core.compile_model(model, "CPU", options).create_infer_request()
    return Opened(_channels_first(lambda image: request.infer({"image": image})[0]))


RUNTIMES = {
    "native": Runtime(_open_native, ("mirl",), "install mirl where there is a C compiler"),
    "torch": Runtime(_open_torch, ("torch",), "pip install 'mirl[train]'"),
    "onnxruntime": Runtime(_open_onnxruntime, ("onnx", "onnxruntime"), "pip install onnx onnxruntime"),
    "openvino": Runtime(_open_openvino, ("onnx", "openvino"), "pip install onnx openvino"),
}


def lacks(name: str) -> str | None:
    """Say what the runtime `name` needs and does not find here, and how to get it; None when it can run."""
    runtime = RUNTIMES[name]
    missing = [package for package in runtime.packages if util.find_spec(package) is None]
    if name == "native":
        try:
            import_module(BACKENDS["native"].module)
        except (KeyError, ImportError):
            missing = ["its compiled library"]
    return f"{name} needs {' and '.join(missing)}, not installed; {runtime.install}" if missing else None


def _model_of(ticket: Ticket, height: int, width: int, runtime: Literal["onnxruntime", "openvino"]) -> Any:
    """Return the ONNX model for `runtime` of a ticket, for images of one size, rounded up to multiples of 8."""
    from mirl.engine.onnx_graph import onnx_model

    model = onnx_model(ticket, runtime=runtime)
    axes = model.graph.input[0].type.tensor_type.shape.dim
    for axis, size in zip(axes, (1, 3, height + -height % 8, width + -width % 8), strict=True):
        axis.dim_value = size
    return model


def _channels_first(run: Callable[[Pixels], Pixels]) -> Callable[[Pixels], Pixels]:
    """Wrap a model of (1, 3, h, w), h and w multiples of 8, as a function of (h, w, 3) of any size."""

    def forward(pixels: Pixels) -> Pixels:
        height, width = pixels.shape[:2]
        padded = np.pad(pixels, ((0, -height % 8), (0, -width % 8), (0, 0)), mode="reflect")
        restored = run(np.ascontiguousarray(padded.transpose(2, 0, 1)[None]))
        return np.ascontiguousarray(restored[0].transpose(1, 2, 0)[:height, :width])

    return forward
