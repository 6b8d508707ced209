"""Additive white Gaussian noise: y = x + sigma n, n ~ N(0, 1) per pixel and channel, rounded to 8 bits.

The task of DnCNN (Zhang et al., TIP 2017) and of every all-in-one paper since, with sigma 15, 25 and 50 of
255. Those codes floor to 8 bits, which darkens the image by half a level; this one rounds. Beside it, what
pictures have more often: noise of any strength, the same in all channels, or correlated between neighbours.
"""

import numpy as np
from PIL import Image

from mirl.degrade.rounding import Array, round_to_8_bits
from mirl.degrade.smooth import blur, resize

ANY_SIGMA_255 = (2.0, 55.0)
EQUAL_SHARE = 0.2
"""Of pictures with noise of any strength, those that have the same noise in all channels."""


def add_noise(image: Array, standard_normal: Array, sigma_255: float) -> Array:
    """Add `sigma_255`/255 times `standard_normal` (shape of `image`) and round to 8 bits."""
    return round_to_8_bits(image + standard_normal * (sigma_255 / 255))


def add_gaussian_noise(clean: np.ndarray, rng: np.random.Generator, sigma_255: float = 25.0) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) with noise of standard deviation `sigma_255` of 255."""
    return add_noise(clean, rng.standard_normal(clean.shape, dtype=np.float32), sigma_255)


def add_any_noise(
    clean: np.ndarray,
    rng: np.random.Generator,
    sigma_255: tuple[float, float] = ANY_SIGMA_255,
    equal_share: float = EQUAL_SHARE,
) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) with white noise of any sigma of the range, sometimes equal in R, G, B."""
    sigma = rng.uniform(*sigma_255)
    channels = 1 if rng.random() < equal_share else 3
    return add_noise(clean, rng.standard_normal((*clean.shape[:2], channels), dtype=np.float32), sigma)


def add_correlated_noise(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) with noise whose neighbours resemble each other, of sigma 2 to 40.

    As from pictures that were shrunk, enlarged or smoothed after the noise came in: smoothed by a Gaussian of 0.4 to
    1.5 pixels, or enlarged 1.2 to 2.5 times. A third has coarser colour than brightness, as after 4:2:0 coding.
    """
    height, width = clean.shape[:2]
    if rng.random() < 0.5:
        field = blur(rng.standard_normal(clean.shape, dtype=np.float32), rng.uniform(0.4, 1.5))
    else:
        factor = rng.uniform(1.2, 2.5)
        small = int(np.ceil(height / factor)) + 1, int(np.ceil(width / factor)) + 1
        noise = rng.standard_normal((*small, 3), dtype=np.float32)
        field = resize(noise, round(small[0] * factor) + 1, round(small[1] * factor) + 1, Image.Resampling.BICUBIC)
        field = field[:height, :width]
    if rng.random() < 1 / 3:
        grey = field.mean(2, keepdims=True)
        field = grey + blur(field - grey, 1.5)
    field = field / (field.std() + np.float32(1e-6)) if field.size > 3 else field * 0
    sigma = float(np.exp(rng.uniform(np.log(2), np.log(40))))
    return add_noise(clean, field, sigma)
