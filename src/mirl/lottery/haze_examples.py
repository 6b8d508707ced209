"""Examples for the haze head: thumbnails of photographs in haze and of all that only looks like it.

Each starts from a crop of a clean photograph, staged by `mirl.lottery.haze_scenes`; then haze (or none), and what a camera
and a platform add: rain, noise, JPEG coding. Scenes are the same for both answers, so that none tells the answer.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from mirl.degrade import haze
from mirl.degrade.rain import streak_layer
from mirl.degrade.web import code_jpeg
from mirl.engine.haze import SIDE
from mirl.lottery.haze_graphics import draw_graphic
from mirl.lottery.haze_scenes import Pixels, lit, luma, stage
from mirl.lottery.haze_surfaces import colour

SHAPES = ((SIDE, SIDE), (72, SIDE), (64, SIDE), (54, SIDE), (SIDE, 72), (SIDE, 64))
"""Height and width of the thumbnails: 1:1, 4:3, 3:2, 16:9, 3:4, 2:3."""

LIGHT = replace(haze.OUTDOOR, airlight=(0.75, 1.0), beta=(0.06, 0.35), continuous=True)
FOG = replace(LIGHT, airlight=(0.6, 1.0), beta=(0.12, 0.45), spread=(0.8, 1.8), depth_range=(0.3, 8.0))
DISTANT = replace(FOG, median=(0.6, 2.0), spread=(0.5, 1.1), depth_range=(0.1, 12.0))
"""Clear in front, hazy behind: its depths are spread by factors, so that few are far."""
STRENGTHS = ((LIGHT, 0.45), (FOG, 0.25), (DISTANT, 0.2), (haze.INDOOR, 0.1))

LEAST_VEIL = 0.22
"""Share of the airlight in a hazy example, at least about: less cannot be told from a faded print, and takes little away."""

TINT, WARMTH, WARMTH_SHARE = 0.015, 0.08, 0.2
"""Spread of the airlight's tint, and in a share of the examples its warmth: dust and smog are yellow, distance blue."""
LEVELS_SHARE, GREY_SHARE, NOISE_SHARE, JPEG_SHARE = 0.4, 0.08, 0.3, 0.4
RAIN_SHARE, RAIN_SHARE_IN_HAZE, RAIN_VEIL = 0.18, 0.08, 0.25
"""The veil is that of rain itself, up to this share of grey: streaks tell it from haze."""
UNTREATED = "photo, as it is"
GRAPHIC_SHARE, PHOTOGRAPHED_SHARE = 0.12, 0.5
RAIN_LAYERS = 32
LARGEST = 3  # a picture is degraded at one to so many times its thumbnail's size


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
        self._layers = [streak_layer(side, side, rng) for _ in range(RAIN_LAYERS)]

    def example(
        self,
        source: Source,
        shape: tuple[int, int],
        hazy: bool,
        rng: np.random.Generator,
        treated: bool = True,
        scene: str | None = None,
    ) -> Example:
        """Make an example of `shape` (height, width) from `source`, hazy or not; an untreated one is a photograph.

        A treated one shows `scene`, of `mirl.lottery.haze_scenes`; a drawn one if left out.
        """
        factor = int(rng.integers(1, LARGEST + 1))
        height, width = (side * factor for side in shape)
        if treated and not hazy and scene is None and rng.random() < GRAPHIC_SHARE:
            pixels, kind = draw_graphic(height, width, rng), "graphic"
            if rng.random() < PHOTOGRAPHED_SHARE:
                pixels = lit(pixels, rng)
        else:
            pixels, depth = _crop(source, height, width, rng)
            pixels, kind = stage(pixels, hazy, rng, scene) if treated else (pixels, UNTREATED)
            if hazy:
                pixels = _haze(pixels, depth, rng)
        rows = self._capture(pixels, hazy, rng).reshape(shape[0], factor, width * 3).mean(axis=1)
        small = rows.reshape(*shape, factor, 3).mean(axis=2)
        return Example(np.rint(small * 255).astype(np.uint8), hazy, kind)

    def _capture(self, pixels: Pixels, hazy: bool, rng: np.random.Generator) -> Pixels:
        """Add what lies between a scene and a file: rain, exposure, no colour, noise, coding."""
        if rng.random() < (RAIN_SHARE_IN_HAZE if hazy else RAIN_SHARE):
            pixels = self._rain(pixels, 0.0 if hazy else rng.uniform(0, RAIN_VEIL), rng)
        if rng.random() < LEVELS_SHARE:
            pixels = _levels(pixels, rng)
        if rng.random() < GREY_SHARE:
            pixels = np.broadcast_to(luma(pixels), pixels.shape)
        if rng.random() < NOISE_SHARE:
            pixels = _noise(pixels, rng)
        pixels = np.clip(pixels, 0, 1)
        if rng.random() < JPEG_SHARE:
            picture = Image.fromarray(np.rint(pixels * 255).astype(np.uint8))
            pixels = np.asarray(code_jpeg(picture, int(rng.integers(20, 96))), np.float32) / 255
        return pixels.astype(np.float32)

    def _rain(self, pixels: Pixels, veil: float, rng: np.random.Generator) -> Pixels:
        """Let it rain: streaks as they are or nearer, up to three times as large and out of focus, over a veil of grey."""
        layer = self._layers[rng.integers(len(self._layers))]
        large = rng.uniform(1, 3) if rng.random() < 0.5 else 1.0
        tall, wide = (max(1, int(side / large)) for side in pixels.shape[:2])
        top, left = rng.integers(layer.shape[0] - tall + 1), rng.integers(layer.shape[1] - wide + 1)
        cut = haze.resize_depth(layer[top : top + tall, left : left + wide], *pixels.shape[:2])
        veiled = pixels + (colour(rng, 0.5, 0.9, 0.1) - pixels) * veil
        return veiled + cut[..., None] * rng.uniform(0.5, 1.5)


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
    median, spread = rng.uniform(*strength.median), rng.uniform(*strength.spread)
    if strength is DISTANT:
        scaled = (median * np.exp(spread * depth)).clip(*strength.depth_range)
    else:
        scaled = haze.scale_depth(depth, median, spread, strength.depth_range)
    warmth = rng.normal(0, WARMTH) if rng.random() < WARMTH_SHARE else 0.0
    tint = rng.normal(0, TINT, 3) + warmth * np.array([1.0, 0.0, -1.0])
    airlight = np.clip(rng.uniform(strength.airlight[0], strength.airlight[-1]) * (1 + tint), 0, 1).astype(np.float32)
    beta = rng.uniform(strength.beta[0], strength.beta[-1])
    beta *= max(1.0, -np.log(1 - LEAST_VEIL) / (beta * float(scaled.mean())))  # what nobody sees is no haze
    through = haze.transmission(scaled, beta)[..., None].astype(np.float32)
    return haze.scatter(pixels, through, airlight)


def _levels(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Expose and develop as cameras do by themselves: a part of the unused range at both ends is cut off, then gamma."""
    black, white = np.quantile(pixels[::4, ::4], (0.01, 0.99))
    black, white = rng.uniform(0, 0.6) * black, 1 - rng.uniform(0, 0.6) * (1 - white)
    return ((pixels - black) / max(white - black, 0.2)).clip(0, 1) ** rng.uniform(0.75, 1.35)


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
