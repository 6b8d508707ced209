"""Degradations as they happen, one after the other: a photograph, perhaps grey or faded, something that spoils it, a coding.

Each task of CHAINS is one `Chain`: which pictures, which maker, which coding. Patches are cut larger than asked, degraded,
and cut again, so that the coding's 8x8 grid and a sensor's pattern lie at any phase.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from mirl.data.coding import Coding
from mirl.data.draws import Draws
from mirl.data.fields import Crops, Maker, column, standard_normal
from mirl.data.store import SYMMETRIES, ImageStore
from mirl.degrade import camera
from mirl.degrade.rounding import round_to_8_bits

Bank = Literal["photos", "shrunk", "soft", "graphics", "tone"]
"""Pictures to start from: photographs as they are; shrunk by area to 0.5 to 0.7, which leaves nothing of the coding that the
files themselves went through; shrunk and enlarged by all filters; rendered graphics; photographs with nothing to dehaze."""

FieldName = Literal["none", "white", "gaussian", "correlated", "camera", "rain", "haze"]

MARGIN = 16  # pixels beyond the patch: any phase of the coding's grid, and no patch that ends at a convolution's edge
_FIRST, _PHASES = 4, 8
_SYMMETRIES: Mapping[FieldName, int] = {"rain": 4}  # rain falls: never turned by 90 degrees


@dataclass(frozen=True)
class Chain:
    """One task's way from clean to degraded. Shares are probabilities of a sample.

    `banks` says how often each kind of picture is taken. `grey` makes clean and degraded grey; `faded` lowers the contrast
    of the clean picture to 0.5 to 1 towards any grey, so that low contrast alone is no sign of haze.
    """

    banks: Mapping[Bank, float]
    field: FieldName
    coding: Coding | None = None
    grey: float = 0.08
    faded: float = 0.0

    @property
    def symmetries(self) -> int:
        """How many of the eight orientations of a square its patches take."""
        return _SYMMETRIES.get(self.field, SYMMETRIES)


CHAINS: Mapping[str, Chain] = {
    "gaussian": Chain({"photos": 0.35, "shrunk": 0.6, "graphics": 0.05}, "gaussian", faded=0.15),
    "correlated": Chain({"shrunk": 0.95, "graphics": 0.05}, "correlated", Coding(0.3, (60, 98)), faded=0.15),
    "camera": Chain(
        {"shrunk": 0.95, "graphics": 0.05}, "camera", Coding(0.4, (60, 99), full_chroma=0.2, twice=0.1), faded=0.15
    ),
    "coded": Chain(
        {"photos": 0.2, "shrunk": 0.7, "graphics": 0.1},
        "white",
        Coding(1.0, (50, 98), full_chroma=0.3, twice=0.2),
        faded=0.15,
    ),
    "rain": Chain({"photos": 0.8, "shrunk": 0.2}, "rain", Coding(0.25, (60, 98))),
    "haze": Chain({"photos": 1.0}, "haze", Coding(0.4, (75, 98)), grey=0.04),
    "jpeg": Chain({"shrunk": 0.65, "soft": 0.1, "graphics": 0.25}, "none", Coding(1.0, (12, 98), twice=0.2), faded=0.15),
    "rescaled": Chain({"soft": 1.0}, "none", Coding(0.85, (20, 95), twice=0.2), faded=0.1),
    "clean": Chain({"shrunk": 0.5, "soft": 0.2, "graphics": 0.3}, "none", Coding(0.15, (90, 98)), faded=0.15),
    "tone": Chain({"tone": 1.0}, "camera", Coding(0.4, (60, 98))),
}


@dataclass(frozen=True)
class ChainSource:
    """Patches of one chain, cut from `stores`, degraded by `makers` (one for each store, or None)."""

    chain: Chain
    stores: Mapping[Bank, ImageStore]
    makers: Mapping[Bank, Maker | None]

    def patches(self, draws: Draws, patch: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return clean and degraded patches, float32 (n, p, p, 3) in [0, 1], both rounded to 8 bits."""
        shares = np.array([self.chain.banks[bank] for bank in self.stores])
        which = np.searchsorted(np.cumsum(shares / shares.sum())[:-1], draws.uniform("bank"), side="right")
        side = patch + MARGIN
        clean = degraded = torch.empty(0)
        for number, bank in enumerate(self.stores):
            mine = which == number
            if not mine.any():
                continue
            some_clean, some_degraded = self._of_bank(bank, draws.subset(mine), side)
            if mine.all():
                clean, degraded = some_clean, some_degraded
                break
            if not len(clean):
                clean = torch.empty(len(draws), side, side, 3, device=some_clean.device)
                degraded = torch.empty_like(clean)
            places = torch.from_numpy(np.flatnonzero(mine)).to(clean.device)
            clean[places], degraded[places] = some_clean, some_degraded
        if self.chain.coding is not None:
            degraded = self.chain.coding(degraded, draws)
        rows, columns = (
            torch.from_numpy(_FIRST + draws.integers(axis, _PHASES)[:, None] + np.arange(patch)).to(clean.device)
            for axis in ("phase-y", "phase-x")
        )
        place = torch.arange(len(draws), device=clean.device)[:, None, None], rows[:, :, None], columns[:, None, :]
        return clean[place], degraded[place]

    def _of_bank(self, bank: Bank, draws: Draws, side: int) -> tuple[torch.Tensor, torch.Tensor]:
        store, maker = self.stores[bank], self.makers[bank]
        crops = Crops.draw(store, draws, side, self.chain.symmetries)
        clean, _ = crops.cut(store)
        if self.chain.faded:
            clean = round_to_8_bits(faded(clean, draws, self.chain.faded))
        grey = column(draws.uniform("grey") < self.chain.grey, clean.device) > 0
        clean = torch.where(grey, round_to_8_bits(clean.mean(-1, keepdim=True)), clean)
        if maker is None:
            return clean, clean
        degraded = maker(clean, crops, draws)
        return clean, round_to_8_bits(torch.where(grey, degraded.mean(-1, keepdim=True), degraded))


