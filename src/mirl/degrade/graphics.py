"""Pictures that are no photographs: text, interfaces, charts, drawings, logos, line art; rendered by Pillow.

What people post beside photographs and what a restorer must leave as it is: sharp edges, plain grounds, few
colours, black that is meant. Three renderings: a pixel of the picture for a pixel of the screen (jagged shapes,
hinted text), twice the size averaged down, and three times the width sampled by the stripes of a screen
(coloured fringes on text, as Windows shows it).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from PIL import Image

from mirl.degrade import graphics_art as art
from mirl.degrade import graphics_pages as pages

Draw: TypeAlias = Callable[[np.random.Generator, int, int, Image.Image | None], Image.Image]


@dataclass(frozen=True)
class Scene:
    """One kind of graphic: its share, and what draws it: (rng, side, scale, photo) -> picture of side * scale."""

    name: str
    share: float
    draw: Draw
    page: bool = False


SCENES = (
    Scene("document", 0.15, pages.document, page=True),
    Scene("interface", 0.19, pages.interface, page=True),
    Scene("chat", 0.06, pages.chat, page=True),
    Scene("program", 0.07, pages.program, page=True),
    Scene("table", 0.05, pages.table, page=True),
    Scene("chart", 0.08, pages.chart, page=True),
    Scene("drawing", 0.10, art.drawing),
    Scene("landscape", 0.05, art.landscape),
    Scene("logo", 0.09, art.logo),
    Scene("line art", 0.07, art.line_art),
    Scene("pixel art", 0.02, art.pixel_art),
    Scene("map", 0.03, art.street_map),
    Scene("poster", 0.04, art.poster),
)

_SCALES = ((1, 0.6), (2, 0.3), (3, 0.1))
"""Real pixels a side of one logical pixel, and the share of pages drawn so; drawings have twice the size."""


def render_graphic(
    rng: np.random.Generator, side: int, photo: np.ndarray | None = None, scene: Scene | None = None
) -> np.ndarray:
    """Return one random graphic, uint8 (side, side, 3); equal generators give equal pictures.

    `photo`, uint8 (h, w, 3), is what pages and posters show where they show a photograph; without one they
    show gradients. `scene` None draws one of SCENES by its share. Takes about 5 ms at a side of 256.
    """
    if scene is None:
        shares = np.array([one.share for one in SCENES])
        scene = SCENES[rng.choice(len(SCENES), p=shares / shares.sum())]
    scale = int(rng.choice([scale for scale, _ in _SCALES], p=[share for _, share in _SCALES])) if scene.page else 2
    picture = scene.draw(rng, side, scale, None if photo is None else Image.fromarray(photo))
    if scale == 3:
        return _stripes(picture, side)
    return np.asarray(picture if scale == 1 else picture.reduce(scale))


def _stripes(picture: Image.Image, side: int) -> np.ndarray:
    """Average the rows of a picture of three times the size, and give each channel its own third of the columns.

    Each third is averaged with its neighbours, as renderers do to soften the fringes.
    """
    rows = np.asarray(picture, np.float32).reshape(side, 3, 3 * side, 3).mean(1)
    wide = np.pad(rows, ((0, 0), (1, 1), (0, 0)), mode="edge")
    smooth = (wide[:, :-2] + wide[:, 1:-1] + wide[:, 2:]) / 3
    return np.rint(np.stack([smooth[:, channel::3, channel] for channel in range(3)], axis=2)).astype(np.uint8)
