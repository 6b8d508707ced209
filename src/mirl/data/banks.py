"""Pictures and layers that the chains of `mirl.data.chain` start from, made once, before training."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.chain import MARGIN, PLAIN_MAKERS, Bank, Chain, ChainSource, FieldName
from mirl.data.fields import HazeMaker, Maker
from mirl.data.rain_bank import PhotographedRain
from mirl.data.store import ImageStore
from mirl.degrade import graphics, haze, tone
from mirl.errors import MirlError

SHRUNK = (0.5, 0.7)
SOFT = (0.4, 1.0)
GRAPHICS, GRAPHICS_SIDE = 384, 320
_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)

StoreOf = Callable[[Iterator[tuple[np.ndarray, None]]], ImageStore | None]


class Banks:
    """Stores and makers, each made when a chain first asks for it; the same seed makes the same ones."""

    def __init__(
        self,
        photos: ImageStore,
        maps: Sequence[Path | None],
        root: Path | None,
        patch: int,
        seed: int,
        store: StoreOf,
    ) -> None:
        """Take the clean photographs with their depth maps, the data folder, and what makes a store of pictures."""
        self._photos, self._maps, self._root, self._seed, self._store_of = photos, maps, root, seed % 2**63, store
        self.side = patch + MARGIN
        self._stores: dict[Bank, ImageStore] = {"photos": photos}
        self._rain: PhotographedRain | None = None

    def source(self, chain: Chain) -> ChainSource:
        """Return where the patches of a chain come from."""
        stores = {bank: self._bank(bank) for bank in chain.banks}
        return ChainSource(chain, stores, {bank: self._maker(chain.field, store) for bank, store in stores.items()})

    def _bank(self, bank: Bank) -> ImageStore:
        if bank not in self._stores:
            pictures = {"shrunk": self._shrunk, "soft": self._soft, "graphics": self._graphics, "tone": self._tone}[bank]()
            made = self._store_of((picture, None) for picture in pictures)
            assert made is not None, "there are photographs"
            self._stores[bank] = made
        return self._stores[bank]

    def _maker(self, field: FieldName, store: ImageStore) -> Maker | None:
        if field == "haze":
            if store is not self._photos:
                raise MirlError("haze needs the photographs that the depth maps belong to; expected the bank 'photos'")
            return HazeMaker(store, self._maps, self._seed, haze.PHOTOGRAPHED)
        if field == "rain":
            self._rain = self._rain or PhotographedRain(self._root, self._seed, self.side, self._photos.device)
            return self._rain
        return PLAIN_MAKERS[field]

    def _each(self, purpose: int) -> Iterator[tuple[np.ndarray, np.random.Generator]]:
        for index in range(len(self._photos)):
            yield self._photos.image(index), np.random.default_rng([self._seed, purpose, index])

    def _shrunk(self) -> Iterable[np.ndarray]:
        for photo, rng in self._each(11):
            yield shrink(photo, rng.uniform(*SHRUNK), Image.Resampling.BOX)

    def _soft(self) -> Iterable[np.ndarray]:
        """Pictures as platforms scale them: every second one is enlarged again and stays soft."""
        for photo, rng in self._each(12):
            factor = rng.uniform(*SOFT)
            small = shrink(photo, factor, _FILTERS[rng.integers(3)])
            if rng.random() < 0.5:
                back = rng.uniform(1.0, 1 / factor)
                small = shrink(small, back, _FILTERS[rng.integers(3)])
            yield small

    def _graphics(self) -> Iterable[np.ndarray]:
        side = max(GRAPHICS_SIDE, self.side)
        for index in range(GRAPHICS):
            yield graphics.render_graphic(np.random.default_rng([self._seed, 13, index]), side)

    def _tone(self) -> Iterable[np.ndarray]:
        for photo, rng in self._each(14):
            small = shrink(photo, rng.uniform(*SHRUNK), Image.Resampling.BOX)
            negative = tone.tone_negative(small.astype(np.float32) / 255, rng)
            yield np.rint(negative.clip(0, 1) * 255).astype(np.uint8)


def shrink(picture: np.ndarray, factor: float, method: Image.Resampling) -> np.ndarray:
    """Scale uint8 (h, w, 3) by `factor`; BOX means over areas, fractions of pixels included."""
    height, width = (max(1, round(side * factor)) for side in picture.shape[:2])
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).resize((width, height), method))
