"""PSNR and SSIM of RGB images, numpy only, equal to scikit-image's to 1e-6 in the two conventions papers use.

SSIM follows Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (TIP 2004), per
channel, averaged over channels and over the pixels whose whole window lies inside the image.
"""

import math
from typing import Literal

import numpy as np

from mirl.errors import MirlError

Window = Literal["gaussian", "uniform"]

K1, K2 = 0.01, 0.03  # Wang et al. 2004
GAUSSIAN_SIGMA, GAUSSIAN_SIZE = 1.5, 11  # Wang et al. 2004
UNIFORM_SIZE = 7  # scikit-image's default, and so MIR-L's


def psnr(restored: np.ndarray, clean: np.ndarray, peak: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels; identical images give infinity.

    Both are float (h, w, 3) with values up to `peak`. Raises MirlError on other types or on different shapes.
    """
    check_images(restored, clean)
    mean_square = float(np.mean(np.square(np.subtract(restored, clean, dtype=np.float64))))
    return math.inf if mean_square == 0 else 10 * math.log10(peak * peak / mean_square)


def ssim(restored: np.ndarray, clean: np.ndarray, window: Window = "gaussian", peak: float = 1.0) -> float:
    """Return the structural similarity, at most 1, of two float (h, w, 3) images with values up to `peak`.

    "gaussian": 11x11 window, sigma 1.5, population covariance (scikit-image with gaussian_weights=True, sigma=1.5,
    use_sample_covariance=False). "uniform": 7x7 box, sample covariance (scikit-image's defaults).
    Raises MirlError on images smaller than the window, of different shapes or of other types.
    """
    check_images(restored, clean)
    weights, covariance_scale = _window(window)
    height, width = restored.shape[:2]
    if min(height, width) < weights.size:
        raise MirlError(
            f"an image of {width}x{height} pixels is too small for SSIM; expected at least "
            f"{weights.size}x{weights.size} (the {window} window); leave it out of the set"
        )
    c1, c2 = (K1 * peak) ** 2, (K2 * peak) ** 2
    channels = []
    for channel in range(3):
        x = restored[..., channel].astype(np.float64)
        y = clean[..., channel].astype(np.float64)
        mean_x, mean_y = _filter(x, weights), _filter(y, weights)
        product, squares = mean_x * mean_y, mean_x * mean_x + mean_y * mean_y
        covariance = covariance_scale * (_filter(x * y, weights) - product)
        variances = covariance_scale * (_filter(x * x + y * y, weights) - squares)  # only their sum is needed
        similarity = (2 * product + c1) * (2 * covariance + c2) / ((squares + c1) * (variances + c2))
        channels.append(float(similarity.mean()))
    return sum(channels) / 3


def check_images(restored: np.ndarray, clean: np.ndarray) -> None:
    """Raise MirlError unless both are floating-point (h, w, 3) arrays of one shape."""
    for image in (restored, clean):
        if image.ndim != 3 or image.shape[2] != 3 or image.size == 0 or image.dtype.kind != "f":
            raise MirlError(
                f"metrics expect floating-point images (h, w, 3), found {image.dtype} {image.shape}; convert them to RGB"
            )
    if restored.shape != clean.shape:
        raise MirlError(
            f"cannot compare images of different sizes: {_size(restored)} against {_size(clean)}; "
            "expected the restored image to have the size of the clean one"
        )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _window(window: str) -> tuple[np.ndarray, float]:
    """Return the one-dimensional weights and the factor that turns a windowed covariance into the convention's."""
    if window == "gaussian":
        offsets = np.arange(GAUSSIAN_SIZE) - GAUSSIAN_SIZE // 2
        weights = np.exp(-0.5 * (offsets / GAUSSIAN_SIGMA) ** 2)
        return weights / weights.sum(), 1.0
    if window == "uniform":
        count = UNIFORM_SIZE**2
        return np.full(UNIFORM_SIZE, 1 / UNIFORM_SIZE), count / (count - 1)
    raise MirlError(f"unknown SSIM window {window!r}; expected gaussian or uniform")


def _filter(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlate (h, w) with weights x weights where the window fits: (h - size + 1, w - size + 1)."""
    # Shifted sums: as fast as a band matrix through BLAS (measured), and the same bits whatever the threads.
    height, width = plane.shape[0] - weights.size + 1, plane.shape[1] - weights.size + 1
    rows = sum(weight * plane[shift : shift + height] for shift, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, shift : shift + width] for shift, weight in enumerate(weights)))
