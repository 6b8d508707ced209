"""What restoring did to one picture: how near it came to the truth, what happened to tone, how much detail is left.

Tone and detail are held against the truth where there is one, else against the input. Levels are 255ths.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.evaluate.figures import Figures, nearness

PSNR_CAP_DB = 60.0  # of a picture against itself
BLOCK = 32  # pixels: the side of the blocks whose means must not move
DARK_PERCENTILE = 1.0
_BINOMIAL = np.array([1, 4, 6, 4, 1]) / 16  # what it takes away is the finest octave


@dataclass(frozen=True)
class Measures:
    """One picture. `figures` is None without a truth.

    `brightness_shift` and `dark_shift` say by how many levels the mean and the darkest percentile of the luminance lie above
    the reference's, `block_shift` by how many the mean of a block of 32x32 pixels and one channel at most differs from it.
    `detail` is the energy of the reference's finest octave that is still there: 1 all of it, 0 none; noise does not
    count, as it does not go along with the reference. `input_detail` is that of the input.
    """

    figures: Figures | None
    brightness_shift: float
    dark_shift: float
    block_shift: float
    detail: float
    input_detail: float


def measure(restored: NDArray[Any], degraded: NDArray[Any], clean: NDArray[Any] | None) -> Measures:
    """Measure a restored picture; all are float (h, w, 3) in [0, 1], 11x11 pixels at least."""
    figures = None
    if clean is not None:
        of_output, of_input = (nearness(image, clean, "gaussian", PSNR_CAP_DB) for image in (restored, degraded))
        figures = Figures(*of_output, *of_input)
    reference = degraded if clean is None else clean
    light, expected = _luminance(restored), _luminance(reference)
    return Measures(
        figures,
        255 * float(light.mean() - expected.mean()),
        255 * float(np.percentile(light, DARK_PERCENTILE) - np.percentile(expected, DARK_PERCENTILE)),
        255 * float(np.abs(block_means(restored) - block_means(reference)).max()),
        detail_kept(light, expected),
        detail_kept(_luminance(degraded), expected),
    )


def block_means(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the means of whole blocks of 32x32 pixels from the top left corner, by channel: (rows, columns, 3).

    A side below 32 pixels is one block.
    """
    height, width = (min(size, BLOCK) for size in image.shape[:2])
    rows, columns = image.shape[0] // height, image.shape[1] // width
    whole = image[: rows * height, : columns * width].astype(np.float64)
    return np.asarray(whole.reshape(rows, height, columns, width, 3).mean(axis=(1, 3)))


def detail_kept(light: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the share of the energy of the finest octave of `expected` that is in `light`, both (h, w): at least 0.

    It is the square of the regression of one's octave on the other's, so that neither noise nor what was invented counts.
    A picture without any detail keeps all of it.
    """
    fine, wanted = _finest_octave(light), _finest_octave(expected)
    energy = float(np.vdot(wanted, wanted))
    if energy <= 1e-9 * wanted.size:
        return 1.0
    return max(float(np.vdot(fine, wanted)) / energy, 0.0) ** 2


def _luminance(image: NDArray[Any]) -> NDArray[np.float64]:
    """The mean of the channels, (h, w)."""
    return np.asarray(image.mean(axis=2, dtype=np.float64))


def _finest_octave(light: NDArray[Any]) -> NDArray[np.float64]:
    """What a binomial blur of 5x5 pixels takes away, edges repeated."""
    padded = np.pad(light, 2, mode="edge")
    height, width = light.shape
    rows = sum(weight * padded[shift : shift + height] for shift, weight in enumerate(_BINOMIAL))
    return np.asarray(light - sum(weight * rows[:, shift : shift + width] for shift, weight in enumerate(_BINOMIAL)))
