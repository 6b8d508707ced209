"""Large images in overlapping tiles: equal sizes, smooth windows that sum to one, one tile of working memory.

The network attends over all the pixels it is given, so a tile's result differs slightly from the whole
image's: tiles are as large as the memory budget allows, and neighbours fade into each other over their whole
overlap.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.float32]

OVERLAP = 64
_STEP = 8  # the network pads to multiples of 8: other tile sizes waste work


def tile_bytes(height: int, width: int) -> float:
    """Return the working memory one tile may take: 12 megapixels are then restored below 2 GB in all.

    Python and torch take 0.3 GB, the image 27 bytes per pixel (float in and out, and decoded). From 31
    megapixels on the image itself is most of the memory, and tiles get what still makes them useful.
    """
    return max(1.25e9 - 27 * height * width, 0.4e9)


def choose_tile(height: int, width: int, bytes_per_pixel: float, overlap: int = OVERLAP) -> tuple[int, int]:
    """Return the tile (height, width) that covers the image with least work within `tile_bytes`.

    `bytes_per_pixel` is what the backend needs while it works on one pixel. The image's own size is returned
    when it fits; a tile is never smaller than twice the overlap.
    """
    limit = tile_bytes(height, width) / bytes_per_pixel
    if height * width <= limit:
        return height, width
    smallest = max(2 * overlap, _STEP)
    step = smallest - overlap
    candidates = []
    for rows in range(1, height // step + 2):
        tile_height = _split_evenly(height, rows, overlap, smallest)
        for columns in range(1, width // step + 2):
            tile_width = _split_evenly(width, columns, overlap, smallest)
            if tile_height * tile_width <= limit:
                work = rows * columns * tile_height * tile_width
                candidates.append((work, tile_height, tile_width))
                break  # more columns only repeat more overlap
    if not candidates:
        return min(smallest, height), min(smallest, width)
    least = min(candidates)[0]
    _, tile_height, tile_width = max(
        (candidate for candidate in candidates if candidate[0] <= 1.05 * least),
        key=lambda candidate: min(candidate[1:]),  # the squarest: most of the image around every pixel
    )
    return tile_height, tile_width


def starts(size: int, tile: int, overlap: int) -> list[int]:
    """Return where tiles begin on a line of `size` pixels: spread evenly, sharing at least `overlap`."""
    if tile >= size:
        return [0]
    gaps = -(-(size - tile) // (tile - overlap))
    return [(size - tile) * i // gaps for i in range(gaps + 1)]


def windows(size: int, tile: int, overlap: int) -> NDArray[np.float32]:
    """Return the weights (tiles, tile) of the tiles that begin at `starts`: over any pixel they sum to one.

    Sine-squared ramps over what two neighbours share, flat at the ends of the line.
    """
    begin = starts(size, tile, overlap)
    tile = min(tile, size)
    raw = np.ones((len(begin), tile))
    for i, (left, right) in enumerate(pairwise(begin)):
        shared = left + tile - right
        ramp = np.sin((np.arange(shared) + 0.5) / shared * (np.pi / 2)) ** 2
        raw[i, tile - shared :] *= ramp[::-1]
        raw[i + 1, :shared] *= ramp
    total = np.zeros(size)
    for i, start in enumerate(begin):
        total[start : start + tile] += raw[i]
    for i, start in enumerate(begin):
        raw[i] /= total[start : start + tile]
    return raw.astype(np.float32)


def map_tiles(
    forward: Callable[[Pixels], Pixels],
    pixels: Pixels,
    tile: tuple[int, int],
    overlap: int = OVERLAP,
    on_tile: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Apply `forward` to tiles of `pixels` (h, w, 3) and blend them to (h, w, 3).

    `forward` maps float32 (th, tw, 3) to the same shape. At most half a tile is overlap. `on_tile(done, all)`
    is called after each tile. Memory: the result and one tile.
    """
    height, width = pixels.shape[:2]
    places, overlaps = _places(height, width, tile, overlap)
    down, across = windows(height, tile[0], overlaps[0]), windows(width, tile[1], overlaps[1])
    result = np.zeros_like(pixels)
    for done, place in enumerate(places):
        restored = forward(np.ascontiguousarray(pixels[place]))
        row, column = divmod(done, len(across))
        result[place] += restored * (down[row][:, None, None] * across[column][None, :, None])
        if on_tile:
            on_tile(done + 1, len(places))
    return result


