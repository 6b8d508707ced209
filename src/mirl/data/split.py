"""Which files train and which validate: a fixed rule by sorted names, and no shared content between the two.

Held out are every 40th clean photo, at most 6, and of each kind every 20th pair, at most 4, spread over the
list. Because the same scene often occurs under several names (a photo in `denoise` and behind rain in
`derain`, one room in ten hazes), whatever looks like a held-out clean photo is kept from training too, and so
are the package's own held-out photos.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from mirl.data import bundled, overlap
from mirl.data.pairs import Pair, find_sets
from mirl.errors import MirlError
from mirl.image import read_pixels

_Item = TypeVar("_Item")

PHOTO_STEP, PHOTOS_HELD_OUT = 40, 6
PAIR_STEP, PAIRS_HELD_OUT = 20, 4


@dataclass(frozen=True)
class Split:
    """The files of one data folder: `photos` and `pairs` (by kind) train, the held-out ones validate.

    `depths` holds depth maps by photo name, from the `depth` folders of dehaze sets: NAME.png, or
    PREFIX_NAME.png as in `bsd_2018.png` for the photo `2018.jpg`.
    """

    photos: tuple[Path, ...]
    pairs: dict[str, tuple[Pair, ...]]
    held_out_photos: tuple[Path, ...]
    held_out_pairs: dict[str, tuple[Pair, ...]]
    depths: dict[str, Path]


def split_folder(root: Path | None, skip_bad: bool = False) -> Split:
    """Divide the sets below `root`, or the bundled photographs where `root` is None.

    Without a `denoise` folder the clean sides of the pairs serve as photos. Raises MirlError as `find_sets`
    does.
    """
    if root is None:
        return Split(tuple(bundled.training_photos()), {}, tuple(bundled.held_out_photos()), {}, {})
    sets = find_sets(root, skip_bad=skip_bad)
    pairs: dict[str, tuple[Pair, ...]] = {}
    for one in sets:
        if one.kind != "denoise":
            pairs[one.kind] = (*pairs.get(one.kind, ()), *one.pairs)
    photos = overlap.clean_files([s for s in sets if s.kind == "denoise"] or sets)
    held_out_photos = _every(PHOTO_STEP, photos, PHOTOS_HELD_OUT)
    held_out_pairs = {kind: _every(PAIR_STEP, many, PAIRS_HELD_OUT) for kind, many in pairs.items()}
    return Split(
        photos=tuple(p for p in photos if p not in held_out_photos),
        pairs={kind: tuple(p for p in many if p not in held_out_pairs[kind]) for kind, many in pairs.items()},
        held_out_photos=held_out_photos,
        held_out_pairs=held_out_pairs,
        depths=_depth_maps(root / "dehaze"),
    )


class HeldOutContent:
    """Tells whether a photo shows what is held out, by content (see mirl.data.overlap)."""

    def __init__(self, split: Split, skip_bad: bool = False) -> None:
        """Read the held-out clean photos of `split` and of the package.

        Raises MirlError for one that cannot be decoded, unless `skip_bad`.
        """
        pairs = [pair.clean for many in split.held_out_pairs.values() for pair in many]
        thumbnails = []
        for path in dict.fromkeys([*split.held_out_photos, *pairs, *bundled.held_out_photos()]):
            try:
                thumbnails.append(overlap.thumbnail_of(path))
            except MirlError:
                if not skip_bad:
                    raise
        self._thumbnails = np.stack(thumbnails)

    def shows(self, pixels: np.ndarray) -> bool:
        """Return whether `pixels`, uint8 (h, w, 3), are a held-out photo under any name, size or format."""
        mine = overlap.thumbnail(Image.fromarray(pixels))[None]
        return bool(overlap.nearest(mine, self._thumbnails)[0][0] >= 0)


def read_bytes(path: Path) -> np.ndarray:
    """Return an image file as uint8 (h, w, 3). Raises MirlError as `read_pixels` does."""
    return np.rint(read_pixels(path) * 255).astype(np.uint8)


def _every(step: int, items: Sequence[_Item], most: int) -> tuple[_Item, ...]:
    """Return the last of each `step` items or, where those are too many, `most` of them evenly spread."""
    chosen = items[step - 1 :: step]
    count = min(most, len(chosen))
    return tuple(chosen[i * len(chosen) // count] for i in range(count))


def _depth_maps(folder: Path) -> dict[str, Path]:
    maps: dict[str, Path] = {}
    files = sorted(folder.glob("*/depth/*.png"))
    for path in files:
        maps.setdefault(path.stem.partition("_")[2] or path.stem, path)
    for path in files:
        maps[path.stem] = path
    return maps
