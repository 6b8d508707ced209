"""Tone negatives: clean photographs that look hazy, dark or flat and must keep their tone.

A network that has seen haze on ordinary photographs alone takes every picture of little contrast for haze. These
targets are photographs brought to such a tone: nothing is to be done about it. None of them is haze: whatever is
compressed is compressed towards a level well below haze's airlight (0.8..1), or keeps its black or its colours.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mirl.degrade.graphics import SCENES, render_graphic
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.smooth import blur, random_field, resize

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


@dataclass(frozen=True)
class Tone:
    """One kind of negative: its share, and what brings a photograph, float32 (h, w, 3), to it."""

    name: str
    share: float
    apply: Callable[[np.ndarray, np.random.Generator], np.ndarray]


def tone_negative(photo: np.ndarray, rng: np.random.Generator, tone: Tone | None = None) -> np.ndarray:
    """Return a clean picture made of `photo` (float32 (h, w, 3), [0, 1]): same shape, rounded to 8 bits.

    `tone` None draws one of TONES by its share.
    """
    if tone is None:
        shares = np.array([one.share for one in TONES])
        tone = TONES[rng.choice(len(TONES), p=shares / shares.sum())]
    return round_to_8_bits(tone.apply(photo, rng)).astype(np.float32)


def _flat(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Little contrast around a level of 0.1..0.6."""
    contrast, level = rng.uniform(0.2, 0.7), rng.uniform(0.1, 0.6)
    return level + contrast * (photo - level)


