"""Degradations of a batch of patches on the device: the formulas of `mirl.degrade` on fields made in advance.

Every maker is called with clean patches float32 (n, p, p, 3), the crops they came from and the samples'
draws, and returns degraded patches of the same shape.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import grid_sample

from mirl.data.draws import Draws
from mirl.data.store import SYMMETRIES, ImageStore, over_turned
from mirl.degrade import haze, noise, rain
from mirl.errors import MirlError
from mirl.image import read_pixels

RAIN_LAYERS, RAIN_LAYER_SIDE = 48, 288
RAIN_AMPLITUDE = (0.8, 1.2)
DEPTH_SIDE = 112
BANK_MEGAPIXELS = 30.0
BANK_LARGEST_SIDE = 640
BANK_MOST_VARIANTS = 4


@dataclass(frozen=True)
class Crops:
    """Where patches come from: image index, top, left and symmetry, int64 (n,) each, and the patch's side."""

    indices: np.ndarray
    tops: np.ndarray
    lefts: np.ndarray
    symmetries: np.ndarray
    patch: int

    @staticmethod
    def draw(store: ImageStore, draws: Draws, patch: int, symmetries: int = SYMMETRIES) -> "Crops":
        """Draw images, places and orientations (the first `symmetries` of them) evenly."""
        indices = draws.integers("image", len(store))
        tops = draws.integers("top", store.heights[indices] - patch + 1)
        lefts = draws.integers("left", store.widths[indices] - patch + 1)
        return Crops(indices, tops, lefts, draws.integers("turn", symmetries), patch)

    def cut(self, store: ImageStore) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return clean patches and, from a paired store, their twins: float32 (n, p, p, c) in [0, 1]."""
        clean, degraded = store.crops(self.indices, self.tops, self.lefts, self.symmetries, self.patch)
        return clean.to(torch.float32) / 255, None if degraded is None else degraded.to(torch.float32) / 255


class Maker(Protocol):
    """Degrades patches."""

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return degraded patches, shaped as `clean`."""


class NoiseMaker:
    """Gaussian noise; each sample seeds its own generator, so that no batch changes its noise."""

    def __init__(self, sigma_255: float) -> None:
        self.sigma_255 = sigma_255

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return noisy patches; CPU and GPU draw different noise from the same seed."""
        return noise.add_noise(clean, standard_normal(clean, draws), self.sigma_255)


class RainMaker:
    """Streaks cut from a bank of layers, mirrored and scaled in brightness, never turned by 90 degrees."""

    def __init__(self, seed: int, patch: int, device: torch.device) -> None:
        rng = np.random.default_rng([seed % 2**63, 1])
        side = max(RAIN_LAYER_SIDE, patch)
        layers = (rain.streak_layer(side, side, rng)[..., None] for _ in range(RAIN_LAYERS))
        self._store = ImageStore((((layer * 255).round().astype(np.uint8), None) for layer in layers), patch, device)

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return rainy patches."""
        own = draws.apart("rain")  # places independent of the photo's
        layer, _ = Crops.draw(self._store, own, crops.patch, symmetries=4).cut(self._store)
        return rain.add_layer(clean, layer * column(own.uniform("bright", *RAIN_AMPLITUDE), clean.device))


