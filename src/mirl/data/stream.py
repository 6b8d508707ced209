"""The training stream: balanced batches of degraded and clean patches, a pure function of seed and step.

Sample n of a run (n counts over steps and ranks) draws its task, photo, place, orientation and degradation
from (seed, n) alone. So a resumed run meets the same batches, and `world` ranks of `count` samples see
together exactly what one process sees with `world * count`: rank r holds the contiguous slice from r * count
of the global batch. Noise comes from the device's own generator, so a GPU sees other noise than a CPU.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch

from mirl.data.draws import Draws, evenly
from mirl.data.fields import Crops, Maker
from mirl.data.store import ImageStore
from mirl.recipe import TaskShare

REAL_SHARE = 0.5
"""Share of a task's samples that come from real pairs where the data has any; the rest is synthesised."""


@dataclass(frozen=True)
class Batch:
    """Patches, float32 (b, 3, p, p) in [0, 1], channels-last; `task`, int64 (b,): index into the shares."""

    degraded: torch.Tensor
    clean: torch.Tensor
    task: torch.Tensor


class Patches(Protocol):
    """Where the patches of one task come from."""

    def patches(self, draws: Draws, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return clean and degraded patches, float32 (n, p, p, 3), one for each of the draws."""


@dataclass(frozen=True)
class Source:
    """Patches of one task: cut from `store`, which holds pairs, or degraded by `maker`."""

    store: ImageStore
    maker: Maker | None = None

    def patches(self, draws: Draws, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return clean and degraded patches, float32 (n, p, p, 3)."""
        crops = Crops.draw(self.store, draws, patch)
        clean, twin = crops.cut(self.store)
        if self.maker is not None:
            return clean, self.maker(clean, crops, draws)
        assert twin is not None, "a source without a maker holds pairs"
        return clean, twin


@dataclass(frozen=True)
class PatchStream:
    """Batches for training; build it with `mirl.data.patches.load_training_data`.

    `sources` holds per share the synthesised source (or None) and the real pairs (or None); `photos` and
    `real_pairs` count what is trained on.
    """

    shares: tuple[TaskShare, ...]
    sources: tuple[tuple[Patches | None, Source | None], ...]
    patch: int
    seed: int
    device: torch.device
    clean_share: float = 0.0
    real_share: float = REAL_SHARE
    photos: int = 0
    real_pairs: dict[str, int] = field(default_factory=dict)

    def tasks_of(self, samples: np.ndarray) -> np.ndarray:
        """Return each sample's index into the shares, int64 (n,); any window holds nearly those shares."""
        weights = np.array([share.sampling for share in self.shares])
        bounds = np.cumsum(weights / weights.sum())
        return np.searchsorted(bounds[:-1], evenly(self.seed, samples), side="right")

    def batch(self, step: int, count: int, rank: int = 0, world: int = 1, patch: int | None = None) -> Batch:
        """Return the `count` samples of `rank` at `step` (0 is the first), of `patch` pixels a side (default: its own)."""
        side = self.patch if patch is None else patch
        first = (step * world + rank) * count
        samples = np.arange(first, first + count, dtype=np.int64)
        draws = Draws(self.seed, samples)
        if side != self.patch:
            draws = draws.apart(f"patches of {side}")
        task = self.tasks_of(samples)
        degraded = torch.empty(count, side, side, 3, device=self.device)
        clean = torch.empty_like(degraded)
        for index, (synthesised, real) in enumerate(self.sources):
            mine = task == index
            if synthesised is not None and real is not None:
                from_real = draws.uniform("real") < self.real_share
            else:
                from_real = np.full(count, real is not None)
            for source, members in ((synthesised, mine & ~from_real), (real, mine & from_real)):
                if source is not None and members.any():
                    places = torch.from_numpy(np.flatnonzero(members)).to(self.device)
                    clean[places], degraded[places] = source.patches(draws.subset(members), side)
        untouched = np.flatnonzero(draws.uniform("clean") < self.clean_share)
        if untouched.size:
            places = torch.from_numpy(untouched).to(self.device)
            degraded[places] = clean[places]
        return Batch(degraded.permute(0, 3, 1, 2), clean.permute(0, 3, 1, 2), torch.from_numpy(task).to(self.device))
