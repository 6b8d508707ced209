"""Surfaces seen close by, and skies, made from noise: boards, cloth, plaster, tiles; pale, of little contrast, without haze.

For the haze head's training. A photograph of a painted board or a linen cloth has the colours of haze and hardly any black,
but its texture is the same from edge to edge, where haze grows with the distance.
"""

import numpy as np
from PIL import Image

Field = np.ndarray  # float32 (h, w), about -1 to 1
Pixels = np.ndarray  # float32 (h, w, 3) in [0, 1]


def draw_surface(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Draw a surface: float32 (height, width, 3) in [0, 1]."""
    if rng.random() < 0.5:  # the other way up
        return np.ascontiguousarray(_draw_upright(width, height, rng).transpose(1, 0, 2))
    return _draw_upright(height, width, rng)


def _draw_upright(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Draw a surface whose boards, threads or folds run from top to bottom."""
    relief, part = (_boards, _cloth, _plaster, _tiles)[rng.integers(4)](height, width, rng)
    saturation = 0.75 * rng.random() ** 1.5
    colours = np.stack([colour(rng, 0.5, 1.0, saturation) for _ in range(int(part.max()) + 1)])
    spread = rng.random() ** 2 if rng.random() < 0.5 else 0.1 * rng.random()
    colours = colours[0] + (colours - colours[0]) * spread  # all alike, or painted in turn
    contrast = colour(rng, 0.5, 1.0, 0.4) * np.exp(rng.uniform(np.log(0.02), np.log(0.35)))
    return np.clip(colours[part] + relief[..., None] * contrast, 0, 1).astype(np.float32)


def draw_sky(height: int, width: int, rng: np.random.Generator) -> Pixels:
    """Draw a clear or softly clouded sky between two pale colours, or a backdrop: float32 (height, width, 3) in [0, 1]."""
    first, other = colour(rng, 0.6, 1.0, 0.5), colour(rng, 0.7, 1.0, 0.4)
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    share = np.clip(y * rng.uniform(0.6, 1.6) + field(height, width, rng, 2, 2) * rng.uniform(0, 0.3), 0, 1)[..., None]
    sky = first + (other - first) * share * (1 if rng.random() < 0.6 else rng.uniform(0, 0.3))
    cover = _rough(height, width, rng, 2, 3) * rng.uniform(0.2, 0.8) + rng.uniform(-0.5, 0.5)
    cloud = np.clip(cover, 0, 1)[..., None] ** rng.uniform(1, 2)
    return np.clip(sky + (colour(rng, 0.7, 1.0, 0.1) - sky) * cloud * rng.random(), 0, 1).astype(np.float32)


def field(height: int, width: int, rng: np.random.Generator, rows: int, columns: int) -> Field:
    """Return a smooth random field of unit variance or less, float32 (height, width), with about so many bumps."""
    coarse = Image.fromarray(rng.standard_normal((rows, columns), dtype=np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def colour(rng: np.random.Generator, low: float, high: float, saturation: float) -> np.ndarray:
    """Draw a colour, float32 (3,): its largest channel in [low, high], its saturation up to `saturation`."""
    channels = 1 - rng.uniform(0, saturation) * rng.permutation([0.0, rng.random(), 1.0])
    return (rng.uniform(low, high) * channels).astype(np.float32)


def _rough(height: int, width: int, rng: np.random.Generator, rows: float, columns: float) -> Field:
    """Add up fields, each of twice as many bumps and a share of the one before."""
    total, share, keep = np.zeros((height, width), np.float32), 1.0, rng.uniform(0.4, 0.9)
    while rows < height and columns < width:
        total += share * field(height, width, rng, max(int(rows), 1), max(int(columns), 1))
        share, rows, columns = share * keep, rows * 2, columns * 2
    return total / max(float(total.std()), 1e-3)


def _boards(height: int, width: int, rng: np.random.Generator) -> tuple[Field, np.ndarray]:
    """Boards side by side: grain along them, rings, dark gaps. Relief, and the number of each pixel's board."""
    stretch = rng.uniform(8, 40)
    grain = _rough(height, width, rng, 2, 2 * stretch) * rng.uniform(0.3, 1.0)
    x = np.linspace(0, 1, width, dtype=np.float32)[None]
    bend = field(height, width, rng, 3, 3) * rng.uniform(0.02, 0.2)
    rings = np.sin(2 * np.pi * rng.uniform(4, 25) * (x + bend)) * rng.uniform(0, 1)
    place = x * rng.uniform(1, 14) + rng.random() + np.zeros((height, 1), np.float32)
    number = place.astype(int)
    shade = rng.standard_normal(number.max() + 1).astype(np.float32)[number] * rng.uniform(0, 0.8)
    gap = (np.abs(place - np.rint(place)) < rng.uniform(0.005, 0.06)) * rng.uniform(0, 6)
    return grain + rings + shade - gap, number


def _cloth(height: int, width: int, rng: np.random.Generator) -> tuple[Field, np.ndarray]:
    """Threads, folds, perhaps stripes."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    threads = np.sin(2 * np.pi * rng.uniform(20, 150) * x) * np.sin(2 * np.pi * rng.uniform(20, 150) * y)
    folds = np.sin(np.pi * rng.uniform(1, 8) * (x + field(height, width, rng, 3, 4) * rng.uniform(0.02, 0.3)))
    stripes = (x * rng.uniform(2, 30) + rng.random()).astype(int) % int(rng.integers(1, 4))
    relief = threads * rng.uniform(0, 0.7) + folds * rng.uniform(0, 2)
    return relief + _rough(height, width, rng, 8, 8) * rng.uniform(0, 0.7), stripes


def _plaster(height: int, width: int, rng: np.random.Generator) -> tuple[Field, np.ndarray]:
    """Plaster, paper, sand, stone: rough at all sizes."""
    return _rough(height, width, rng, *rng.uniform(2, 12, 2)), np.zeros((height, width), int)


def _tiles(height: int, width: int, rng: np.random.Generator) -> tuple[Field, np.ndarray]:
    """Tiles, bricks, slabs with joints."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    rows = y * rng.uniform(2, 20)
    columns = x * rng.uniform(2, 14) + (rows.astype(int) % 2) * 0.5 * float(rng.random() < 0.5)
    number = (rows.astype(int) * 31 + columns.astype(int)) % 97
    near = np.minimum(np.abs(rows - np.rint(rows)), np.abs(columns - np.rint(columns)))
    joint = (near < rng.uniform(0.01, 0.06)) * rng.uniform(-3, 3)
    shade = rng.standard_normal(97).astype(np.float32)[number] * rng.uniform(0, 1)
    return _rough(height, width, rng, 6, 6) * rng.uniform(0.1, 0.6) + shade + joint, number
