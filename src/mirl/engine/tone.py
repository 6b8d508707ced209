"""Do no harm to tone: split what a network changes into a fine part, always believed, and haze, believed where there is any.

r = restored - x is split over blocks of 8x8 pixels that start at (0, 0), the last ones partial. m and s are the means of r
and x in a block, by channel; up() interpolates bilinearly between block centres, up' after four steps of z + (m - K z) from
z = m, where K, 1/8 6/8 1/8 down and across, is what interpolating does to block means. Of the fine rest, hr = r - up'(m) and
hx = x - up'(s), three means over a block's pixels and channels say what the network did: p of hr hx, q of hx hx, v of hr hr.
- p > 0: contrast is raised, as where haze is taken away: b = max(p, 0) / (q + 1e-6).
- p < 0: fine energy is removed, d = max(-p, 0), as of noise and rain. A change of the mean is believed as far as such a
  removal brings it along (streaks are brighter than what is behind, noise was clipped at black): c = clip(m, -e, e),
  e = sqrt(d) max(0.6 ramp(d / (q + 1e-6), 0.3, 0.6), T), ramp(z, low, high) = clip((z - low) / (high - low), 0, 1).
  T, one for the photograph, says how surely all of it is cleared of something, by sums over all blocks, each counting once:
  T = ramp(sqrt(mean d), 0.016, 0.028) ramp(-sum p / sqrt(sum q sum v), 0.1, 0.3).
Haze is H = up'(m - c) + up(b) hx, the rest N = r - H, and the result x + strength (denoise N + haze H), clipped. The
constants are measured: rain and noise keep what they need, photographs without haze keep their tone.

Windows see haze each on its own, so that a sky shows them as patches. So with several windows H is what they say together: a
guided filter (He et al. 2013) on the blocks, M the mean over blocks at most R = window / 8 away, t = m - c by channel:
  alpha = (M(t s) - M(t) M(s)) / (M(s s) - M(s)^2 + 0.001), beta = M(t) - alpha M(s),
  H = W (up'(M(alpha) s + M(beta)) + up(M(max(p, 0)) / (M(q) + 1e-6)) hx), and N stays as it is.
W is a second witness: to take haze away raises contrast everywhere, W = ramp(sum p / sqrt(sum q sum v), 0.3, 0.5). Where a
haze head is wrong about a picture, it mostly sees no such thing.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError

Pixels = NDArray[np.float32]
Blocks = NDArray[np.float32]  # (rows of blocks, columns of blocks, channels)

BLOCK = 8  # pixels
LOCAL, REMOVED = 0.6, (0.3, 0.6)  # of a block's own word; the share of its fine energy that is removed
AMOUNT, CORRELATION = (0.016, 0.028), (0.1, 0.3)  # of the photograph's: about 4 and 7 levels
RAISED = (0.3, 0.5)
_FLAT = np.float32(1e-6)  # a quarter of a level, squared: less is no texture
_STEPS = 4  # leave about a hundredth of the step between two windows
_GUIDED = 1e-3  # of a guide's variance: less is no structure, as in a sky
_ROWS = 32 * BLOCK  # worked on in bands of rows, to keep temporaries small


def apply_change(
    pixels: Pixels, restored: Pixels, strength: float, denoise: float, haze: float, window: int, name: str
) -> Pixels:
    """Return `restored` (h, w, 3), which is overwritten, with so much of its change of `pixels` as is wanted, in [0, 1].

    `window` is the side of the windows that it was restored in, 0 for one. Then, with denoise and haze 1, the result is the
    network's own output, blended with the input by `strength`. Raises MirlError, naming the backend, for values that are no
    numbers.
    """
    for band in _bands(len(pixels)):
        if not np.isfinite(restored[band]).all():
            raise MirlError(f"the {name} backend gave NaN or infinite pixels; check the ticket: mirl inspect")
    if denoise == haze == 1 and not window:
        for band in _bands(len(pixels)):
            rows, source = restored[band], pixels[band]
            np.clip(rows, 0, 1, out=rows)
            if strength < 1:
                rows -= source
                rows *= np.float32(strength)
                rows += source
                np.clip(rows, 0, 1, out=rows)  # rounding
        return restored
    split = Split(pixels, restored, window)
    for band in _bands(len(pixels)):
        change = split.rest(pixels[band], restored[band], band.start)
        change *= np.float32(strength * denoise)
        if haze:
            change += np.float32(strength * haze) * split.haze(pixels[band], band.start)
        change += pixels[band]
        np.clip(change, 0, 1, out=restored[band])
    return restored


class Split:
    """What a photograph's blocks say of its change, and with it the two parts of the change, a band of rows at a time."""

    def __init__(self, pixels: Pixels, restored: Pixels, window: int = 0):
        bands = _bands(len(pixels))
        mean = np.concatenate([block_means(pixels[band]) for band in bands])
        change = np.concatenate([block_means(restored[band]) for band in bands]) - mean
        self.mean, self.change = sharpened(mean), sharpened(change)
        means = [self._products(pixels[band], restored[band], band.start) for band in bands]
        product, energy, power = np.split(np.concatenate(means), 3, axis=2)
        removed, raised = np.maximum(-product, 0), np.maximum(product, 0)
        correlation = _correlation(product, energy, power)
        cleared = _ramp(np.sqrt(removed.mean(dtype=np.float64)), AMOUNT) * _ramp(-correlation, CORRELATION)
        trust = np.maximum(LOCAL * _ramp(removed / (energy + _FLAT), REMOVED), np.float32(cleared))
        bound = trust * np.sqrt(removed)
        shift, contrast = change - np.clip(change, -bound, bound), raised / (energy + _FLAT)
        self.own = self.common = (sharpened(shift), contrast)
        if radius := window // BLOCK:
            witness = np.float32(_ramp(correlation, RAISED))
            ratio = (_around(raised, radius) / (_around(energy, radius) + _FLAT)).astype(np.float32)
            self.common = (witness * sharpened(_guided(mean, shift, radius)), witness * ratio)

    def rest(self, pixels: Pixels, restored: Pixels, top: int) -> Pixels:
        """Return N (rows, w, 3) of a band of rows that begins at `top`, a multiple of the block."""
        change = restored - pixels
        change -= self._part(self.own, pixels, top)
        return change

    def haze(self, pixels: Pixels, top: int) -> Pixels:
        """Return H (rows, w, 3) of a band of rows."""
        return self._part(self.common, pixels, top)

    def _part(self, blocks: tuple[Blocks, Blocks], pixels: Pixels, top: int) -> Pixels:
        height, width = pixels.shape[:2]
        part = pixels - enlarge(self.mean, top, height, width)
        part *= enlarge(blocks[1], top, height, width)
        part += enlarge(blocks[0], top, height, width)
        return part

    def _products(self, pixels: Pixels, restored: Pixels, top: int) -> Blocks:
        """Return block means of hr hx, hx hx and hr hr, over channels too, side by side."""
        height, width = pixels.shape[:2]
        fine = pixels - enlarge(self.mean, top, height, width)
        change = restored - pixels
        change -= enlarge(self.change, top, height, width)
        products = (change * fine, fine * fine, change * change)
        return np.concatenate([block_means(values).mean(axis=2, keepdims=True) for values in products], axis=2)


