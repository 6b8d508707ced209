"""Rain in training: real layers (Rain100L's, where the data hold them) and the generator's, as laboratories add them."""

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
from mirl.errors import MirlError

STRENGTH = (0.6, 1.4)


class PhotographedRain:
    """Layers of streaks on clean patches, flipped, shifted, stronger or weaker."""

    def __init__(self, root: Path | None, seed: int, side: int, device: torch.device) -> None:
        """Read the layers below `root`, if any, and draw others. Raises MirlError for a layer that cannot be read."""
        files = sorted((root / LAYERS).glob("*.png")) if root is not None else []
        rng = np.random.default_rng([seed, 21])
        self._store = ImageStore(((layer[..., None], None) for layer in self._layers(files, side, rng)), side, device)

    def _layers(self, files: list[Path], side: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
        for path in files:
            try:
                with Image.open(path) as layer:
                    yield np.asarray(layer.convert("L"))
            except OSError as error:
                raise MirlError(f"{path} cannot be read as a rain layer: {error}; expected a grey PNG; remove it") from error
        for _ in range(RAIN_LAYERS):
            own = max(RAIN_LAYER_SIDE, side)
            yield (rain.streak_layer(own, own, rng) * 255).round().astype(np.uint8)

    def __call__(self, clean: torch.Tensor, crops: Crops, draws: Draws) -> torch.Tensor:
        """Return rainy patches."""
        own = draws.apart("rain")
        layer, _ = Crops.draw(self._store, own, crops.patch, symmetries=4).cut(self._store)
        return rain.add_layer(clean, layer * column(own.uniform("strength", *STRENGTH), clean.device))