def _dark(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Dark grounds: dimmed as a whole, or but for one lit place."""
    dim = photo ** rng.uniform(1.0, 1.8) * rng.uniform(0.12, 0.6)
    if rng.random() < 0.5:
        return dim
    lit = _spot(photo, rng)
    return dim * (1 - lit) * rng.uniform(0.1, 0.8) + photo * lit


def _night(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A dark sky and street under coloured light, with lamps and the glow around them."""
    height, width = photo.shape[:2]
    light = np.array([1.0, rng.uniform(0.6, 1.0), rng.uniform(0.35, 1.1)], np.float32)
    dark = photo ** rng.uniform(1.2, 2.2) * rng.uniform(0.25, 0.8) * light
    lamps = np.zeros((height, width), np.float32)
    for _ in range(rng.integers(0, 10)):
        y, x = rng.integers(height), rng.integers(width)
        reach = int(rng.integers(1, 4))
        lamps[y : y + reach, x : x + reach] = 1
    glow = np.maximum(blur(lamps, 0.8), 4 * blur(lamps, min(4.0, height / 16)))
    colour = np.array([1.0, rng.uniform(0.7, 1.0), rng.uniform(0.3, 1.0)], np.float32)
    return dark + glow.clip(0, 1)[..., None] * colour


def _grey_sky(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An even, overcast sky above a sharp skyline; the ground in flat, dull light but not paled."""
    sky = _sky(photo.shape[:2], rng.uniform(0.5, 0.97), 0.015, rng)
    ground = _less_colour(photo, rng.uniform(0.5, 1.0)) * rng.uniform(0.45, 0.95)
    mask = _skyline(photo.shape[:2], rng)
    return sky * mask + ground * (1 - mask)


def _silhouette(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A bright, often coloured sky above a ground that is nearly black."""
    sky = _sky(photo.shape[:2], rng.uniform(0.55, 0.95), 0.15, rng)
    ground = photo**1.5 * rng.uniform(0.03, 0.2)
    mask = _skyline(photo.shape[:2], rng)
    return sky * mask + ground * (1 - mask)


def _snow(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What is bright becomes snow: white, a little blue in its hollows; what is dark stays dark."""
    luma = photo @ _LUMA
    soft = blur(luma, 1.0)
    edge = np.quantile(soft, rng.uniform(0.2, 0.6))
    cover = 1 / (1 + np.exp(-((soft - edge) / rng.uniform(0.03, 0.1)).clip(-20, 20)))
    shade = rng.uniform(0.82, 0.97) - rng.uniform(0.05, 0.3) * (1 - luma)
    snow = shade[..., None] + np.array([-0.015, 0.0, 0.025], np.float32) * rng.uniform(0, 1)
    return snow * cover[..., None] + photo * rng.uniform(0.6, 1.0) * (1 - cover[..., None])


def _faded(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An old print or a film look: black lifted, contrast lowered, a cast of its own."""
    cast = rng.uniform(0.3, 0.55) + rng.normal(0, 0.06, 3)
    keep = rng.uniform(0.5, 0.85)
    return _less_colour(photo, rng.uniform(0.5, 1.0)) * keep + cast.clip(0.2, 0.65) * (1 - keep)


def _pastel(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Bright and soft, but with its colours: lightness goes up, the differences between channels stay."""
    luma = (photo @ _LUMA)[..., None]
    lighter = 1 - rng.uniform(0.35, 0.7) * (1 - luma ** rng.uniform(0.6, 1.0))
    return lighter + (photo - luma) * rng.uniform(0.8, 1.3)


def _high_key(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Overexposed on purpose: nearly all is bright, black stays black."""
    return photo ** rng.uniform(0.45, 0.75) * rng.uniform(1.0, 1.25)


def _wall(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plain wall in falling light, with a faint texture, and the photograph hung on it."""
    height, width = photo.shape[:2]
    light = 1 - rng.uniform(0.05, 0.35) * random_field(height, width, 2, rng)
    colour = rng.uniform(0.55, 0.98) + rng.normal(0, 0.03, 3)
    texture = (photo @ _LUMA - 0.5)[..., None] * rng.uniform(0, 0.05)
    wall = colour.astype(np.float32) * light[..., None] + texture
    down, across = max(1, int(height * rng.uniform(0.15, 0.6))), max(1, int(width * rng.uniform(0.15, 0.6)))
    top, left = rng.integers(height - down + 1), rng.integers(width - across + 1)
    hung = resize(photo, down, across).clip(0, 1)
    place = slice(top, top + down), slice(left, left + across)
    wall[place] = hung * light[place][..., None]
    return wall


def _page(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A printed or written page as a camera sees it: paper in uneven light, a little out of focus."""
    height, width = photo.shape[:2]
    side = max(64, height, width)
    document = render_graphic(rng, side, scene=SCENES[0])[:height, :width].astype(np.float32) / 255
    if document.mean() < 0.5:
        document = 1 - document
    light = rng.uniform(0.55, 1.0) * (1 - rng.uniform(0, 0.4) * random_field(height, width, 2, rng))
    tint = np.array([1.0, rng.uniform(0.93, 1.0), rng.uniform(0.8, 1.02)], np.float32)
    ink = rng.uniform(0.02, 0.25)
    return blur(ink + (1 - ink) * document, rng.uniform(0.0, 0.8)) * light[..., None] * tint


TONES = (
    Tone("low contrast", 0.16, _flat),
    Tone("dark", 0.13, _dark),
    Tone("night", 0.09, _night),
    Tone("grey sky", 0.13, _grey_sky),
    Tone("silhouette", 0.06, _silhouette),
    Tone("snow", 0.09, _snow),
    Tone("faded", 0.08, _faded),
    Tone("pastel", 0.08, _pastel),
    Tone("high key", 0.08, _high_key),
    Tone("wall", 0.06, _wall),
    Tone("page", 0.04, _page),
)


def _less_colour(photo: np.ndarray, share: float) -> np.ndarray:
    luma = (photo @ _LUMA)[..., None]
    return luma + (photo - luma) * share


def _spot(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A soft round mask, (h, w, 1), in [0, 1]."""
    height, width = photo.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    middle_y, middle_x = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
    reach = rng.uniform(0.15, 0.45) * max(height, width)
    return np.exp(-(((y - middle_y) / reach) ** 2 + ((x - middle_x) / reach) ** 2))[..., None]


def _sky(shape: tuple[int, int], level: float, colour: float, rng: np.random.Generator) -> np.ndarray:
    """A sky with a gradient and faint clouds, (h, w, 3); `colour` is how far its channels stray from grey."""
    height, width = shape
    fall = np.linspace(rng.uniform(-0.08, 0.03), rng.uniform(-0.03, 0.08), height, dtype=np.float32)[:, None]
    clouds = (random_field(height, width, 4, rng) - 0.5) * rng.uniform(0, 0.08)
    return (level + fall + clouds)[..., None] + rng.normal(0, colour, 3).astype(np.float32)


def _skyline(shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """The mask of a sky, (h, w, 1): 1 above a line of hills, trees or roofs, sharp to about a pixel."""
    height, width = shape
    x = np.arange(width) / width
    line = rng.uniform(0.25, 0.75) + sum(
        rng.normal(0, 0.08 / n) * np.sin(2 * np.pi * (x * n * rng.uniform(0.6, 1.4) + rng.random())) for n in (1, 2, 4)
    )
    if rng.random() < 0.6:  # roofs
        bounds = np.sort(rng.random(rng.integers(2, 14)))
        steps = rng.normal(0, 0.1, len(bounds) + 1)
        line = line + steps[np.searchsorted(bounds, x)]
    else:  # trees
        line = line + rng.normal(0, 0.012, width) + 0.08 * random_field(4, width, 16, rng)[1]
    distance = line[None] * height - np.arange(height)[:, None]
    return distance.clip(0, 1)[..., None].astype(np.float32)
