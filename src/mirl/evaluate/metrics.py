"""PSNR and SSIM of RGB images, numpy only, equal to scikit-image's to 1e-6 in the two conventions papers use.

SSIM follows Wang et al., "Image Quality Assessment: From Error Visibility to Structural Similarity" (TIP
2004), per channel, averaged over channels and over the pixels whose whole window lies inside the image.
"""

import math
from typing import Literal

import numpy as np

from mirl.errors import MirlError

Window = Literal["gaussian", "uniform"]

K1, K2 = 0.01, 0.03  # Wang et al. 2004
GAUSSIAN_SIGMA = 1.5  # Wang et al. 2004
WINDOW_SIZES: dict[Window, int] = {"gaussian": 11, "uniform": 7}  # Wang et al. 2004; scikit-image's default


def psnr(restored: np.ndarray, clean: np.ndarray, peak: float = 1.0) -> float:
    """Return the peak signal-to-noise ratio in dB over all pixels and channels.

    Both are float (h, w, 3) with values up to `peak`; identical images give infinity. Raises MirlError on
    other types or on different shapes.
    """
    check_images(restored, clean)
    mean_square = float(np.mean(np.square(np.subtract(restored, clean, dtype=np.float64))))
    return math.inf if mean_square == 0 else 10 * math.log10(peak * peak / mean_square)


def ssim(restored: np.ndarray, clean: np.ndarray, window: Window = "gaussian", peak: float = 1.0) -> float:
    """Return the structural similarity, at most 1, of two float (h, w, 3) images with values up to `peak`.

    "gaussian": 11x11 window, sigma 1.5, population covariance (scikit-image with gaussian_weights=True,
    sigma=1.5, use_sample_covariance=False). "uniform": 7x7 box, sample covariance (scikit-image's defaults).
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
            found = f"{image.dtype} {image.shape}"
            raise MirlError(f"metrics expect floating-point images (h, w, 3), found {found}; convert to RGB")
    if restored.shape != clean.shape:
        raise MirlError(
            f"cannot compare images of different sizes: {size_text(restored)} against {size_text(clean)}; "
            "expected the restored image to have the size of the clean one"
        )


def size_text(image: np.ndarray) -> str:
    """Say an image's size as messages do: width x height."""
    return f"{image.shape[1]}x{image.shape[0]}"


def _window(window: Window) -> tuple[np.ndarray, float]:
    """Return the one-dimensional weights, and the factor on a covariance that the convention asks for."""
    if window not in WINDOW_SIZES:
        raise MirlError(f"unknown SSIM window {window!r}; expected one of {', '.join(WINDOW_SIZES)}")
    size = WINDOW_SIZES[window]
    if window == "uniform":
        return np.full(size, 1 / size), size**2 / (size**2 - 1)
    weights = np.exp(-0.5 * ((np.arange(size) - size // 2) / GAUSSIAN_SIGMA) ** 2)
    return weights / weights.sum(), 1.0


def _filter(plane: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Correlate (h, w) with weights x weights where the window fits: (h - size + 1, w - size + 1)."""
    # Shifted sums: as fast as a band matrix through BLAS (measured), and the same bits whatever the threads.
    height, width = plane.shape[0] - weights.size + 1, plane.shape[1] - weights.size + 1
    rows = sum(weight * plane[shift : shift + height] for shift, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, shift : shift + width] for shift, weight in enumerate(weights)))
