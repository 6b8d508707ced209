"""Do no harm to tone: split what a network changes into a fine part, always believed, and haze, believed where there is any.

r = restored - x is split over blocks of 8x8 pixels that start at (0, 0), the last ones partial. m and s are the means of r
and x in a block, by channel; up() interpolates bilinearly between block centres. Of the fine rest, hr = r - up(m) and
hx = x - up(s), three means over a block's pixels and channels say what the network did: p of hr hx, q of hx hx, v of hr hr.
- p > 0: contrast is raised, as where haze is taken away: b = max(p, 0) / (q + 1e-6).
- p < 0: fine energy is removed, d = max(-p, 0), as of noise and rain. A change of the mean is believed as far as such a
  removal brings it along (streaks are brighter than what is behind, noise was clipped at black):
  c = clip(m, -e, e), e = sqrt(d) max(0.6 min(d / (q + 1e-6) / 0.5, 1), 0.9 T). T, one for the photograph, says how surely
  all of it is cleared of something: ramp(sum d / sum q, 0.03, 0.07) ramp(-sum p / sqrt(sum q sum v), 0.1, 0.3), where
  ramp(z, low, high) = clip((z - low) / (high - low), 0, 1), and sums are over all blocks, each counting once.
Haze is H = up(m - c) + up(b) hx, the rest N = r - H, and the result x + strength (denoise N + haze H), clipped. The
constants are measured: rain and noise keep what they need, photographs without haze keep their tone.
"""

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError

Pixels = NDArray[np.float32]
Blocks = NDArray[np.float32]  # (rows of blocks, columns of blocks, channels)

BLOCK = 8  # pixels
LOCAL, REMOVED = 0.6, 0.5  # a block's own word, in full where it removes half of its fine energy
GLOBAL = 0.9  # the photograph's, in full where both of these are at their ends
SHARE, CORRELATION = (0.03, 0.07), (0.1, 0.3)
_FLAT = np.float32(1e-6)  # a quarter of a level, squared: less is no texture
_ROWS = 32 * BLOCK  # worked on in bands of rows, to keep temporaries small


def apply_change(pixels: Pixels, restored: Pixels, strength: float, denoise: float, haze: float, name: str) -> Pixels:
    """Return `restored` (h, w, 3), which is overwritten, with so much of its change of `pixels` as is wanted, in [0, 1].

    With denoise and haze 1 that is the network's own output, blended with the input by `strength`. Raises MirlError, naming
    the backend, for values that are no numbers.
    """
    for band in _bands(len(pixels)):
        if not np.isfinite(restored[band]).all():
            raise MirlError(f"the {name} backend gave NaN or infinite pixels; check the ticket: mirl inspect")
    if denoise == haze == 1:
        for band in _bands(len(pixels)):
            rows, source = restored[band], pixels[band]
            np.clip(rows, 0, 1, out=rows)
            if strength < 1:
                rows -= source
                rows *= np.float32(strength)
                rows += source
                np.clip(rows, 0, 1, out=rows)  # rounding
        return restored
    split = Split(pixels, restored)
    for band in _bands(len(pixels)):
        removed, hazy = split.parts(pixels[band], restored[band], band.start)
        removed *= np.float32(strength * denoise)
        hazy *= np.float32(strength * haze)
        removed += hazy
        removed += pixels[band]
        np.clip(removed, 0, 1, out=restored[band])
    return restored


class Split:
    """What a photograph's blocks say of its change, and with it the two parts of the change, a band of rows at a time."""

    def __init__(self, pixels: Pixels, restored: Pixels):
        bands = _bands(len(pixels))
        self.mean = np.concatenate([block_means(pixels[band]) for band in bands])
        self.change = np.concatenate([block_means(restored[band]) for band in bands]) - self.mean
        means = [self._products(pixels[band], restored[band], band.start) for band in bands]
        product, energy, power = np.split(np.concatenate(means), 3, axis=2)
        removed = np.maximum(-product, 0)
        bound = LOCAL * np.minimum(removed / (energy + _FLAT) / REMOVED, 1)
        bound = np.maximum(bound, GLOBAL * _cleared(product, energy, power)) * np.sqrt(removed)
        self.haze = self.change - np.clip(self.change, -bound, bound)
        self.contrast = np.maximum(product, 0) / (energy + _FLAT)

    def parts(self, pixels: Pixels, restored: Pixels, top: int) -> tuple[Pixels, Pixels]:
        """Return N and H, both (rows, w, 3), of a band of rows that begins at `top`, a multiple of the block."""
        height, width = pixels.shape[:2]
        hazy = enlarge(self.contrast, top, height, width) * (pixels - enlarge(self.mean, top, height, width))
        hazy += enlarge(self.haze, top, height, width)
        return restored - pixels - hazy, hazy

    def _products(self, pixels: Pixels, restored: Pixels, top: int) -> Blocks:
        """Return block means of hr hx, hx hx and hr hr, over channels too, side by side."""
        height, width = pixels.shape[:2]
        fine = pixels - enlarge(self.mean, top, height, width)
        change = restored - pixels
        change -= enlarge(self.change, top, height, width)
        products = (change * fine, fine * fine, change * change)
        return np.concatenate([block_means(values).mean(axis=2, keepdims=True) for values in products], axis=2)


def _cleared(product: Blocks, energy: Blocks, power: Blocks) -> float:
    """Return T: how surely the whole photograph is cleared of something, 0 to 1."""
    p, q, v = (float(values.sum(dtype=np.float64)) for values in (product, energy, power))
    share = float(np.maximum(-product, 0).sum(dtype=np.float64)) / max(q, 1e-12)
    correlation = -p / max(q * v, 1e-24) ** 0.5
    return _ramp(share, *SHARE) * _ramp(correlation, *CORRELATION)


def _ramp(value: float, low: float, high: float) -> float:
    return min(max((value - low) / (high - low), 0.0), 1.0)


def block_means(values: Pixels) -> Blocks:
    """Return the means over blocks, by channel; the last row and column of blocks may be smaller."""
    rows, columns = (np.arange(0, size, BLOCK) for size in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    tall, wide = (np.minimum(size - start, BLOCK) for size, start in zip(values.shape, (rows, columns), strict=False))
    return sums / (tall[:, None, None] * wide[None, :, None]).astype(np.float32)


def enlarge(blocks: Blocks, top: int, height: int, width: int) -> Pixels:
    """Interpolate between block centres (of whole blocks, the last too): rows `top` to `top + height`, `width` columns.

    Beyond the outer centres the outer values go on.
    """
    steps = ((np.arange(BLOCK) + 0.5) / BLOCK).astype(np.float32)
    place = np.arange(top, top + height) + BLOCK // 2
    around = np.pad(blocks, ((1, 1), (1, 1), (0, 0)), mode="edge")
    upper, share = place // BLOCK, steps[place % BLOCK][:, None, None]
    rows = around[upper]
    rows += share * (around[upper + 1] - rows)
    gaps = np.diff(rows, axis=1)[:, :, None]
    wide = (rows[:, :-1, None] + steps[None, None, :, None] * gaps).reshape(height, -1, blocks.shape[2])
    return wide[:, BLOCK // 2 : BLOCK // 2 + width]


def _bands(height: int) -> list[slice]:
    return [slice(top, min(top + _ROWS, height)) for top in range(0, height, _ROWS)]
