"""Rain in training, of real layers (Rain100L's, where the data hold them) and the generator's.

Laboratories add such layers; photographs show rain that covers what is behind it, made here of the same layers.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mirl.data.draws import Draws
from mirl.data.fields import RAIN_LAYER_SIDE, RAIN_LAYERS, Crops, column
from mirl.data.pairs import LAYERS
from mirl.data.store import ImageStore
from mirl.degrade import rain
from mirl.degrade.rain_photo import PHOTOGRAPHED, cover, photo_rain_layer
from mirl.errors import MirlError

STRENGTH = (0.6, 1.4)
PHOTO_LAYERS, PHOTO_SHARE = 192, 0.6


class PhotographedRain:
    """Layers of streaks on clean patches, flipped, shifted, stronger or weaker: most cover, the others are added."""

    def __init__(self, root: Path | None, seed: int, side: int, device: torch.device) -> None:
        """Read the layers below `root`, if any, and draw others. Raises MirlError for a layer that cannot be read."""
        files = sorted((root / LAYERS).glob("*.png")) if root is not None else []
        rng = np.random.default_rng([seed, 21])
        self._own = max(RAIN_LAYER_SIDE, side)
        layers = [*_read(files), *self._drawn(rng)]
        self._added = ImageStore(((layer[..., None], None) for layer in layers), side, device)
        self._covers = ImageStore(((layer[..., None], None) for layer in self._photographed(layers, rng)), side, device)

    def _drawn(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for _ in range(RAIN_LAYERS):
            yield (rain.streak_layer(self._own, self._own, rng) * 255).round().astype(np.uint8)

    def _photographed(self, layers: list[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
        for _ in range(PHOTO_LAYERS):
            chosen = [layers[index] for index in rng.integers(len(layers), size=3)]
            alpha = photo_rain_layer(chosen, self._own, self._own, rng).alpha
            yield np.rint(alpha * 255).astype(np.uint8)

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return rainy patches."""
        own, look, device = draws.apart("rain"), PHOTOGRAPHED, clean.device
        strength = column(own.uniform("strength", *STRENGTH), device)
        layer, _ = Crops.draw(self._added, own, crops.patch, symmetries=4).cut(self._added)
        alpha, _ = Crops.draw(self._covers, own.apart("cover"), crops.patch, symmetries=4).cut(self._covers)
        veil = np.where(own.uniform("veiled") < look.veil_share, own.uniform("veil", *look.veil), 0.0)
        covered = cover(
            clean,
            alpha,
            column(own.uniform("brightness", *look.brightness), device),
            column(veil, device),
            column(own.uniform("airlight", *look.airlight), device),
        )
        photographed = column(own.uniform("photographed") < PHOTO_SHARE, device) > 0
        return torch.where(photographed, covered, rain.add_layer(clean, layer * strength))


def _read(files: list[Path]) -> Iterator[np.ndarray]:
    for path in files:
        try:
            with Image.open(path) as layer:
                yield np.asarray(layer.convert("L"))
        except OSError as error:
            raise MirlError(f"{path} cannot be read as a rain layer: {error}; expected a grey PNG; remove it") from error
