"""Our own kernels for training on a CPU (`native/`): the halves of a transformer block and the 3x3 convolutions.

They compute what `promptir.py` says in PyTorch, forward and backward, strip by strip of the picture, so that what lies
between the layers of a block never leaves the cache. One thread a process: trainings share the cores as processes.
"""

import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from mirl.errors import MirlError
from mirl.recipe import KernelChoice

BFLOAT16 = "amx"
"""The variant that multiplies bfloat16, with sums, and all that is not a matrix product, in float32."""

_local = threading.local()


@dataclass(frozen=True)
class Kernels:
    """Training kernels of one instruction set. Features are float32 (b, h, w, c) on the CPU."""

    variant: str

    def attention(
        self, x: Tensor, norm: Tensor, bias: Tensor, qkv: Tensor, filters: Tensor, temperature: Tensor, project: Tensor
    ) -> Tensor:
        """Return x plus the transposed attention of LayerNorm(x); weights as in `promptir.Attention`."""
        return cast(Tensor, _Half.apply(ATTENTION, self.variant, x, norm, bias, qkv, filters, temperature, project))

    def feed_forward(
        self, x: Tensor, norm: Tensor, bias: Tensor, expand: Tensor, filters: Tensor, project: Tensor
    ) -> Tensor:
        """Return x plus the gated feed-forward of LayerNorm(x); weights as in `promptir.FeedForward`."""
        return cast(Tensor, _Half.apply(FEED_FORWARD, self.variant, x, norm, bias, expand, filters, project))

    def convolution(self, x: Tensor, weight: Tensor) -> Tensor:
        """Convolve (b, h, w, inputs) with 3x3 filters (outputs, inputs, 3, 3) and zero padding."""
        return cast(Tensor, _Convolution.apply(x, weight, self.variant))


def find_kernels(choice: KernelChoice, precision: str, device: torch.device) -> Kernels | None:
    """Return the kernels for a training in "32-true" or "bf16-mixed", None for PyTorch's.

    Raises MirlError for "native" where they are not compiled, the device is no CPU, or the processor does not multiply
    bfloat16 in hardware.
    """
    if choice not in get_args(KernelChoice):
        raise MirlError(f"unknown kernels {choice!r}; expected auto, native or torch")
    if choice == "torch":
        return None
    refusal = ""
    names = variants()
    if device.type != "cpu":
        refusal = f"native kernels run on a CPU, found the device {device.type}"
    elif not names:
        refusal = "the native kernels are not compiled; install a C compiler and then the package again"
    elif precision == "bf16-mixed" and BFLOAT16 not in names:
        refusal = "this processor multiplies no bfloat16 in hardware; use --precision 32-true"
    if not refusal:
        return Kernels(BFLOAT16 if precision == "bf16-mixed" else names[0])
    if choice == "native":
        raise MirlError(f"{refusal}, or --kernels torch")
    return None


def variants() -> list[str]:
    """Return the variants that this processor runs, the fastest of float32 first; none where they are not compiled."""
    try:
        native = _native()
    except ImportError:
        return []
    return cast(str, native.ffi.string(native.lib.mirl_training_variants()).decode()).split(",")


def _native() -> Any:
    return importlib.import_module("mirl.network._training")


class _Job:
    """A job of the C interface: tensors by name, kept alive; `run` finds the scratch memory."""

    def __init__(self, kind: str, variant: str, **sizes: int):
        native = _native()
        self.ffi, self.lib, self.kind, self.variant = native.ffi, native.lib, kind, variant.encode()
        self.job = native.ffi.new(f"mirl_{kind} *", sizes)
        self.held: list[Tensor] = []

    def give(self, **tensors: Tensor) -> "_Job":
        for name, tensor in tensors.items():
            kind = "void *" if tensor.dtype == torch.uint8 else "float *"
            if not tensor.is_contiguous() or tensor.device.type != "cpu" or tensor.dtype not in (torch.float32, torch.uint8):
                raise MirlError(f"{name} is {tensor.dtype}, on {tensor.device}; expected contiguous float32 on the CPU")
            setattr(self.job, name, self.ffi.cast(kind, tensor.data_ptr()))
            self.held.append(tensor)
        return self

    def run(self, direction: str) -> None:
        function = getattr(self.lib, f"mirl_{self.kind}_{direction}")
        size = function(self.job, self.variant, self.ffi.NULL)
        scratch = getattr(_local, "scratch", None)
        if scratch is None or scratch.numel() < size + 64:
            scratch = _local.scratch = torch.empty(size + 64, dtype=torch.uint8)
        start = -scratch.data_ptr() % 64
        function(self.job, self.variant, self.ffi.cast("void *", scratch.data_ptr() + start))

    def kept_bytes(self) -> int:
        return int(self.lib.mirl_attention_kept_bytes(self.job, self.variant))


