"""Additive white Gaussian noise: y = x + sigma n, n ~ N(0, 1) per pixel and channel, rounded to 8 bits.

The task of DnCNN (Zhang et al., TIP 2017) and of every all-in-one paper since, with sigma 15, 25 and 50 of
255. Those codes floor to 8 bits, which darkens the image by half a level; this one rounds.
"""

import numpy as np

from mirl.degrade.rounding import Array, round_to_8_bits


def add_noise(image: Array, standard_normal: Array, sigma_255: float) -> Array:
    """Add `sigma_255`/255 times `standard_normal` (shape of `image`) and round to 8 bits."""
    return round_to_8_bits(image + standard_normal * (sigma_255 / 255))


def add_gaussian_noise(clean: np.ndarray, rng: np.random.Generator, sigma_255: float = 25.0) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) with noise of standard deviation `sigma_255` of 255."""
    return add_noise(clean, rng.standard_normal(clean.shape, dtype=np.float32), sigma_255)