def faded(clean: torch.Tensor, draws: Draws, share: float) -> torch.Tensor:
    """Lower the contrast of some pictures to 0.5 to 1 of what it is, over grounds from black to half bright."""
    contrast = np.where(draws.uniform("faded") < share, draws.uniform("contrast", 0.5, 1.0), 1.0)
    ground = (1 - contrast) * draws.uniform("ground", 0.0, 0.6)
    return clean * column(contrast, clean.device) + column(ground, clean.device)


def any_gaussian(clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
    """White noise of any sigma from 2 to 55 of 255, for a fifth of the samples the same in all channels."""
    return clean + _white(clean, draws, 0.2) * column(draws.uniform("sigma", 2.0, 55.0) / 255, clean.device)


def weak_gaussian(clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
    """White noise of sigma 3 to 40 of 255, as it is before a coding."""
    return clean + _white(clean, draws, 0.15) * column(draws.uniform("sigma", 3.0, 40.0) / 255, clean.device)


def correlated(clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
    """Noise of sigma 2 to 40 of 255 that was smoothed, as scaling and cameras do it; a third has coarser colour."""
    normal, device = standard_normal(clean, draws), clean.device
    spread = column(draws.uniform("spread", 0.4, 1.3), device)
    fine = _to_unit(camera.smoothed(normal, spread))
    coarse = column(draws.uniform("coarse") < 1 / 3, device) > 0
    wide = _to_unit(camera.smoothed(normal, 2 * spread))
    fine = torch.where(coarse, fine.mean(-1, keepdim=True) + wide - wide.mean(-1, keepdim=True), fine)
    return clean + fine * column(draws.uniform("sigma", 2.0, 40.0) / 255, device)


def _to_unit(field: torch.Tensor) -> torch.Tensor:
    """Scale each sample to a standard deviation of 1."""
    return field / field.std(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)


def sensor(clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
    """Sensor noise, see `mirl.degrade.camera`: the same ranges and shares, in tensors."""
    device = clean.device
    shot, read = (
        np.exp(draws.uniform(name, math.log(low), math.log(high)))
        for name, (low, high) in (("shot", camera.SHOT), ("read", camera.READ))
    )
    gains = np.stack([draws.uniform("red", *camera.GAIN), np.ones(len(draws)), draws.uniform("blue", *camera.GAIN)], axis=-1)
    smooth = np.where(
        draws.uniform("smooth") < camera.SMOOTH_SHARE, draws.uniform("smooth-sigma", *camera.SMOOTH_SIGMA), 0.0
    )
    return camera.add_sensor_noise(
        clean,
        standard_normal(clean, draws),
        column(shot, device),
        column(read, device),
        torch.from_numpy(gains.astype(np.float32)).to(device)[:, None, None, :],
        column(draws.uniform("bayer") < camera.BAYER_SHARE, device),
        column(smooth, device),
    )


def _white(clean: torch.Tensor, draws: Draws, equal_share: float) -> torch.Tensor:
    normal = standard_normal(clean, draws)
    equal = column(draws.uniform("equal") < equal_share, clean.device) > 0
    return torch.where(equal, normal[..., :1], normal)


PLAIN_MAKERS: Mapping[FieldName, Maker | None] = {
    "none": None, "white": weak_gaussian, "gaussian": any_gaussian, "correlated": correlated, "camera": sensor,
}  # fmt: skip
"""Fields that need no bank of their own; rain and haze are made by `mirl.data.patches`."""
