"""Rain as photographs show it: half-transparent grey streaks of many widths, in front of a grey veil.

A streak is light from the whole sky, smeared over its path: it covers what is behind it (alpha compositing
towards a grey), so it shows on dark grounds and vanishes on bright ones, where an added layer would shine
everywhere. What a photograph shows is a sum of depths: few wide streaks out of focus near the camera, sharp
ones in the middle, and far away fine short ones that melt into a veil.

The raw material are layers of sharp streaks: real ones (grey 8-bit pictures) or those of `mirl.degrade.rain`.
`photo_rain_layer` makes one alpha layer of several of them in numpy, for a bank; `cover` is the formula that
puts it onto pictures, for numpy arrays and torch tensors alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mirl.degrade.rain import streak_layer
from mirl.degrade.rounding import Array, round_to_8_bits
from mirl.degrade.smooth import blur, random_field, resize


@dataclass(frozen=True)
class RainLook:
    """How rain may look; pairs are ranges, shares are probabilities per layer.

    `near_share` and `far_share` say how often streaks out of focus and fine far ones are there beside those of
    the middle; `second_share` how often a second direction is. `scale` enlarges the layers' streaks,
    `stretch` their length alone; `strength` multiplies alpha. `tilt_degrees` is the spread of what is added to a
    layer's own direction, `brightness` the grey of the streaks, `airlight` that of the veil, `veil` its share in
    the picture where there is one (`veil_share`).
    """

    scale: tuple[float, float] = (0.5, 3.0)
    stretch: tuple[float, float] = (0.4, 1.8)
    strength: tuple[float, float] = (0.6, 1.4)
    tilt_degrees: float = 8.0
    near_share: float = 0.3
    far_share: float = 0.6
    second_share: float = 0.2
    veil_share: float = 0.5
    veil: tuple[float, float] = (0.01, 0.12)
    airlight: tuple[float, float] = (0.5, 0.85)
    brightness: tuple[float, float] = (0.55, 1.0)


PHOTOGRAPHED = RainLook()

LARGEST_ALPHA = 0.85
"""Even the brightest streak lets something through."""


@dataclass(frozen=True)
class PhotoRain:
    """One layer of rain: `alpha`, float32 (h, w) in [0, LARGEST_ALPHA], and what `cover` needs beside it."""

    alpha: np.ndarray
    brightness: float
    veil: float
    airlight: float


def cover(clean: Array, alpha: Array, brightness: Any, veil: Any = 0.0, airlight: Any = 0.7) -> Array:
    """Return `clean` behind a veil and streaks, rounded to 8 bits; everything broadcasts over `clean`.

    veiled = clean (1 - veil) + airlight veil; rainy = veiled (1 - alpha) + brightness alpha.
    """
    veiled = clean * (1 - veil) + airlight * veil
    return round_to_8_bits(veiled * (1 - alpha) + brightness * alpha)


def photo_rain_layer(
    layers: Sequence[np.ndarray],
    height: int,
    width: int,
    rng: np.random.Generator,
    look: RainLook = PHOTOGRAPHED,
) -> PhotoRain:
    """Make one layer of rain for a picture of (height, width) from layers of streaks, uint8 (h, w), at least one."""
    layer = _drawn(layers, rng)  # all its depths fall in its direction
    tilt = float(rng.normal(0, look.tilt_degrees))
    # Fine rain is commoner than wide.
    low, high = np.log(look.scale)
    scale = float(np.exp(low + (high - low) * rng.beta(1.2, 1.8)))
    heavy = rng.random()
    parts = [
        _streaks(layer, height, width, scale * rng.uniform(0.8, 1.2), tilt + rng.normal(0, 1.5), rng, look)
        for _ in range(1 + int(3 * heavy))
    ]
    if rng.random() < look.second_share:
        other = tilt + rng.normal(0, 2 * look.tilt_degrees)
        parts.append(_streaks(_drawn(layers, rng), height, width, scale, other, rng, look) * rng.uniform(0.3, 0.9))
    if rng.random() < look.near_share:
        wide = _streaks(layer, height, width, min(2.5 * scale, 1.3 * look.scale[1]), tilt, rng, look)
        parts.append(blur(wide, rng.uniform(1.0, 4.0), rng.uniform(0.8, 2.5)) * rng.uniform(0.5, 1.3))
    if rng.random() < look.far_share:
        far = random_field(height, width, 3, rng) * rng.uniform(0.3, 1.0) + rng.uniform(0, 0.5)
        for _ in range(1 + int(2 * heavy)):
            fine = _streaks(layer, height, width, max(0.5 * scale, 0.4), tilt + rng.normal(0, 3), rng, look)
            parts.append(fine * far)
    strength = rng.uniform(*look.strength)
    clear = np.ones((height, width), np.float32)
    for part in parts:
        clear *= 1 - (part * strength).clip(0, LARGEST_ALPHA)
    alpha = (1 - clear).clip(0, LARGEST_ALPHA).astype(np.float32)
    airlight = rng.uniform(*look.airlight)
    veil = rng.uniform(*look.veil) if rng.random() < look.veil_share else 0.0
    return PhotoRain(alpha, float(rng.uniform(*look.brightness)), float(veil), float(airlight))


def add_photo_rain(
    clean: np.ndarray,
    rng: np.random.Generator,
    look: RainLook = PHOTOGRAPHED,
    layers: Sequence[np.ndarray] = (),
) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) in rain made of `layers`, or of two that the generator draws."""
    height, width = clean.shape[:2]
    if not layers:
        side = max(192, min(512, max(height, width)))
        layers = [np.rint(streak_layer(side, side, rng) * 255).astype(np.uint8) for _ in range(2)]
    rain = photo_rain_layer(layers, height, width, rng, look)
    return cover(clean, rain.alpha[..., None], rain.brightness, rain.veil, rain.airlight)