class HazeMaker:
    """Haze with one relative depth map per photo of `store`: a stored one, or one invented at the start."""

    def __init__(
        self,
        store: ImageStore,
        maps: Sequence[Path | None],
        seed: int,
        strength: haze.HazeStrength = haze.OUTDOOR,
    ) -> None:
        self._strength = strength
        self._low, high = haze.RELATIVE_RANGE
        self._step = (high - self._low) / 255
        depths = np.empty((len(store), DEPTH_SIDE, DEPTH_SIDE), np.uint8)
        for index, (place, path) in enumerate(zip(depths, maps, strict=True)):
            relative = _relative_depth(store.image(index), path, np.random.default_rng([seed % 2**63, 2, index]))
            place[...] = np.rint((relative - self._low) / self._step)
        self._depths = torch.from_numpy(depths).to(store.device)
        self._heights, self._widths = store.heights, store.widths

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return hazy patches."""
        device, strength = clean.device, self._strength
        # Pixel centres in grid_sample's coordinates: the edges of the image are at -1 and 1.
        steps = np.arange(crops.patch) + 0.5
        y = (crops.tops[:, None] + steps) / self._heights[crops.indices, None] * 2 - 1
        x = (crops.lefts[:, None] + steps) / self._widths[crops.indices, None] * 2 - 1
        y_, x_ = (torch.from_numpy(axis.astype(np.float32)).to(device) for axis in (y, x))
        down, across = over_turned(y_, x_, crops.symmetries)
        indices = torch.from_numpy(crops.indices).to(device)
        maps = self._depths[indices].to(torch.float32)[:, None]
        grid = torch.stack([across, down], dim=-1)
        sampled = grid_sample(maps, grid, mode="bilinear", padding_mode="border", align_corners=False)
        relative = sampled[:, 0, ..., None] * self._step + self._low
        median, spread = draws.uniform("median", *strength.median), draws.uniform("spread", *strength.spread)
        depth = haze.scale_depth(relative, column(median, device), column(spread, device), strength.depth_range)
        if strength.even_logarithm:
            beta = np.exp(draws.uniform("beta", math.log(min(strength.beta)), math.log(max(strength.beta))))
        else:
            beta = _choice(draws, "beta", strength.beta, strength.continuous)
        airlight = _choice(draws, "airlight", strength.airlight, strength.continuous)
        light = column(airlight, device)
        if strength.tint:  # uniform, of the standard deviation that the strength says
            tint = [1 + strength.tint * 3**0.5 * draws.uniform(f"tint-{c}", -1, 1) for c in "rgb"]
            light = light * torch.from_numpy(np.stack(tint, -1).astype(np.float32)).to(device)[:, None, None, :]
        return haze.scatter(clean, haze.transmission(depth, column(beta, device)), light)


def standard_normal(clean: torch.Tensor, draws: Draws) -> torch.Tensor:
    """Return standard normal numbers, shaped as `clean`; each sample seeds its own, so a batch changes nothing."""
    generator = torch.Generator(clean.device)
    normal = torch.empty_like(clean)
    for place, seed in zip(normal, (draws.bits("noise") >> np.uint64(1)).tolist(), strict=True):
        place.normal_(generator=generator.manual_seed(seed))
    return normal


def degraded_images(
    photos: ImageStore, pair: Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]], seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (clean, degraded), uint8 (h, w, 3), as a task's `pair` makes them of `photos`.

    Whole photos (cut to 640 pixels a side), so that a patch sees coding blocks at any offset; up to four
    treatments of each, or as many photos as BANK_MEGAPIXELS allow.
    """
    heights, widths = (
        np.minimum(photos.heights, BANK_LARGEST_SIDE),
        np.minimum(photos.widths, BANK_LARGEST_SIDE),
    )
    megapixels = float((heights * widths).sum()) / 1e6
    rounds = BANK_MEGAPIXELS / megapixels
    count = max(1, round(len(photos) * min(rounds, BANK_MOST_VARIANTS)))
    for number in range(count):
        index = number % len(photos) if rounds >= 1 else number * len(photos) // count
        rng = np.random.default_rng([seed % 2**63, 3, number])
        top = rng.integers(photos.heights[index] - heights[index] + 1)
        left = rng.integers(photos.widths[index] - widths[index] + 1)
        photo = photos.image(index)[top : top + heights[index], left : left + widths[index]]
        degraded, clean = (np.rint(side * 255).astype(np.uint8) for side in pair(photo.astype(np.float32) / 255, rng))
        yield clean, degraded


def _relative_depth(photo: np.ndarray, path: Path | None, rng: np.random.Generator) -> np.ndarray:
    if path is None:
        small = Image.fromarray(photo).resize((DEPTH_SIDE, DEPTH_SIDE), Image.Resampling.BOX)
        relative = haze.smooth_depth(np.asarray(small, np.float32) / 255, rng)
    else:
        try:
            relative = haze.relative_depth(read_pixels(path)[..., 0])
        except MirlError as error:
            raise MirlError(f"depth map {error}") from error
    return haze.resize_depth(relative, DEPTH_SIDE, DEPTH_SIDE)


def _choice(draws: Draws, purpose: str, values: Sequence[float], continuous: bool) -> np.ndarray:
    if continuous:
        return draws.uniform(purpose, min(values), max(values))
    return np.asarray(values)[draws.integers(purpose, len(values))]


def column(values: np.ndarray, device: torch.device) -> torch.Tensor:
    """Return one float32 value per sample that broadcasts over (n, p, p, c)."""
    return torch.from_numpy(values.astype(np.float32)).to(device).view(-1, 1, 1, 1)
