"""Photos that two data sets share, found by the mean absolute difference of 32x32 grey thumbnails.

A copy under another name, in another format or size differs by less than about 2 grey levels; the nearest
different scenes of BSD365, Rain100L, CBSD68, Kodak24 and RESIDE are 13.8 apart. A mirrored, turned or
strongly cropped copy is not found.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.pairs import PairSet
from mirl.errors import MirlError

SIDE = 32
SAME_BELOW = 4.0
"""Mean absolute difference, in grey levels of 255, below which two photos count as the same scene."""


@dataclass(frozen=True)
class Overlap:
    """A clean photo of the first data set that is also in the second; `difference` in grey levels."""

    first: Path
    second: Path
    difference: float


def thumbnail(picture: Image.Image) -> np.ndarray:
    """Return the 32x32 grey thumbnail of a picture, float32 in [0, 255]."""
    grey = picture.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(grey, np.float32)


def clean_files(sets: Iterable[PairSet]) -> list[Path]:
    """Return the distinct clean files of `sets`, in order."""
    return list(dict.fromkeys(pair.clean for one in sets for pair in one.pairs))


def find_overlap(
    first: Mapping[Path, np.ndarray], second: Mapping[Path, np.ndarray], threshold: float = SAME_BELOW
) -> list[Overlap]:
    """Return for each photo of `first` its nearest one in `second`, where closer than `threshold`; thumbnails by path."""
    ours, theirs = [np.stack(list(photos.values())) if photos else _none() for photos in (first, second)]
    places, differences = nearest(ours, theirs, threshold)
    names = list(second)
    return [
        Overlap(path, names[place], float(difference))
        for path, place, difference in zip(first, places, differences, strict=True)
        if place >= 0
    ]


def nearest(ours: np.ndarray, theirs: np.ndarray, threshold: float = SAME_BELOW) -> tuple[np.ndarray, np.ndarray]:
    """Return the index of the nearest of `theirs` for each of `ours` (-1: none), and the differences.

    The mean difference of 4x4 block means never exceeds that of the pixels, so only those close in block
    means are compared.
    """
    places, differences = np.full(len(ours), -1), np.full(len(ours), np.inf)
    if not len(theirs):
        return places, differences
    our_blocks, their_blocks = _block_means(ours), _block_means(theirs)
    for i, (picture, blocks) in enumerate(zip(ours, our_blocks, strict=True)):
        near = np.flatnonzero(np.abs(their_blocks - blocks).mean(axis=1) < threshold)
        if near.size:
            distance = np.abs(theirs[near] - picture).mean(axis=(1, 2))
            best = int(distance.argmin())
            if distance[best] < threshold:
                places[i], differences[i] = near[best], distance[best]
    return places, differences


def _none() -> np.ndarray:
    return np.zeros((0, SIDE, SIDE), np.float32)


def _block_means(pictures: np.ndarray) -> np.ndarray:
    return pictures.reshape(len(pictures), 4, SIDE // 4, 4, SIDE // 4).mean(axis=(2, 4)).reshape(len(pictures), 16)


def thumbnail_of(path: Path) -> np.ndarray:
    """Return the thumbnail of an image file. Raises MirlError when it cannot be decoded."""
    try:
        with Image.open(path) as picture:
            picture.draft("L", (8 * SIDE, 8 * SIDE))  # JPEG decodes at a fraction of the size, several times faster
            return thumbnail(picture)
    except Exception as error:  # decoders raise nearly anything on damaged files
        raise MirlError(f"{path} is not a readable image; repair or remove it (`mirl data check` lists all)") from error
