"""Examples for the haze head: thumbnails of photographs in haze and of all that only looks like it.

Each starts from a crop of a clean photograph. A *scene* may put pale or dark ground, a grey sky or snow into it, a *tone*
change its contrast and brightness; then haze (or none), and what a camera and a platform add: rain, noise, JPEG coding.
Scenes and what the camera adds are the same for both answers, so that neither tells the answer. Tones that are haze by
another name (a flat white veil) do not occur without haze.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from mirl.degrade import haze
from mirl.degrade.rain import streak_layer
from mirl.degrade.web import code_jpeg
from mirl.engine.haze import SIDE
from mirl.lottery.haze_graphics import draw_graphic

Pixels = np.ndarray  # float32 (h, w, 3) in [0, 1]
Change = Callable[[Pixels, np.random.Generator], Pixels]

SHAPES = ((SIDE, SIDE), (72, SIDE), (64, SIDE), (54, SIDE), (SIDE, 72), (SIDE, 64))
"""Height and width of the thumbnails: 1:1, 4:3, 3:2, 16:9, 3:4, 2:3."""

LIGHT = replace(haze.OUTDOOR, airlight=(0.75, 1.0), beta=(0.06, 0.35), continuous=True)
FOG = replace(
    haze.OUTDOOR,
    airlight=(0.6, 1.0),
    beta=(0.12, 0.45),
    continuous=True,
    spread=(0.8, 1.8),
    depth_range=(0.3, 8.0),
)
STRENGTHS = ((LIGHT, 0.6), (FOG, 0.3), (haze.INDOOR, 0.1))

LEAST_VEIL = 0.15
"""Share of the airlight in a hazy example, at least about: less cannot be told from a faded print."""

TINT, STRONG_TINT, STRONG_TINT_SHARE = 0.015, 0.06, 0.25
GREY_SHARE, RAIN_SHARE, NOISE_SHARE, JPEG_SHARE = 0.08, 0.12, 0.3, 0.4
GRAPHIC_SHARE = 0.12
RAIN_LAYERS = 32
LARGEST = 4  # a picture is degraded at one to so many times its thumbnail's size


@dataclass(frozen=True)
class Example:
    """A thumbnail, uint8 (h, w, 3), whether haze is in it, and the names of its scene and tone."""

    small: np.ndarray
    hazy: bool
    kind: str


@dataclass(frozen=True)
class Source:
    """A clean photograph, uint8 (h, w, 3), and its relative depth, float32 of any size (None: one is invented)."""

    pixels: np.ndarray
    depth: np.ndarray | None


class Maker:
    """Makes examples; holds a bank of rain layers."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed % 2**63, 7])
        side = SIDE * LARGEST
        self._rain = [streak_layer(side, side, rng) for _ in range(RAIN_LAYERS)]

    def example(self, source: Source, shape: tuple[int, int], hazy: bool, rng: np.random.Generator) -> Example:
        """Make an example of `shape` (height, width) from `source`, with haze or without."""
        factor = int(rng.integers(1, LARGEST + 1))
        height, width = (side * factor for side in shape)
        if not hazy and rng.random() < GRAPHIC_SHARE:
            pixels, kind = draw_graphic(height, width, rng), "graphic"
        else:
            pixels, depth = _crop(source, height, width, rng)
            scene, tone = _drawn(SCENES, rng), _drawn(TONES_IN_HAZE if hazy else TONES, rng)
            pixels = TONE[tone](SCENE[scene](pixels, rng), rng)
            kind = kind_of(scene, tone)
            if hazy:
                pixels = _haze(pixels, depth, rng)
        rows = self._capture(pixels, rng).reshape(shape[0], factor, width * 3).mean(axis=1)
        small = rows.reshape(*shape, factor, 3).mean(axis=2)
        return Example(np.rint(small * 255).astype(np.uint8), hazy, kind)

    def _capture(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Add what lies between a scene and a file: rain, exposure, no colour, noise, coding."""
        if rng.random() < RAIN_SHARE:
            layer = self._rain[rng.integers(len(self._rain))]
            top, left = (rng.integers(a - b + 1) for a, b in zip(layer.shape, pixels.shape, strict=False))
            cut = layer[top : top + pixels.shape[0], left : left + pixels.shape[1]]
            pixels = pixels + cut[..., None] * rng.uniform(0.5, 1.5)
        if rng.random() < 0.4:
            pixels = np.clip(pixels * rng.uniform(0.85, 1.1), 0, 1) ** rng.uniform(0.8, 1.3)
        if rng.random() < GREY_SHARE:
            pixels = np.broadcast_to(_luma(pixels), pixels.shape)
        if rng.random() < NOISE_SHARE:
            pixels = _noise(pixels, rng)
        pixels = np.clip(pixels, 0, 1)
        if rng.random() < JPEG_SHARE:
            picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
            pixels = np.asarray(code_jpeg(picture, int(rng.integers(20, 96))), np.float32) / 255
        return pixels.astype(np.float32)


def _crop(source: Source, height: int, width: int, rng: np.random.Generator) -> tuple[Pixels, np.ndarray]:
    """Cut a part of the photograph and of its depth, perhaps mirrored, and bring it to (height, width)."""
    rows, columns = source.pixels.shape[:2]
    zoom = 1.0 if rng.random() < 0.4 else rng.uniform(0.35, 1.0)
    scale = min(rows / height, columns / width) * zoom
    tall, wide = height * scale, width * scale
    top, left = max(rows - tall, 0.0) * rng.random(), max(columns - wide, 0.0) * rng.random()
    box = (left, top, min(left + wide, columns), min(top + tall, rows))
    cut = Image.fromarray(source.pixels).resize(
        (width, height), Image.Resampling.BOX if scale > 1 else Image.Resampling.BILINEAR, box
    )
    pixels = np.asarray(cut, np.float32) / 255
    if source.depth is None:
        depth = haze.smooth_depth(pixels, rng)
    else:
        by_row, by_column = source.depth.shape[0] / rows, source.depth.shape[1] / columns
        depth_box = (left * by_column, top * by_row, (left + wide) * by_column, (top + tall) * by_row)
        part = Image.fromarray(source.depth).resize((width, height), Image.Resampling.BILINEAR, depth_box)
        depth = haze.relative_depth(np.asarray(part))
    depth = haze.resize_depth(depth, height, width)
    return (pixels[:, ::-1], depth[:, ::-1]) if rng.random() < 0.5 else (pixels, depth)


def _haze(pixels: Pixels, depth: np.ndarray, rng: np.random.Generator) -> Pixels:
    """Put haze, mist or fog into a picture; the airlight is slightly tinted, now and then visibly."""
    strength = STRENGTHS[rng.choice(len(STRENGTHS), p=[share for _, share in STRENGTHS])][0]
    scaled = haze.scale_depth(depth, rng.uniform(*strength.median), rng.uniform(*strength.spread), strength.depth_range)
    tint = STRONG_TINT if rng.random() < STRONG_TINT_SHARE else TINT
    airlight = np.clip(rng.uniform(*strength.airlight) * (1 + rng.normal(0, tint, 3)), 0, 1).astype(np.float32)
    beta = rng.uniform(*strength.beta)
    beta *= max(1.0, -np.log(1 - LEAST_VEIL) / (beta * float(scaled.mean())))  # what nobody sees is no haze
    through = haze.transmission(scaled, beta)[..., None].astype(np.float32)
    return haze.scatter(pixels, through, airlight)


def _photo(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels


def _grey_sky(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Close the sky above a wavy horizon with cloud."""
    height, width = pixels.shape[:2]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    horizon = rng.uniform(0.15, 0.7) + 0.15 * _field(height, width, rng, 4)[:1]
    mask = np.clip((horizon - y) * height / rng.uniform(1, 12) + 0.5, 0, 1)[..., None]
    cloud = _pale(rng, 0.55, 1.0, 0.08) + _field(height, width, rng, 5)[..., None] * rng.uniform(0, 0.12)
    return _mix(pixels, np.clip(cloud, 0, 1), mask)


def _pale_ground(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Leave parts of the photograph before a wall, a sheet, a table: pale, shaded, hardly any texture."""
    return _on_ground(pixels, _pale(rng, 0.6, 1.0, 0.3), rng)


def _dark_ground(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _on_ground(pixels, _pale(rng, 0.0, 0.2, 0.8), rng)


def _snow(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make all but the dark parts white, with a little blue: snow, sand in the sun, foam, white rooms."""
    luma = _luma(pixels)
    bright = np.clip(luma / max(float(np.quantile(luma, rng.uniform(0.2, 0.6))), 0.05), 0, 1)
    white = _pale(rng, 0.8, 1.0, 0.12) * (bright * (1 - (x := rng.uniform(0, 0.3))) + x * luma)
    return _mix(pixels, white, np.clip(bright * rng.uniform(0.7, 1.0), 0, 1))


def _on_ground(pixels: Pixels, colour: np.ndarray, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    shade = 1 + _field(height, width, rng, 3)[..., None] * rng.uniform(0, 0.15)
    texture = _field(height, width, rng, max(height, width) // 3)[..., None] * rng.uniform(0, 0.04)
    field = _field(height, width, rng, int(rng.integers(3, 8)))
    keep = np.clip((field - np.quantile(field, rng.uniform(0.4, 0.95))) * rng.uniform(3, 40), 0, 1)[..., None]
    return _mix(np.clip(colour * shade + texture, 0, 1), pixels, keep)


def _contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lower the contrast around the mean or a middle grey; never towards white, which is haze."""
    middle = min(float(pixels.mean()) if rng.random() < 0.5 else rng.uniform(0.1, 0.55), 0.55)
    return middle + (pixels - middle) * rng.uniform(0.3, 0.95)


def _gamma(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels ** np.exp(rng.uniform(-0.7, 1.0)).astype(np.float32)


def _night(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Darken and tint; here and there a lamp with its glow."""
    height, width = pixels.shape[:2]
    dark = pixels ** rng.uniform(1.2, 3.0) * rng.uniform(0.2, 0.8) * _pale(rng, 0.9, 1.0, 0.5)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    for _ in range(rng.integers(0, 6)):
        far = (y - rng.random()) ** 2 + (x - rng.random()) ** 2
        glow = np.exp(-far / (2 * rng.uniform(0.005, 0.08) ** 2))
        dark = dark + glow[..., None] * _pale(rng, 0.5, 1.2, 0.6)
    return np.clip(dark, 0, 1)


def _faded(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lift the blacks to a colour and lower the whites, as old prints and filters do."""
    black, white = _pale(rng, 0.05, 0.25, 0.6), _pale(rng, 0.75, 0.95, 0.15)
    return black + pixels * (white - black)


def _overexposed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.clip(pixels * rng.uniform(1.2, 2.5), 0, 1)


def _two_colours(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Map brightness to a ramp between two tinted colours: wood, sand, stone, cloth, dusk."""
    one, other = _pale(rng, 0.3, 1.0, 0.6), _pale(rng, 0.3, 1.0, 0.6)
    one = one * (1 - rng.uniform(0.08, 0.4) * rng.permutation(np.array([0.0, 0.5, 1.0], np.float32)))
    return one + _luma(pixels) * (other - one) * rng.uniform(0.2, 1.0)


SCENE: dict[str, Change] = {
    "photo": _photo,
    "grey sky": _grey_sky,
    "pale ground": _pale_ground,
    "dark ground": _dark_ground,
    "snow": _snow,
}
SCENES = {"photo": 0.6, "grey sky": 0.1, "pale ground": 0.15, "dark ground": 0.07, "snow": 0.08}

TONE: dict[str, Change] = {
    "as it is": _photo,
    "contrast": _contrast,
    "gamma": _gamma,
    "night": _night,
    "faded": _faded,
    "overexposed": _overexposed,
    "two colours": _two_colours,
}
TONES = {
    "as it is": 0.35,
    "contrast": 0.2,
    "gamma": 0.14,
    "night": 0.1,
    "faded": 0.08,
    "overexposed": 0.06,
    "two colours": 0.07,
}
TONES_IN_HAZE = {"as it is": 0.6, "contrast": 0.1, "gamma": 0.2, "night": 0.05, "overexposed": 0.05}


def kind_of(scene: str, tone: str) -> str:
    """Return the name of an example's kind."""
    return f"{scene}, {tone}"


UNTREATED = kind_of("photo", "as it is")


def _drawn(shares: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def _noise(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Add noise of a sigma between 2 and 50 of 255: white or blotched, of one channel or three, like shot noise or not."""
    height, width = pixels.shape[:2]
    coarse = 2 if rng.random() < 0.3 else 1
    channels = 1 if rng.random() < 0.2 else 3
    normal = rng.standard_normal((-(-height // coarse), -(-width // coarse), channels), dtype=np.float32)
    normal = normal.repeat(coarse, 0).repeat(coarse, 1)[:height, :width]
    sigma = np.exp(rng.uniform(np.log(2), np.log(50))) / 255
    spread = np.sqrt(np.clip(pixels, 0, 1) + 0.05) if rng.random() < 0.4 else 1.0
    return pixels + normal * spread * np.float32(sigma)


def _field(height: int, width: int, rng: np.random.Generator, cells: int) -> np.ndarray:
    """Return a smooth random field of unit variance or less, float32 (height, width), with about `cells` bumps a side."""
    coarse = Image.fromarray(rng.standard_normal((cells, cells), dtype=np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def _pale(rng: np.random.Generator, low: float, high: float, saturation: float) -> np.ndarray:
    """Draw a colour, float32 (3,): its largest channel in [low, high], its saturation up to `saturation`."""
    channels = 1 - rng.uniform(0, saturation) * rng.permutation([0.0, rng.random(), 1.0])
    return (rng.uniform(low, high) * channels).astype(np.float32)


def _luma(pixels: Pixels) -> np.ndarray:
    return pixels.mean(axis=2, keepdims=True)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share
