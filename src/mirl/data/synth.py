"""Pairs on disk from clean photos, in MIR-L's layout: what `mirl data synth` writes.

A pair depends on the task, the seed and the photo's name alone, so more pairs or more photos leave those
there are unchanged.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.pairs import image_files
from mirl.degrade.tasks import Task, task_named
from mirl.errors import MirlError
from mirl.files import atomic_write, make_folder
from mirl.image import read_pixels


@dataclass(frozen=True)
class SynthPair:
    """One pair to write: its clean source, the number of its treatment (0 is the first), and its files."""

    source: Path
    round: int
    degraded: Path
    clean: Path


def synthesise(
    clean_folder: Path,
    out: Path,
    task: str,
    count: int | None = None,
    seed: int = 0,
    on_pair: Callable[[SynthPair], None] | None = None,
) -> list[SynthPair]:
    """Write `count` pairs of `task` (None: one per photo) below `out`, and return them.

    Files are `out`/KIND/SET/input/NAME_SUFFIX.png and `out`/KIND/SET/target/NAME_gt.png with the set named
    after `clean_folder`; KIND is the task's folder kind, or its name for the noise of the benchmarks (denoise25). The
    target is the photo, or what the task makes of it first: of another size, say, where it is shrunk. Beyond
    the number of photos a photo is used again with another treatment, as NAME-2. Nothing is overwritten.
    Raises MirlError for an unknown task, no photos, a bad photo, and when any of the files exists already.
    """
    chosen = task_named(task)
    pairs = plan(clean_folder, out, chosen, count)
    for pair in pairs:
        degraded, clean = chosen.pair(read_pixels(pair.source), _generator(chosen, pair, seed))
        _write_png(clean, pair.clean)
        _write_png(degraded, pair.degraded)
        if on_pair is not None:
            on_pair(pair)
    return pairs


def plan(clean_folder: Path, out: Path, task: Task, count: int | None) -> list[SynthPair]:
    """Return the pairs `synthesise` would write, after checking that none exists."""
    if not clean_folder.is_dir():
        raise MirlError(f"{clean_folder} is not a folder; expected a folder of clean photos")
    photos = image_files(clean_folder)
    if not photos:
        raise MirlError(f"{clean_folder} holds no image; expected clean photos directly in it")
    if count is not None and count < 1:
        raise MirlError(f"expected a count of at least 1, found {count}")
    names: dict[str, Path] = {}
    for photo in photos:
        if (other := names.setdefault(photo.stem, photo)) is not photo:
            raise MirlError(f"{other.name} and {photo.name} in {clean_folder} would give one pair; rename one")
    folder = out / task.folder / clean_folder.resolve().name
    pairs = []
    for number in range(len(photos) if count is None else count):
        round_, photo = number // len(photos), photos[number % len(photos)]
        name = photo.stem if round_ == 0 else f"{photo.stem}-{round_ + 1}"
        degraded = folder / "input" / f"{name}{task.suffix}.png"
        pairs.append(SynthPair(photo, round_, degraded, folder / "target" / f"{name}_gt.png"))
    taken = [path for pair in pairs for path in (pair.degraded, pair.clean) if path.exists()]
    if taken:
        more = f" and {len(taken) - 1} more exist" if len(taken) > 1 else " exists"
        raise MirlError(f"{taken[0]}{more} already; expected new files; choose another output folder")
    for side in ("input", "target"):
        make_folder(folder / side)
    return pairs


def _generator(task: Task, pair: SynthPair, seed: int) -> np.random.Generator:
    return np.random.default_rng([seed % 2**63, zlib.crc32(f"{task.name}/{pair.source.stem}".encode()), pair.round])


def _write_png(image: np.ndarray, path: Path) -> None:
    with atomic_write(path) as file:
        Image.fromarray(np.rint(image * 255).astype(np.uint8)).save(file, "PNG", compress_level=6)
