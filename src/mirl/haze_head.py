"""The haze head of a ticket: the small network that says how much haze a photograph holds, as a value.

Strided 3x3 convolutions over features of a thumbnail, their mean, one output. `mirl.engine.haze` runs it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError

FEATURES = 5  # a thumbnail's pixel: red, green, blue, dark channel, saturation
_KERNEL = 3
_MOST_LAYERS, _MOST_CHANNELS = 6, 64  # thumbnails of 96 pixels are one pixel after seven halvings


@dataclass(frozen=True, eq=False)
class HazeHead:
    """Weights and thresholds of a haze head.

    `widths`: output channels of each convolution, strided by 2. `tensors`, float32, by name: conv1.weight (out, in, 3, 3),
    conv1.bias (out,), ..., output.weight (n,), output.bias (). The logistic output p becomes the amount of haze
    clip((p - low) / (high - low), 0, 1). Raises MirlError, naming what does not fit.
    """

    widths: tuple[int, ...]
    low: float
    high: float
    tensors: dict[str, NDArray[np.float32]]

    def __post_init__(self) -> None:
        shapes = head_shapes(self.widths)
        if not (math.isfinite(self.low) and math.isfinite(self.high) and 0 <= self.low < self.high <= 1):
            raise MirlError(f"haze head: expected 0 <= low < high <= 1, found low {self.low} and high {self.high}")
        if set(self.tensors) != set(shapes):
            odd = min(set(self.tensors) ^ set(shapes))
            raise MirlError(f"haze head: its tensors are not those of widths {self.widths}, such as {odd!r:.80}")
        for name, shape in shapes.items():
            found = self.tensors[name]
            if found.shape != shape or found.dtype != np.float32:
                raise MirlError(f"haze head: {name} is {found.dtype} {found.shape}, expected float32 {shape}")
            if not np.all(np.isfinite(found)):
                raise MirlError(f"haze head: {name} has values that are not finite")

    @property
    def size(self) -> int:
        """How many values it holds; they count among a ticket's parameters."""
        return head_size(self.widths)


def head_shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a head's tensors by name, in the order of the file. Raises MirlError for impossible widths."""
    if not 1 <= len(widths) <= _MOST_LAYERS or not all(type(n) is int and 1 <= n <= _MOST_CHANNELS for n in widths):
        raise MirlError(
            f"haze head: expected 1 to {_MOST_LAYERS} widths of 1 to {_MOST_CHANNELS} channels, found {widths!r:.80}"
        )
    shapes: dict[str, tuple[int, ...]] = {}
    for i, (inputs, outputs) in enumerate(zip((FEATURES, *widths), widths, strict=False), 1):
        shapes[f"conv{i}.weight"] = (outputs, inputs, _KERNEL, _KERNEL)
        shapes[f"conv{i}.bias"] = (outputs,)
    return {**shapes, "output.weight": (widths[-1],), "output.bias": ()}


def head_size(widths: tuple[int, ...]) -> int:
    """Return how many values a head of these widths holds."""
    return sum(math.prod(shape) for shape in head_shapes(widths).values())


def head_facts(head: HazeHead | None) -> dict[str, Any] | None:
    """Return what a file says of a head beside its tensors, as plain JSON; None without a head."""
    return None if head is None else {"widths": list(head.widths), "low": head.low, "high": head.high}


def head_of(facts: Any, read: Callable[[dict[str, tuple[int, ...]]], dict[str, NDArray[np.float32]]]) -> HazeHead | None:
    """Return the head that a file describes: its facts, and `read`, which gives the tensors of these shapes.

    Raises MirlError for facts that `head_facts` does not give, and for what does not fit.
    """
    if facts is None:
        return None
    if not isinstance(facts, dict) or set(facts) != {"widths", "low", "high"}:
        raise MirlError("haze head: expected exactly widths, low and high")
    widths, low, high = facts["widths"], facts["low"], facts["high"]
    if not isinstance(widths, list) or any(type(value) not in (int, float) for value in (low, high)):
        raise MirlError("haze head: expected a list of widths, and numbers as low and high")
    return HazeHead(tuple(widths), float(low), float(high), read(head_shapes(tuple(widths))))
