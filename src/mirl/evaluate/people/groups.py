"""THE table of what is tested: groups, their tests, and how each test's input file comes about.

A test takes pictures from folders below the test sets (or this project's own, `mirl/data/people`) and gives `restore` a
FILE as people have it, so that what is written by default can be scored as well. Noise is seeded by the name of the picture
and of the test alone.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirl.data.bundled import people_pictures
from mirl.data.pairs import INPUT_SUFFIXES, Pair, header_size, image_files, paired_set
from mirl.errors import MirlError
from mirl.evaluate.people.development import DEVELOPMENT
from mirl.evaluate.protocol import add_noise, generator
from mirl.image import cut_centre, quantise, read_photo, read_pixels

SIDE = 384  # pixels: what is made here is made of the middle of a picture; a multiple of the codecs' blocks
SIGMAS = (15, 25, 50)
QUALITIES = (10, 20, 30, 50, 75, 90)  # of the group jpeg
CODED = (75, 95)  # qualities behind noise, rain and haze
_SUFFIXES = {**INPUT_SUFFIXES, "real": "_real"}  # of the inputs of folders that hold pairs, by the first part of their place

Pixels = NDArray[np.float32]


@dataclass(frozen=True)
class Example:
    """A file as people have it, its pixels as read, and the truth: float32 (h, w, 3) in 8-bit steps, None where none is."""

    content: bytes
    degraded: Pixels
    clean: Pixels | None


@dataclass(frozen=True)
class Trial:
    """One test: pictures of `folders` (places below the test sets), and what `make` does to each.

    With `own` the folders are those of the project's pictures. `chosen` takes pictures by name. The seed is of `name`.
    """

    name: str
    folders: tuple[str, ...]
    make: Callable[[Pair], Example]
    own: bool = False
    chosen: Callable[[str], bool] = lambda name: True

    @property
    def set(self) -> str:
        """What the set is called."""
        return "own" if self.own else "+".join(Path(folder).name for folder in self.folders)


def find_pictures(trial: Trial, tests: Path) -> tuple[list[Pair], list[str]]:
    """Return the pictures of a trial, sorted by folder and name, and what is missing or cannot be used, in words.

    A picture without a degraded version of its own has None for it.
    """
    found: list[Pair] = []
    lacking: list[str] = []
    for place in trial.folders:
        folder = (people_pictures() if trial.own else tests) / place
        if not folder.is_dir():
            lacking.append(f"{folder} is missing")
            continue
        kind = Path(place).parts[0]
        if kind in _SUFFIXES and not trial.own:
            pairs, problems = paired_set(kind, folder, _SUFFIXES[kind])
            found += pairs.pairs
            lacking += [f"{problem.path}: {problem.reason}" for problem in problems]
        else:
            files = image_files(folder)
            readable = [file for file in files if header_size(file)]
            found += [Pair(file.stem, None, file) for file in readable]
            lacking += [f"{file}: unreadable image" for file in files if file not in readable]
            lacking += [] if files else [f"{folder} holds no image"]
    return [pair for pair in found if trial.chosen(pair.name)], lacking


def as_found(pair: Pair) -> Example:
    """The degraded file of a pair as it is, and its truth."""
    assert pair.degraded is not None
    return _example(pair.degraded.read_bytes(), quantise(read_pixels(pair.clean)))


def unchanged(pair: Pair) -> Example:
    """A file to which nothing should happen: it is its own truth."""
    example = without_truth(pair)
    return Example(example.content, example.degraded, example.degraded)


def without_truth(pair: Pair) -> Example:
    """A file as it is, with nothing to hold it against."""
    return _example(pair.clean.read_bytes(), None)


def clean_middle(pair: Pair) -> Example:
    """The middle of a clean photograph, as PNG: nothing should happen to it."""
    clean = _middle(pair.clean)
    return _example(_png(clean), clean)


def coded(pair: Pair, quality: int) -> Example:
    """The middle of a clean photograph as JPEG, 4:2:0."""
    clean = _middle(pair.clean)
    return _example(_jpeg(clean, quality), clean)


def noisy_coded(pair: Pair, sigma_255: float, quality: int) -> Example:
    """The same with white noise before coding."""
    clean = _middle(pair.clean)
    return _example(_jpeg(add_noise(clean, sigma_255, pair.clean.stem), quality), clean)


def degraded_coded(pair: Pair, quality: int) -> Example:
    """The middle of a degraded photograph as JPEG, 4:2:0, and of its truth."""
    assert pair.degraded is not None
    return _example(_jpeg(_middle(pair.degraded), quality), _middle(pair.clean))


def grey_noisy(pair: Pair, sigma_255: float) -> Example:
    """The middle of a photograph in grey (BT.601) with white noise, as PNG of one channel."""
    levels = np.asarray(_picture(_middle(pair.clean)).convert("L"), np.float64)
    normal = generator(pair.clean.stem, f"grey:{sigma_255:g}").standard_normal(levels.shape)
    noisy = np.rint(np.clip(levels + sigma_255 * normal, 0, 255)).astype(np.uint8)
    clean = np.repeat(levels[..., None].astype(np.float32) / np.float32(255), 3, axis=2)
    return _example(_encoded(Image.fromarray(noisy), "PNG"), clean)


def _example(content: bytes, clean: Pixels | None) -> Example:
    degraded = quantise(read_photo(content).pixels)
    if clean is not None and degraded.shape != clean.shape:
        sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (degraded, clean))
        raise MirlError(f"a picture and its truth have {sizes} pixels; expected one size; repair the pair")
    return Example(content, degraded, clean)


def _middle(path: Path) -> Pixels:
    return cut_centre(quantise(read_pixels(path)), SIDE)


def _picture(image: Pixels) -> Image.Image:
    return Image.fromarray(np.rint(image * 255).astype(np.uint8))


def _png(image: Pixels) -> bytes:
    return _encoded(_picture(image), "PNG")


def _jpeg(image: Pixels, quality: int) -> bytes:
    return _encoded(_picture(image), "JPEG", quality=quality, subsampling=2)


def _encoded(picture: Image.Image, format: str, **options: int) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


_PHOTOGRAPHS = ("denoise/Kodak24",)
_RAIN = ("derain/Rain100L",)
_HAZE = ("dehaze/SOTS", "dehaze/HSTS")

GROUPS: dict[str, tuple[Trial, ...]] = {
    "real": (
        Trial("real", ("real/PolyU",), as_found, chosen=lambda name: name not in DEVELOPMENT),
        Trial("real", ("real/CC15",), as_found),
    ),
    "coded": (
        *(Trial(f"noise25-jpeg{q}", _PHOTOGRAPHS, partial(noisy_coded, sigma_255=25, quality=q)) for q in CODED),
        *(Trial(f"rain-jpeg{q}", _RAIN, partial(degraded_coded, quality=q)) for q in CODED),
        *(Trial(f"haze-jpeg{q}", _HAZE, partial(degraded_coded, quality=q)) for q in CODED),
    ),
    "grey": tuple(Trial(f"grey{sigma}", _PHOTOGRAPHS, partial(grey_noisy, sigma_255=sigma)) for sigma in SIGMAS),
    "jpeg": tuple(Trial(f"jpeg{quality}", _PHOTOGRAPHS, partial(coded, quality=quality)) for quality in QUALITIES),
    "clean": (Trial("clean", _PHOTOGRAPHS, clean_middle), Trial("clean", ("denoise/CBSD68",), clean_middle)),
    "graphics": (
        Trial("graphics-light", ("graphics/light",), unchanged, own=True),
        Trial("graphics-dark", ("graphics/dark",), unchanged, own=True),
    ),
    "tone": (Trial("tone", ("wild/tone",), unchanged), Trial("tone", ("tone",), unchanged, own=True)),
    "wild": (Trial("wild-rain", ("wild/rain",), without_truth), Trial("wild-haze", ("wild/haze",), without_truth)),
}
"""What `--suite people` measures."""

DEVELOPMENT_GROUP = {"development": (Trial("development", ("real/PolyU",), as_found, chosen=DEVELOPMENT.__contains__),)}
"""What choices are made by; measured only where it is asked for by name."""