def _shape(x: Tensor) -> dict[str, int]:
    images, height, width, channels = x.shape
    return {"images": images, "height": height, "width": width, "channels": channels}


def _plain(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().float().contiguous() for tensor in tensors]


@dataclass(frozen=True)
class _Kind:
    """A half of a block: what the C interface calls it and its tensors, the sizes it asks for, whether it keeps features."""

    name: str
    tensors: tuple[str, ...]
    sizes: Callable[[Sequence[Tensor]], dict[str, int]]
    keeps: bool

    def job(self, variant: str, given: Sequence[Tensor]) -> _Job:
        """Begin a job for the tensors of `tensors`, in their order."""
        job = _Job(self.name, variant, **_shape(given[0]), **self.sizes(given))
        return job.give(**dict(zip(self.tensors, given, strict=True)))


ATTENTION = _Kind(
    "attention",
    ("x", "norm_weight", "norm_bias", "qkv", "depthwise", "temperature", "project"),
    lambda given: {"heads": given[5].shape[0]},
    keeps=True,
)
FEED_FORWARD = _Kind(
    "feed_forward",
    ("x", "norm_weight", "norm_bias", "expand", "depthwise", "project"),
    lambda given: {"hidden": given[5].shape[1]},
    keeps=False,
)


class _Half(Function):
    @staticmethod
    def forward(ctx: Any, kind: _Kind, variant: str, *tensors: Tensor) -> Tensor:
        ctx.kind, ctx.variant, given = kind, variant, _plain(*tensors)
        y = torch.empty_like(given[0])
        job = kind.job(variant, given)
        kept = {"kept": torch.empty(job.kept_bytes(), dtype=torch.uint8)} if kind.keeps else {}
        job.give(y=y, **kept).run("forward")
        ctx.save_for_backward(*given, *kept.values())
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        names, saved = ctx.kind.tensors, ctx.saved_tensors
        given, kept = saved[: len(names)], dict(zip(("kept",), saved[len(names) :], strict=False))
        grads = {f"grad_{name}": torch.empty_like(tensor) for name, tensor in zip(names, given, strict=True)}
        job = ctx.kind.job(ctx.variant, given).give(grad_y=grad.float().contiguous(), **kept, **grads)
        job.run("backward")
        return (None, None, *grads.values())


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> Tensor:
        *tensors, ctx.variant = arguments
        given = _plain(*tensors)
        y = given[0].new_empty(*given[0].shape[:3], given[1].shape[0])
        ctx.save_for_backward(*given)
        _Convolution.job(ctx.variant, given).give(y=y).run("forward")
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        job = _Convolution.job(ctx.variant, [x, weight]).give(grad_y=grad.float().contiguous())
        grad_x = torch.empty_like(x) if ctx.needs_input_grad[0] else None
        grad_weight = torch.empty_like(weight)
        if grad_x is not None:
            job.give(grad_x=grad_x)
        job.give(grad_weight=grad_weight).run("backward")
        return grad_x, grad_weight, None

    @staticmethod
    def job(variant: str, given: list[Tensor]) -> _Job:
        x, weight = given
        shape = _shape(x)
        del shape["channels"]
        job = _Job("convolution", variant, **shape, inputs=weight.shape[1], outputs=weight.shape[0])
        return job.give(x=x, weight=weight)
