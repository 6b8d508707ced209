"""From files to the training stream and the validation examples.

`mirl.data.split` says which files train and which validate; `mirl.data.stream` cuts the patches.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch

from mirl.data import bundled
from mirl.data.banks import Banks
from mirl.data.chain import CHAINS, MARGIN
from mirl.data.fields import HazeMaker, NoiseMaker, RainMaker, degraded_images
from mirl.data.pairs import Pair
from mirl.data.split import HeldOutContent, Split, read_bytes, split_folder
from mirl.data.store import DEFAULT_MEMORY_LIMIT_BYTES, ImageStore
from mirl.data.stream import REAL_SHARE, Batch, Patches, PatchStream, Source
from mirl.degrade.tasks import Task, task_named
from mirl.errors import MirlError
from mirl.image import cut_centre, read_pixels
from mirl.recipe import TaskShare

__all__ = [
    "Batch",
    "PatchStream",
    "ValidationExample",
    "load_training_data",
    "validation_examples",
]

VALIDATION_SIDE = 256


@dataclass(frozen=True)
class ValidationExample:
    """One held-out picture of a task: float32 (h, w, 3) in [0, 1], at most 256 pixels a side."""

    task: str
    name: str
    degraded: np.ndarray
    clean: np.ndarray


def load_training_data(
    root: Path | None,
    shares: Sequence[TaskShare],
    patch: int,
    seed: int,
    device: torch.device | str = "cpu",
    memory_limit_bytes: int = DEFAULT_MEMORY_LIMIT_BYTES,
    clean_share: float = 0.0,
    real_share: float = REAL_SHARE,
    skip_bad: bool = False,
) -> PatchStream:
    """Decode the training files below `root` (None: the bundled photographs) and prepare the stream.

    What `mirl.data.split` holds out is left out. Decoded images above `memory_limit_bytes` are mapped from a
    temporary file. Raises MirlError for an unknown task, bad files (see `find_sets`), and when nothing is
    left to train with.
    """
    device = torch.device(device)
    tasks = [task_named(share.task) for share in shares]
    split = split_folder(root, skip_bad)
    held_out = HeldOutContent(split, skip_bad)
    chains = [CHAINS[task.name] for task in tasks if task.name in CHAINS]
    budget = _Budget(memory_limit_bytes, patch + MARGIN if chains else patch, device)
    maps: list[Path | None] = []
    photos = budget.store(_load_photos(split, held_out, skip_bad, maps))
    banks = Banks(photos, maps, root, patch, seed, budget.store) if chains and photos else None
    real: dict[str, Source] = {}
    synthesised: dict[str, Patches] = {}
    for task in tasks:
        pairs = split.pairs.get(task.kind, ())
        if task.name not in CHAINS and task.kind not in real and pairs:
            store = budget.store(_load_pairs(pairs, held_out, skip_bad))
            if store is not None:
                real[task.kind] = Source(store)
        if task.name in CHAINS:
            if banks is not None:
                synthesised[task.name] = banks.source(CHAINS[task.name])
        elif task.name not in synthesised and photos is not None:
            synthesised[task.name] = _synthesised(task, photos, maps, patch, seed, budget)
    sources = tuple((synthesised.get(task.name), None if task.name in CHAINS else real.get(task.kind)) for task in tasks)
    for task, pair in zip(tasks, sources, strict=True):
        if pair == (None, None):
            raise MirlError(
                f"{root} leaves nothing to train {task.name} with once validation is held out; "
                f"add photos to {root}/denoise/SET"
            )
    return PatchStream(
        shares=tuple(shares),
        sources=sources,
        patch=patch,
        seed=seed,
        device=device,
        clean_share=clean_share,
        real_share=real_share,
        photos=0 if photos is None else len(photos),
        real_pairs={kind: len(source.store) for kind, source in real.items()},
    )


def validation_examples(root: Path | None, tasks: Sequence[str], skip_bad: bool = False) -> list[ValidationExample]:
    """Return the centres (at most 256x256) of what is held out, per task in the given order.

    A task takes its held-out real pairs; where it has none, the held-out photos, degraded whole with a seed
    made from task and name; where there are none either, the package's held-out photos. The same folder gives
    the same examples, whatever the seed of the run. Raises MirlError for an unknown task and for bad files.
    """
    split = split_folder(root, skip_bad)
    examples = []
    for task in map(task_named, dict.fromkeys(tasks)):
        photos = split.held_out_photos or bundled.held_out_photos()
        for pair in split.held_out_pairs.get(task.kind) or [Pair(path.stem, None, path) for path in photos]:
            try:
                examples.append(_example(task, pair))
            except MirlError:
                if not skip_bad:
                    raise
    return examples


def _example(task: Task, pair: Pair) -> ValidationExample:
    clean = read_pixels(pair.clean)
    if pair.degraded is not None:
        degraded = read_pixels(pair.degraded)
    else:
        seed = zlib.crc32(f"{task.name}/{pair.name}".encode())
        degraded, clean = task.pair(clean, np.random.default_rng(seed))
    degraded, clean = (cut_centre(image, VALIDATION_SIDE) for image in (degraded, clean))
    return ValidationExample(task.name, pair.name, degraded, clean)


class _Budget:
    """Stores share one memory limit: what one takes, the next does not have."""

    def __init__(self, limit_bytes: int, patch: int, device: torch.device) -> None:
        self._left, self._patch, self.device = limit_bytes, patch, device

    def store(self, images: Iterator[tuple[np.ndarray, np.ndarray | None]]) -> ImageStore | None:
        """Store the images, or return None when there is none."""
        first = next(images, None)
        if first is None:
            return None
        store = ImageStore(chain([first], images), self._patch, self.device, self._left)
        if not store.mapped:
            self._left -= store.nbytes
        return store


def _load_photos(
    split: Split, held_out: HeldOutContent, skip_bad: bool, maps: list[Path | None]
) -> Iterator[tuple[np.ndarray, None]]:
    """Yield the photos, appending to `maps` the depth map of each."""
    for path in split.photos:
        pixels = _bytes(path, skip_bad)
        if pixels is not None and not held_out.shows(pixels):
            maps.append(split.depths.get(path.stem))
            yield pixels, None


def _load_pairs(pairs: Sequence[Pair], held_out: HeldOutContent, skip_bad: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for pair in pairs:
        assert pair.degraded is not None
        clean = _bytes(pair.clean, skip_bad)
        if clean is None or held_out.shows(clean):
            continue
        degraded = _bytes(pair.degraded, skip_bad)
        if degraded is not None and degraded.shape == clean.shape:
            yield clean, degraded
        elif degraded is not None and not skip_bad:
            raise MirlError(f"{pair.degraded} and {pair.clean} differ in size once decoded; repair or remove them")


def _synthesised(
    task: Task, photos: ImageStore, maps: Sequence[Path | None], patch: int, seed: int, budget: _Budget
) -> Source:
    """Return the source that makes `task` from clean photos: as it goes what is cheap, the rest once, before training."""
    if task.sigma_255 is not None:
        return Source(photos, NoiseMaker(task.sigma_255))
    if task.kind == "derain":
        return Source(photos, RainMaker(seed, patch, budget.device))
    if task.kind == "dehaze":
        return Source(photos, HazeMaker(photos, maps, seed))
    bank = budget.store(degraded_images(photos, task.pair, seed))
    assert bank is not None, "there are photos"
    return Source(bank)


def _bytes(path: Path, skip_bad: bool) -> np.ndarray | None:
    try:
        return read_bytes(path)
    except MirlError:
        if skip_bad:
            return None
        raise
