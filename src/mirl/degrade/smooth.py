"""Smooth random fields and blurs in plain numpy, for what is invented on top of a photograph."""

import numpy as np
from PIL import Image


def blur(image: np.ndarray, sigma_y: float, sigma_x: float | None = None) -> np.ndarray:
    """Blur (h, w) or (h, w, c) with a Gaussian, down with `sigma_y` and across with `sigma_x` (None: the same): float32.

    The edge is repeated outwards; a sigma below 0.2 pixels leaves its axis as it is.
    """
    result = image.astype(np.float32)
    for axis, sigma in enumerate((sigma_y, sigma_y if sigma_x is None else sigma_x)):
        if sigma < 0.2:
            continue
        reach = int(np.ceil(3 * sigma))
        weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        weights /= weights.sum()
        widths = [(reach, reach) if place == axis else (0, 0) for place in range(result.ndim)]
        padded = np.pad(result, widths, mode="edge")
        length = result.shape[axis]
        parts = (np.take(padded, range(step, step + length), axis) for step in range(len(weights)))
        result = np.zeros_like(result)
        for weight, part in zip(weights.astype(np.float32), parts, strict=True):
            result += weight * part
    return result


def resize(image: np.ndarray, height: int, width: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    """Resize float32 (h, w) or (h, w, c) without rounding to 8 bits; bicubic may overshoot."""
    if image.ndim == 3:
        return np.stack([resize(channel, height, width, resample) for channel in np.moveaxis(image, 2, 0)], axis=2)
    picture = Image.fromarray(np.ascontiguousarray(image, np.float32))
    return np.asarray(picture.resize((width, height), resample))


def random_field(height: int, width: int, cells: int, rng: np.random.Generator) -> np.ndarray:
    """Return a smooth random field with about `cells` bumps a side: float32 (h, w), in [0, 1]."""
    field = resize(rng.standard_normal((cells + 2, cells + 2), dtype=np.float32), height, width)
    return (field - field.min()) / (np.ptp(field) + np.float32(1e-6))


def shrink_by_area(photo: np.ndarray, factor: float) -> np.ndarray:
    """Shrink float32 (h, w, 3) to `factor` of its sides, each new pixel the mean of its area, rounded to 8 bits.

    Averages away most of what a photograph's own coding and noise left in it. At least one pixel remains.
    """
    height, width = (max(1, round(side * factor)) for side in photo.shape[:2])
    small = resize(photo, height, width, Image.Resampling.BOX)
    return np.rint(small.clip(0, 1) * 255).astype(np.float32) / np.float32(255)
