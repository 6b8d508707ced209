"""Haze by the atmospheric scattering model: I = J t + A (1 - t), t = exp(-beta d).

The model is Koschmieder's, the parameters RESIDE's (Li et al., TIP 2019): OUTDOOR takes RESIDE-OTS's grids of
airlight A and scattering beta, INDOOR the ranges of its ITS (denser haze); PHOTOGRAPHED goes on to any beta up to
0.35 and a tinted airlight. RESIDE's outdoor depths come from a monocular network trained indoors: medians of 2.4 to
3.7 with little spread, so the haze is light and nearly even; its indoor depths are shares of the largest depth in the
room. Depth therefore comes in two steps: a *relative* depth without unit (from a depth map, or a plausible smooth one
for a photo without a map), and `scale_depth`, which brings it to that range.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from mirl.degrade.codec import code_jpeg
from mirl.degrade.rounding import Array, round_to_8_bits

RELATIVE_RANGE = (-2.0, 2.5)
"""Where relative depths are clipped, in standard deviations from the median."""

_GRID = 48
"""Side of the grid on which a depth is invented: it has no finer detail than this."""


@dataclass(frozen=True)
class HazeStrength:
    """The ranges of airlight, beta and depth: one of each tuple's values or, if `continuous`, any between.

    `median` and `spread` are the ranges of the depth's median and standard deviation, in the unit of 1/beta;
    depths are clipped to `depth_range`. `jpeg_quality` codes the hazy image as RESIDE-outdoor's hazy side is
    coded; None leaves it out. `tint` is the standard deviation of the airlight's channels from its grey, relative;
    `even_logarithm` draws a continuous beta evenly in its logarithm, so that light haze is the commoner.
    """

    airlight: tuple[float, ...] = (0.8, 0.85, 0.9, 0.95, 1.0)
    beta: tuple[float, ...] = (0.04, 0.06, 0.08, 0.1, 0.12, 0.16, 0.2)
    continuous: bool = False
    median: tuple[float, float] = (2.4, 3.7)
    spread: tuple[float, float] = (0.35, 0.8)
    depth_range: tuple[float, float] = (1.2, 5.5)
    jpeg_quality: int | None = None
    tint: float = 0.0
    even_logarithm: bool = False


OUTDOOR = HazeStrength()
INDOOR = HazeStrength(
    airlight=(0.7, 1.0),
    beta=(0.6, 1.8),
    continuous=True,
    median=(0.35, 0.7),
    spread=(0.1, 0.25),
    depth_range=(0.1, 1.0),
)
PHOTOGRAPHED = HazeStrength(airlight=(0.8, 1.0), beta=(0.04, 0.35), continuous=True, tint=0.015, even_logarithm=True)


def transmission(depth: Array, beta: Any) -> Array:
    """Return t = exp(-beta d)."""
    return math.e ** (depth * -beta)


def scatter(clean: Array, transmission: Array, airlight: Any) -> Array:
    """Return J t + A (1 - t), rounded to 8 bits; `transmission` and `airlight` broadcast over `clean`."""
    return round_to_8_bits(clean * transmission + airlight * (1 - transmission))


def scale_depth(relative: Array, median: Any, spread: Any, depth_range: tuple[float, float]) -> Array:
    """Bring a relative depth to scene depth, clipped to `depth_range`."""
    return (relative * spread + median).clip(*depth_range)


def relative_depth(depth: np.ndarray) -> np.ndarray:
    """Remove median and scale from a depth map (larger is farther): float32, in RELATIVE_RANGE."""
    depth = depth.astype(np.float32)
    return ((depth - np.median(depth)) / (depth.std() + 1e-3)).clip(*RELATIVE_RANGE)


def smooth_depth(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Invent a relative depth for a photo without a map: float32, (48, 48), far at the top.

    A vertical gradient with a random horizon and roll, a smooth random field, and a weak cue from the photo
    itself: what is bright and bluish high up in a picture is mostly sky.
    """
    small = Image.fromarray(np.rint(clean * 255).astype(np.uint8)).resize((_GRID, _GRID), Image.Resampling.BOX)
    red, green, blue = np.moveaxis(np.asarray(small, np.float32) / 255, 2, 0)
    y, x = np.mgrid[0:_GRID, 0:_GRID].astype(np.float32) / (_GRID - 1)
    rise = 1 - y + rng.normal(0.0, 0.15) * (x - 0.5)
    horizon = rng.uniform(0.4, 0.8)
    ground = np.where(rise < horizon, rise / horizon, 1 + 0.3 * (rise - horizon))
    field = Image.fromarray(rng.standard_normal((6, 6), dtype=np.float32))
    smooth = np.asarray(field.resize((_GRID, _GRID), Image.Resampling.BICUBIC))
    sky = (0.5 * (green + blue) + (blue - red)) * (1 - y)
    cues = [(1.0, ground), (rng.uniform(0.3, 0.7), smooth), (rng.uniform(0.1, 0.4), sky)]
    return relative_depth(sum(weight * (cue - cue.mean()) / (cue.std() + 1e-3) for weight, cue in cues))


def resize_depth(depth: np.ndarray, height: int, width: int) -> np.ndarray:
    """Interpolate a depth of any size to (height, width), bilinearly: float32."""
    image = Image.fromarray(np.ascontiguousarray(depth, np.float32))
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR))


def add_haze(
    clean: np.ndarray,
    rng: np.random.Generator,
    strength: HazeStrength = OUTDOOR,
    depth: np.ndarray | None = None,
) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) in haze; `depth` is a map of any size and unit or None."""
    relative = smooth_depth(clean, rng) if depth is None else relative_depth(depth)
    relative = resize_depth(relative, *clean.shape[:2])
    median, spread = rng.uniform(*strength.median), rng.uniform(*strength.spread)
    scaled = scale_depth(relative, median, spread, strength.depth_range)
    airlight: float | np.ndarray = _draw(strength.airlight, strength.continuous, rng)
    if strength.even_logarithm:
        beta = math.exp(rng.uniform(math.log(min(strength.beta)), math.log(max(strength.beta))))
    else:
        beta = _draw(strength.beta, strength.continuous, rng)
    if strength.tint:
        airlight = (airlight * (1 + rng.normal(0, strength.tint, 3))).astype(np.float32)
    hazy = scatter(clean, transmission(scaled, beta)[..., None], airlight)
    if strength.jpeg_quality is None:
        return hazy
    picture = Image.fromarray(np.rint(hazy * 255).astype(np.uint8))
    return np.asarray(code_jpeg(picture, strength.jpeg_quality), np.float32) / 255


def _draw(values: tuple[float, ...], continuous: bool, rng: np.random.Generator) -> float:
    return float(rng.uniform(min(values), max(values)) if continuous else rng.choice(values))