def _drawn(layers: Sequence[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """Draw one of the layers, as it is or mirrored."""
    layer = layers[int(rng.integers(len(layers)))]
    return layer[:, ::-1] if rng.random() < 0.5 else layer


def _streaks(
    layer: np.ndarray,
    height: int,
    width: int,
    scale: float,
    tilt: float,
    rng: np.random.Generator,
    look: RainLook,
) -> np.ndarray:
    """Cut alpha, float32 (height, width) in [0, 1], from a layer: turned, enlarged, thinned, blurred."""
    across = scale * rng.uniform(0.6, 1.2)
    down = max(0.3, scale * float(np.exp(rng.uniform(*np.log(look.stretch)))))
    # What is cut is larger than needed, so that turning it shows no corner.
    need_y, need_x = int(np.ceil(1.3 * height / down)) + 4, int(np.ceil(1.3 * width / across)) + 4
    cut = _cut(layer, need_y, need_x, rng).astype(np.float32) / 255
    if rng.random() < 0.5:  # fewer streaks: the faint ones go, in some places more of them
        limit = rng.uniform(0.0, 0.25) * cut.max()
        cut = (cut - limit * (0.5 + random_field(need_y, need_x, 3, rng))).clip(0, None)
    size_y, size_x = max(height, round(need_y * down)), max(width, round(need_x * across))
    large = resize(cut, size_y, size_x)
    turned = Image.fromarray(large).rotate(tilt, Image.Resampling.BILINEAR)
    top, left = (size_y - height) // 2, (size_x - width) // 2
    part = np.asarray(turned)[top : top + height, left : left + width].clip(0, 1)
    # Motion smears a sharp streak along its path, focus to all sides.
    if rng.random() < 0.6:
        part = blur(part, rng.uniform(0.4, 3.0), rng.uniform(0.3, 1.2))
    peak = max(float(np.quantile(part[::2, ::2], 0.998)), 1e-3)
    return (part * (rng.uniform(0.15, 0.75) / peak)).clip(0, 1)


def _cut(layer: np.ndarray, height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Cut (height, width) from a random place, the layer repeated where it is too small."""
    repeats = -(-height // layer.shape[0]), -(-width // layer.shape[1])
    if max(repeats) > 1:
        layer = np.tile(layer, repeats)
    top, left = rng.integers(layer.shape[0] - height + 1), rng.integers(layer.shape[1] - width + 1)
    return layer[top : top + height, left : left + width]
