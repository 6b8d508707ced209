"""Rounding to what an 8-bit file can hold, and the array type of the formula cores.

The cores of this room (`noise.add_noise`, `rain.add_layer`, `haze.scatter`, ...) use only operators and
methods that numpy arrays and torch tensors share, so a training stream runs the very same formulas on a GPU;
this room never imports torch.
"""

from typing import Any, TypeAlias

Array: TypeAlias = Any
"""A numpy array or a torch tensor; a function returns the kind it is given."""


def round_to_8_bits(image: Array) -> Array:
    """Clip to [0, 1] and round (not floor) to the nearest multiple of 1/255."""
    return (image.clip(0, 1) * 255).round() / 255
