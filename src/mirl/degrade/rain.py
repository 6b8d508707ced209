"""Rain streaks as in Rain100L (Yang et al., CVPR 2017): rainy = clip(clean + S), S >= 0, equal in R, G, B.

S is a sum of streaks with one direction per image: a Gaussian across, a raised cosine along, each streak with
its own length, width and brightness. The defaults follow what was measured on Rain100L's published pairs (in
255ths: mean of S 5.7 (1.5..14), S > 8 on 17.6 % of the pixels (6.7..36), 99.9th percentile 107 (55..179),
input PSNR 25.5 dB (18.6..33.5)); what this module reaches is in tests/test_degrade_rain.py.
"""

from dataclasses import dataclass

import numpy as np

from mirl.degrade.rounding import Array, round_to_8_bits

_AREA_FACTOR = 2.05
"""Pixels above 8/255 per streak, over length times width, fitted to the measured statistics."""

_BRIGHTNESS_FLOOR = 0.15
"""Least relative brightness of a streak, which a gamma-distributed part of mean 1 is added to."""

_BRIGHTEST = 230 / 255

_CHUNK = 2048
"""Streaks rendered at once: bounds the memory on large photos."""

_FAINTEST, _WIDEST = 1e-3, 5
"""Least value of a pixel of a streak, relative to the mean brightness, and most columns beside its centre line."""


@dataclass(frozen=True)
class RainStrength:
    """How much rain: medians over images of coverage and peak, and their spreads (sigma of the log).

    `coverage` is the share of pixels with S > 8/255, `peak_255` the 99.9th percentile of S; streak lengths
    are drawn from `length_pixels`, the Gaussian's standard deviation across from `width_pixels`; angles are
    from the vertical.
    """

    coverage: float = 0.165
    coverage_spread: float = 0.36
    peak_255: float = 111.0
    peak_spread: float = 0.28
    tilt_degrees: float = 16.0
    largest_tilt_degrees: float = 35.0
    length_pixels: tuple[float, float] = (15.0, 60.0)
    width_pixels: tuple[float, float] = (0.5, 1.15)


RAIN100L = RainStrength()


def add_layer(clean: Array, layer: Array) -> Array:
    """Add a streak `layer` in [0, 1] that broadcasts over the channels of `clean`, and round to 8 bits."""
    return round_to_8_bits(clean + layer)


def add_rain(clean: np.ndarray, rng: np.random.Generator, strength: RainStrength = RAIN100L) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) behind one random layer of streaks."""
    height, width = clean.shape[:2]
    return add_layer(clean, streak_layer(height, width, rng, strength)[..., None])


def streak_layer(height: int, width: int, rng: np.random.Generator, strength: RainStrength = RAIN100L) -> np.ndarray:
    """Draw one layer S of streaks: float32, (height, width), multiples of 1/255 up to 230/255."""
    longest = strength.length_pixels[1]
    # Small images are cut from a canvas large enough for its statistics to mean something.
    canvas_height, canvas_width = max(height, 192), max(width, 192)
    # Heavy rain is heavy in both: the two deviations are correlated.
    common, own = rng.standard_normal(2).clip(-2, 2)
    coverage = min(strength.coverage * np.exp(strength.coverage_spread * common), 0.6)
    peak = min(strength.peak_255 * np.exp(strength.peak_spread * (0.5 * common + 0.866 * own)), 220.0) / 255
    limit = strength.largest_tilt_degrees
    tilt = np.clip(rng.normal(0.0, strength.tilt_degrees), -limit, limit)
    typical_length = rng.uniform(*strength.length_pixels)
    typical_width = rng.uniform(*strength.width_pixels)

    # Streaks overlap at random, so coverage = 1 - exp(-count * area / canvas).
    typical_area = _AREA_FACTOR * typical_length * typical_width
    margin = longest
    area = (canvas_height + 2 * margin) * (canvas_width + 2 * margin)
    count = max(1, round(-np.log1p(-coverage) * area / typical_area))
    layer = np.zeros(canvas_height * canvas_width)
    for start in range(0, count, _CHUNK):
        n = min(_CHUNK, count - start)
        layer += _render(
            canvas_height,
            canvas_width,
            centre_y=rng.uniform(-margin, canvas_height + margin, n),
            centre_x=rng.uniform(-margin, canvas_width + margin, n),
            length=np.clip(typical_length * np.exp(rng.normal(0.0, 0.3, n)), 8.0, longest),
            width=np.clip(typical_width * np.exp(rng.normal(0.0, 0.2, n)), 0.4, 1.6),
            slope=np.tan(np.radians(tilt + rng.normal(0.0, 1.5, n))),
            brightness=_BRIGHTNESS_FLOOR + rng.gamma(2.0, 0.5, n),
        )
    layer *= peak / max(np.percentile(layer, 99.9), 1e-3)
    top, left = (canvas_height - height) // 2, (canvas_width - width) // 2
    cut = layer.reshape(canvas_height, canvas_width)[top : top + height, left : left + width]
    return np.ascontiguousarray(round_to_8_bits(cut.clip(0, _BRIGHTEST)), dtype=np.float32)


def _render(
    canvas_height: int,
    canvas_width: int,
    *,
    centre_y: np.ndarray,
    centre_x: np.ndarray,
    length: np.ndarray,
    width: np.ndarray,
    slope: np.ndarray,
    brightness: np.ndarray,
) -> np.ndarray:
    """Sum anti-aliased streaks, row by row: in each row a streak is a few pixels around its centre line.

    Rows and columns in which nothing exceeds `_FAINTEST` are left out early: most of the work would be on them.
    """
    cosine = 1 / np.sqrt(1 + slope**2)
    rows = np.arange(-int(length.max() / 2) - 1, int(length.max() / 2) + 2)
    y = np.floor(centre_y)[:, None] + rows
    along = (y - centre_y[:, None]) / (length * cosine / 2)[:, None]
    streak, row = np.nonzero((np.abs(along) < 1) & (y >= 0) & (y < canvas_height))
    y, along = y[streak, row], along[streak, row]
    bright = (0.5 + 0.5 * np.cos(np.pi * along)) ** 0.7 * brightness[streak]
    seen = bright > _FAINTEST
    streak, y, bright = streak[seen], y[seen], bright[seen]
    line = centre_x[streak] + slope[streak] * (y - centre_y[streak])
    sharpness = (cosine / width)[streak]
    reach = np.sqrt(2 * np.log(max(bright.max(initial=0) / _FAINTEST, 1))) / sharpness.min(initial=np.inf)
    most = min(_WIDEST, int(reach) + 1)
    x = np.floor(line)[:, None] + np.arange(-most, most + 1)
    across = (x - line[:, None]) * sharpness[:, None]
    value = np.exp(-0.5 * across**2) * bright[:, None]
    inside = (x >= 0) & (x < canvas_width) & (value > _FAINTEST)
    place = (y[:, None] * canvas_width + x)[inside].astype(np.int64)
    return np.bincount(place, weights=value[inside], minlength=canvas_height * canvas_width)
