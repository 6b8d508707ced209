"""Noise as cameras leave it: shot and read noise in linear light, white balance, demosaicking, smoothing, gamma.

The Poisson-Gaussian model of a sensor (Foi et al., TIP 2008): variance = shot * gain * x + (read * gain)^2 for a linear
value x after a channel's white-balance gain. Bilinear interpolation of a Bayer pattern, and what smoothing a camera adds,
correlate neighbours: that is what white Gaussian noise lacks. Array-agnostic, see `mirl.degrade.rounding`; nothing is
rounded here.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mirl.degrade.rounding import Array, round_to_8_bits

GAMMA = 2.2
SHOT, READ, GAIN = (2e-4, 1.2e-2), (3e-4, 1.5e-2), (1.2, 2.4)  # ranges; the first two are drawn evenly in their logarithm
BAYER_SHARE, SMOOTH_SHARE, SMOOTH_SIGMA = 0.7, 0.35, (0.3, 1.2)
_REACH = 3  # taps of the smoothing on either side
_CROSS = ((0.25, 0.5, 0.25), (0.5, 1.0, 0.5), (0.25, 0.5, 0.25))  # red and blue: a quarter of the places are known
_PLUS = ((0.0, 0.25, 0.0), (0.25, 1.0, 0.25), (0.0, 0.25, 0.0))  # green: half of them


def add_sensor_noise(clean: Array, normal: Array, shot: Any, read: Any, gains: Any, bayer: Any, sigma_pixels: Any) -> Array:
    """Return `clean` (..., h, w, 3) in [0, 1] with sensor noise made of `normal` (standard normal, same shape), not rounded.

    The others broadcast over `clean`: `gains` by channel, `bayer` 1 for noise interpolated from a Bayer pattern and 0 for
    noise of each pixel's own, `sigma_pixels` the smoothing's (0: none). Sides must be even and at least 4 pixels.
    """
    linear = clean.clip(0, 1) ** GAMMA
    noise = normal * (shot * gains * linear + (read * gains) ** 2) ** 0.5
    noise = bayer * _interpolated(noise) + (1 - bayer) * noise
    return (linear + smoothed(noise, sigma_pixels)).clip(0, 1) ** (1 / GAMMA)


def add_camera_noise(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) as a camera of random noise would have it, rounded to 8 bits."""
    height, width = clean.shape[:2]
    rows, columns = (list(range(side)) + [side - 1] * (max(4, side + side % 2) - side) for side in (height, width))
    even = clean[rows][:, columns]
    shot, read = (math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (SHOT, READ))
    gains = np.array([rng.uniform(*GAIN), 1.0, rng.uniform(*GAIN)], np.float32)
    bayer = float(rng.random() < BAYER_SHARE)
    sigma = float(rng.uniform(*SMOOTH_SIGMA)) if rng.random() < SMOOTH_SHARE else 0.0
    normal = rng.standard_normal(even.shape, dtype=np.float32)
    noisy = add_sensor_noise(even, normal, shot, read, gains, bayer, sigma)[:height, :width]
    return np.asarray(round_to_8_bits(noisy), np.float32)


def _interpolated(noise: Array) -> Array:
    """Keep of each channel what an RGGB pattern sees, and interpolate it bilinearly."""
    seen = noise * 0
    for channel, row, column in ((0, 0, 0), (1, 0, 1), (1, 1, 0), (2, 1, 1)):
        place = (..., slice(row, None, 2), slice(column, None, 2), channel)
        seen[place] = noise[place]
    padded = _reflected(seen, 1)
    result = noise * 0
    for channel, kernel in enumerate((_CROSS, _PLUS, _CROSS)):
        for y, line in enumerate(kernel):
            for x, weight in enumerate(line):
                if weight:
                    height, width = noise.shape[-3], noise.shape[-2]
                    result[..., channel] += weight * padded[..., y : y + height, x : x + width, channel]
    return result


def smoothed(noise: Array, sigma_pixels: Any) -> Array:
    """Convolve (..., h, w, c) with a Gaussian of 2 * 3 + 1 taps, rows and columns in turn; a sigma of 0 changes nothing."""
    spread = sigma_pixels + 1e-3
    taps = [math.e ** (-(k * k) / (2 * spread * spread)) for k in range(_REACH + 1)]
    total = taps[0] + 2 * sum(taps[1:], taps[0] * 0)
    for axis in (-3, -2):
        side = noise.shape[axis]
        padded = _reflected(noise, _REACH)
        middle = (slice(_REACH, -_REACH),)
        shifted = []
        for k in range(-_REACH, _REACH + 1):
            window = (slice(_REACH + k, _REACH + k + side),)
            place = (..., *window, *middle, slice(None)) if axis == -3 else (..., *middle, *window, slice(None))
            shifted.append(padded[place] * (taps[abs(k)] / total))
        noise = sum(shifted[1:], shifted[0])
    return noise


def _reflected(field: Array, reach: int) -> Array:
    """Continue (..., h, w, c) by reflection without repeating the edge, which keeps a Bayer pattern in step."""

    def places(side: int) -> Sequence[int]:
        period = 2 * (side - 1)
        return [min(k % period, period - k % period) for k in range(-reach, side + reach)]

    return field[..., places(field.shape[-3]), :, :][..., places(field.shape[-2]), :]