def _correlation(product: Blocks, energy: Blocks, power: Blocks) -> float:
    """Return how the fine change of a photograph goes with what is fine in it: -1, all removed, to 1, all raised."""
    p, q, v = (float(values.sum(dtype=np.float64)) for values in (product, energy, power))
    return p / max(q * v, 1e-24) ** 0.5


def _ramp(value: Any, ends: tuple[float, float]) -> Any:
    """Return 0 below the lower end, 1 above the upper one, linear between them."""
    return np.clip((value - ends[0]) / (ends[1] - ends[0]), 0, 1)


def _guided(guide: Blocks, values: Blocks, radius: int) -> Blocks:
    """Return values smoothed by channel as linear functions of the guide, of which the neighbourhoods' means are taken."""
    s, t = guide.astype(np.float64), values.astype(np.float64)
    of_s, of_t = _around(s, radius), _around(t, radius)
    slope = (_around(s * t, radius) - of_s * of_t) / (_around(s * s, radius) - of_s * of_s + _GUIDED)
    smooth = _around(slope, radius) * s + _around(of_t - slope * of_s, radius)
    return smooth.astype(np.float32)


def _around(values: NDArray[Any], radius: int) -> NDArray[np.float64]:
    """Return means over the blocks at most `radius` rows and columns away that the photograph has, in float64."""
    means = values.astype(np.float64)
    for axis, size in enumerate(values.shape[:2]):
        places = np.arange(size)
        first, last = np.maximum(places - radius, 0), np.minimum(places + radius + 1, size)
        sums = np.cumsum(np.insert(means, 0, 0, axis=axis), axis=axis)
        count = (last - first).reshape([-1 if each == axis else 1 for each in range(3)])
        means = (sums.take(last, axis) - sums.take(first, axis)) / count
    return means


def block_means(values: Pixels) -> Blocks:
    """Return the means over blocks, by channel; the last row and column of blocks may be smaller."""
    rows, columns = (np.arange(0, size, BLOCK) for size in values.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(values, rows, axis=0), columns, axis=1)
    tall, wide = (np.minimum(size - start, BLOCK) for size, start in zip(values.shape, (rows, columns), strict=False))
    return sums / (tall[:, None, None] * wide[None, :, None]).astype(np.float32)


def sharpened(means: Blocks) -> Blocks:
    """Return values to interpolate between, so that the blocks of what `enlarge` makes of them have these means, nearly."""
    values = means
    for _ in range(_STEPS):
        values = values + (means - _kernel(_kernel(values, 0), 1))
    return values


def _kernel(values: Blocks, axis: int) -> Blocks:
    """Return what interpolating does to block means along an axis."""
    last = np.arange(values.shape[axis])
    before, after = (values.take(np.clip(last + step, 0, last[-1]), axis) for step in (-1, 1))
    return np.float32(0.125) * (before + after) + np.float32(0.75) * values


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