def window_weights(size: int, window: int, overlap: int) -> list[tuple[int, NDArray[np.float32]]]:
    """Return where windows of a line begin, multiples of 8, and their weights for each pixel: they sum to one over any.

    The last window may be up to 7 pixels shorter. Weights are straight between the centres of blocks of 8 pixels: what two
    windows differ by is then a low frequency of `mirl.engine.tone`, to the last pixel, and leaves no seam.
    """
    blocks, wide = -(-size // _STEP), window // _STEP
    begin = starts(blocks, wide, max(2, -(-overlap // _STEP)))
    nodes = np.ones((len(begin), min(wide, blocks)))
    for i, (left, right) in enumerate(pairwise(begin)):
        shared = left + wide - right
        ramp = np.sin(np.arange(shared) / (shared - 1) * (np.pi / 2)) ** 2
        nodes[i, wide - shared :] *= ramp[::-1]
        nodes[i + 1, :shared] *= ramp
    total = np.zeros(blocks)
    for start, each in zip(begin, nodes, strict=True):
        total[start : start + len(each)] += each
    result = []
    for start, each in zip(begin, nodes, strict=True):
        pixels = np.arange(min(_STEP * len(each), size - _STEP * start))
        centres = _STEP * np.arange(len(each)) + (_STEP - 1) / 2
        weights = np.interp(pixels, centres, each / total[start : start + len(each)])
        result.append((_STEP * start, weights.astype(np.float32)))
    return result


def map_windows(
    forward: Callable[[Pixels], Pixels],
    pixels: Pixels,
    window: int,
    overlap: int,
    on_tile: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Apply `forward` to square windows of `pixels` (h, w, 3), each alone, and blend them to (h, w, 3).

    `window` is a multiple of 8; what they share is at least 16 pixels. A side below the window is taken whole. Otherwise as
    `map_tiles`.
    """
    down, across = (window_weights(size, window, overlap) for size in pixels.shape[:2])
    result = np.zeros_like(pixels)
    for row, (top, tall) in enumerate(down):
        for column, (left, wide) in enumerate(across):
            place = np.s_[top : top + len(tall), left : left + len(wide)]
            restored = forward(np.ascontiguousarray(pixels[place]))
            result[place] += restored * (tall[:, None, None] * wide[None, :, None])
            if on_tile:
                on_tile(row * len(across) + column + 1, len(down) * len(across))
    return result


def cut_tiles(pixels: Pixels, tile: tuple[int, int], overlap: int = OVERLAP) -> list[Pixels]:
    """Return the tiles that `map_tiles` would take, as views."""
    return [pixels[place] for place in _places(pixels.shape[0], pixels.shape[1], tile, overlap)[0]]


def _places(
    height: int, width: int, tile: tuple[int, int], overlap: int
) -> tuple[list[tuple[slice, slice]], tuple[int, int]]:
    """Return where the tiles lie, row by row, and the overlaps used: at most half a tile."""
    tall, wide = min(tile[0], height), min(tile[1], width)
    overlaps = min(overlap, tall // 2), min(overlap, wide // 2)
    tops, lefts = starts(height, tall, overlaps[0]), starts(width, wide, overlaps[1])
    return [np.s_[top : top + tall, left : left + wide] for top in tops for left in lefts], overlaps


def _split_evenly(size: int, count: int, overlap: int, smallest: int) -> int:
    """Return the tile of which `count` cover `size`, rounded up to the network's step."""
    tile = max(-(-(size + (count - 1) * overlap) // count), smallest)
    return min(-(-tile // _STEP) * _STEP, size)
