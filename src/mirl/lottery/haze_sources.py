"""The photographs that the haze head is trained on: clean ones, each once, with their depth where a map is at hand."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.overlap import nearest, thumbnail
from mirl.data.split import HeldOutContent, read_bytes, split_folder
from mirl.degrade.haze import relative_depth
from mirl.image import read_pixels
from mirl.lottery.haze_examples import Source

LARGEST_SIDE = 512  # of a photograph in memory

MISTY = frozenset(
    (
        *("76053", "55067", "48025", "267036", "120003", "117025", "161045"),  # of BSD365
        *("cid22__2887497", "cid22__1687147", "cid22__2581922", "cid22__1292115"),  # of PHOTOS352, to `libjxl`
        "clic2025__1b4ad095795ac552b38a21d51be7bfaee8e7d0a70619d84767814321df4ed062",
        "clic2025__aed95e005df28e790519eefb6eb1e565",
        *("gb82__nyc-lossless", "solus__sebkha-d-oran", "ubuntu_mate__matteo-botto-16023"),
        *("deepin_unsplash__wolfgang-hasselmann-WrVvYxq11Yk-unsplash", "libjxl__cvo9xd_keong_macan_srgb8"),
        *("budgie_tea-gardens", "sklearn_china", "sun_butte"),  # of OTS-like, the first two in the package too
    )
)
"""Photographs in use as clean ones that show haze, mist or dust, by name without ending: all were looked at once.

They teach neither answer: how much haze is in them nobody has measured.
"""


def haze_sources(root: Path | None, skip_bad: bool = False) -> Iterator[Source]:
    """Yield the distinct clean photographs below `root` (None: those in the package) with their depth.

    Left out is what is held out from all training, and what is MISTY.
    """
    split = split_folder(root, skip_bad)
    held_out = HeldOutContent(split, skip_bad)
    known: list[np.ndarray] = []  # thumbnails of the photographs so far
    pairs = split.pairs.get("dehaze", ())
    names = {pair.clean: _photo_name(pair.name) for pair in pairs}
    for path in [*split.photos, *names]:
        pixels = read_bytes(path)
        picture = Image.fromarray(pixels)
        mine = thumbnail(picture)[None]
        if held_out.shows(pixels) or (known and nearest(mine, np.concatenate(known))[0][0] >= 0):
            continue
        known.append(mine)
        name = names.get(path, path.stem)
        if name in MISTY:
            continue
        depth = split.depths.get(path.stem) or split.depths.get(name)
        if max(picture.size) > LARGEST_SIDE:
            picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.BOX)
        yield Source(np.asarray(picture), None if depth is None else relative_depth(read_pixels(depth)[..., 0]))


def _photo_name(pair: str) -> str:
    """Return the photograph's part of a hazy picture's name, ID_A_BETA."""
    return pair.rsplit("_", 2)[0]
