"""How much haze does a photograph hold? One answer from a thumbnail, by a ticket's haze head, in numpy."""

import numpy as np
from numpy.typing import NDArray

from mirl.haze_head import HazeHead

Pixels = NDArray[np.float32]
Features = NDArray[np.float32]  # (channels, height, width)

SIDE = 96  # of the thumbnail's long side
_DARK = 2  # the dark channel looks as many pixels to each side
FLOOR = 1e-3  # keeps the saturation of black finite


def amount_of_haze(pixels: Pixels, head: HazeHead) -> float:
    """Return how much haze the photograph (h, w, 3), RGB in [0, 1], holds: from 0, none, to 1, surely some."""
    return min(max((probability(thumbnail(pixels), head) - head.low) / (head.high - head.low), 0.0), 1.0)


def probability(small: Pixels, head: HazeHead) -> float:
    """Return the head's logistic output for a thumbnail (h, w, 3)."""
    x = features(small)
    for i in range(1, len(head.widths) + 1):
        x = np.maximum(_convolve(x, head.tensors[f"conv{i}.weight"], head.tensors[f"conv{i}.bias"]), 0)
    score = float(head.tensors["output.weight"] @ x.mean(axis=(1, 2)) + head.tensors["output.bias"])
    return float(1 / (1 + np.exp(-np.clip(score, -60, 60))))


def thumbnail(pixels: Pixels, side: int = SIDE) -> Pixels:
    """Reduce (h, w, 3) so that its long side is `side`, never enlarged: (h', w', 3), the short side rounded, at least 1.

    Every pixel is the exact mean over the rectangle of the source that it covers, fractions of border pixels included.
    """
    height, width = pixels.shape[:2]
    long = max(height, width)
    if long <= side:
        return pixels
    rows, columns = (max(1, int(size * side / long + 0.5)) for size in (height, width))
    reduced = np.stack([weights @ pixels[span].reshape(len(weights), -1) for span, weights in _areas(height, rows)])
    flat = reduced.reshape(rows, width, 3)
    return np.stack([np.tensordot(flat[:, span], weights, (1, 0)) for span, weights in _areas(width, columns)], axis=1)


def features(small: Pixels) -> Features:
    """Return what the head sees of a thumbnail (h, w, 3): (5, h, w) of R, G, B, dark channel and saturation.

    Dark channel (He et al. 2009): the least of the channels over 5x5 pixels, those inside the image.
    """
    least, most = small.min(axis=2), small.max(axis=2)
    edged = np.pad(least, _DARK, constant_values=np.inf)
    dark = _least_around(_least_around(edged, 0), 1)
    saturation = (most - least) / (most + np.float32(FLOOR))
    return np.stack([*np.moveaxis(small, 2, 0), dark, saturation]).astype(np.float32)


def _least_around(values: Pixels, axis: int) -> Pixels:
    """Return the least of each 2 * _DARK + 1 neighbours along an axis, which becomes 2 * _DARK shorter."""
    size = values.shape[axis] - 2 * _DARK
    parts = [values.take(np.arange(start, start + size), axis) for start in range(2 * _DARK + 1)]
    return np.minimum.reduce(parts)


def _areas(size: int, count: int) -> list[tuple[slice, Pixels]]:
    """For each of `count` equal parts of a line of `size` pixels: the pixels it touches and their weights, of sum 1."""
    parts = []
    for i in range(count):
        begin, end = i * size / count, (i + 1) * size / count
        first, last = int(begin), min(int(np.ceil(end)), size)
        edges = np.clip(np.arange(first, last + 1), begin, end)
        weights = np.diff(edges)
        parts.append((slice(first, last), (weights / weights.sum()).astype(np.float32)))
    return parts


def _convolve(x: Features, weight: Features, bias: Features) -> Features:
    """Convolve (c, h, w) by (out, c, 3, 3) with a step of 2 and zeros around: (out, ceil(h / 2), ceil(w / 2))."""
    rows, columns = -(-x.shape[1] // 2), -(-x.shape[2] // 2)
    padded = np.pad(x, ((0, 0), (1, 2), (1, 2)))
    total = np.broadcast_to(bias[:, None, None], (len(weight), rows, columns)).astype(np.float32)
    for i in range(3):
        for j in range(3):
            part = padded[:, i : i + 2 * rows : 2, j : j + 2 * columns : 2]
            total += np.tensordot(weight[:, :, i, j], part, 1)
    return total
