"""Random numbers as a pure function of (seed, sample, purpose): SplitMix64 (Steele et al., OOPSLA 2014).

A sample draws the same numbers whatever batch, rank or resumed run it falls into, and a batch draws them in a
few array operations.
"""

from functools import cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Draws:
    """The random numbers of some samples; each `purpose` is an independent stream."""

    def __init__(self, seed: int, samples: np.ndarray) -> None:
        """Take the seed (any int) and the samples' global numbers, int64 (n,), not negative."""
        self._states = _mix(samples.astype(np.uint64) * _GOLDEN + _word(seed))

    def __len__(self) -> int:
        return len(self._states)

    def subset(self, keep: np.ndarray) -> "Draws":
        """Return the draws of some of the samples: a boolean mask or indices."""
        part = Draws.__new__(Draws)
        part._states = self._states[keep]
        return part

    def apart(self, purpose: str) -> "Draws":
        """Return draws of the same samples that are independent of these."""
        other = Draws.__new__(Draws)
        other._states = self.bits(purpose)
        return other

    def bits(self, purpose: str) -> np.ndarray:
        """Return 64 random bits per sample: uint64 (n,)."""
        return _mix(self._states ^ _word(int.from_bytes(purpose.encode(), "little")))

    def uniform(self, purpose: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """Return float64 (n,) in [low, high)."""
        return low + (high - low) * 2.0**-53 * (self.bits(purpose) >> np.uint64(11)).astype(np.float64)

    def integers(self, purpose: str, high: int | np.ndarray) -> np.ndarray:
        """Return int64 (n,) in [0, high); `high` may differ by sample."""
        return (self.uniform(purpose) * high).astype(np.int64)


def evenly(seed: int, samples: np.ndarray) -> np.ndarray:
    """Return the golden-ratio sequence, float64 (n,) in [0, 1): any window of samples covers it evenly."""
    return ((samples.astype(np.uint64) * _GOLDEN + _word(seed)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


@cache
def _word(value: int) -> np.ndarray:
    """Mix any int to 64 bits; an array, because numpy warns when a scalar wraps around."""
    return _mix(np.array([value % (2**64 - 59)], np.uint64))  # a prime, so that every byte of long names counts


def _mix(x: np.ndarray) -> np.ndarray:
    x = x + _GOLDEN
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
