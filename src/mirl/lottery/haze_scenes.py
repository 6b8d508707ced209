"""What a photograph may show and how it may be developed: grey skies, pale grounds, snow, night, faded colours.

A *scene* changes what is in the picture, a *tone* its contrast and brightness. What is haze by another name (a flat white
veil) is no tone.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image

from mirl.lottery.haze_surfaces import colour, draw_sky, draw_surface, field

Pixels = np.ndarray  # float32 (h, w, 3) in [0, 1]
Change = Callable[[Pixels, np.random.Generator], Pixels]


def stage(pixels: Pixels, hazy: bool, rng: np.random.Generator, scene: str | None = None) -> tuple[Pixels, str]:
    """Draw a scene, unless it is given, and a tone, for haze to come or not; return the photograph and its kind's name."""
    scenes, tones = (SCENES_IN_HAZE, TONES_IN_HAZE) if hazy else (SCENES, TONES)
    scene, tone = scene or _drawn(scenes, rng), _drawn(tones, rng)
    return TONE[tone](SCENE[scene](pixels, rng), rng), f"{scene}, {tone}"


def _photo(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels


def _grey_sky(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Close the sky above a wavy horizon with cloud."""
    height, width = pixels.shape[:2]
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None]
    horizon = rng.uniform(0.15, 0.7) + 0.15 * field(height, width, rng, 4, 4)[:1]
    mask = np.clip((horizon - y) * height / rng.uniform(1, 12) + 0.5, 0, 1)[..., None]
    cloud = colour(rng, 0.55, 1.0, 0.08) + field(height, width, rng, 5, 5)[..., None] * rng.uniform(0, 0.12)
    return _mix(pixels, np.clip(cloud, 0, 1), mask)


def _pale_ground(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Leave parts of the photograph before a wall, a sheet, a table: pale, shaded, hardly any texture."""
    return _on_ground(pixels, colour(rng, 0.6, 1.0, 0.3), rng)


def _dark_ground(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return _on_ground(pixels, colour(rng, 0.0, 0.2, 0.8), rng)


def _snow(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Make all but the dark parts white, with a little blue: snow, sand in the sun, foam, white rooms."""
    grey = luma(pixels)
    bright = np.clip(grey / max(float(np.quantile(grey, rng.uniform(0.2, 0.6))), 0.05), 0, 1)
    white = colour(rng, 0.8, 1.0, 0.12) * (bright * (1 - (x := rng.uniform(0, 0.3))) + x * grey)
    return _mix(pixels, white, np.clip(bright * rng.uniform(0.7, 1.0), 0, 1))


def _surface(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """A wall, a table, a cloth seen close by, or a plain sky; often with parts of the photograph on it."""
    draw = draw_surface if rng.random() < 0.75 else draw_sky
    height, width = pixels.shape[:2]
    drawn = draw(height, width, rng)
    if rng.random() < 0.6:
        drawn = _left_on(drawn, pixels, rng)
    return lit(drawn, rng) if rng.random() < 0.5 else drawn


def _near(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Put all but parts of it out of focus, and that perhaps paler: what is near is sharp."""
    height, width = pixels.shape[:2]
    cells = int(np.exp(rng.uniform(np.log(3), np.log(16))))
    small = Image.fromarray(np.rint(pixels * 255).astype(np.uint8)).resize((cells, cells), Image.Resampling.BOX)
    behind = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC), np.float32) / 255
    pale = colour(rng, 0.7, 1.0, 0.4)
    return _left_on(behind + (pale - behind) * rng.uniform(0, 0.6) * float(rng.random() < 0.5), pixels, rng)


def lit(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Photograph a flat thing: uneven light of some colour, paler ink."""
    height, width = pixels.shape[:2]
    light = colour(rng, 0.5, 1.0, 0.3) * (1 + field(height, width, rng, 3, 3)[..., None] * rng.uniform(0, 0.15))
    return np.clip((1 - (1 - pixels) * rng.uniform(0.4, 1.0)) * light, 0, 1)


def _on_ground(pixels: Pixels, ground: np.ndarray, rng: np.random.Generator) -> Pixels:
    height, width = pixels.shape[:2]
    shade = 1 + field(height, width, rng, 3, 3)[..., None] * rng.uniform(0, 0.15)
    texture = field(height, width, rng, max(height, width) // 3, max(height, width) // 3)[..., None] * rng.uniform(0, 0.04)
    return _left_on(np.clip(ground * shade + texture, 0, 1), pixels, rng)


def _left_on(ground: np.ndarray, pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Leave parts of the photograph on another picture."""
    cells = int(rng.integers(3, 8))
    height, width = pixels.shape[:2]
    where = field(height, width, rng, cells, cells)
    keep = np.clip((where - np.quantile(where, rng.uniform(0.4, 0.95))) * rng.uniform(3, 40), 0, 1)[..., None]
    return _mix(ground, pixels, keep)


def _contrast(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lower the contrast around the mean or a middle grey; never towards white, which is haze."""
    middle = min(float(pixels.mean()) if rng.random() < 0.5 else rng.uniform(0.1, 0.55), 0.55)
    return middle + (pixels - middle) * rng.uniform(0.3, 0.95)


def _gamma(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return pixels ** np.exp(rng.uniform(-0.7, 1.0)).astype(np.float32)


def _night(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Darken and tint; here and there a lamp with its glow."""
    height, width = pixels.shape[:2]
    dark = pixels ** rng.uniform(1.2, 3.0) * rng.uniform(0.2, 0.8) * colour(rng, 0.9, 1.0, 0.5)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / max(height, width)
    for _ in range(rng.integers(0, 6)):
        far = (y - rng.random()) ** 2 + (x - rng.random()) ** 2
        glow = np.exp(-far / (2 * rng.uniform(0.005, 0.08) ** 2))
        dark = dark + glow[..., None] * colour(rng, 0.5, 1.2, 0.6)
    return np.clip(dark, 0, 1)


def _faded(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Lift the blacks to a colour and lower the whites, as old prints and filters do."""
    black, white = colour(rng, 0.05, 0.25, 0.6), colour(rng, 0.75, 0.95, 0.15)
    return black + pixels * (white - black)


def _overexposed(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    return np.clip(pixels * rng.uniform(1.2, 2.5), 0, 1)


def _two_colours(pixels: Pixels, rng: np.random.Generator) -> Pixels:
    """Map brightness to a ramp between two tinted colours: wood, sand, stone, cloth, dusk."""
    one, other = colour(rng, 0.3, 1.0, 0.6), colour(rng, 0.3, 1.0, 0.6)
    one = one * (1 - rng.uniform(0.08, 0.4) * rng.permutation(np.array([0.0, 0.5, 1.0], np.float32)))
    return one + luma(pixels) * (other - one) * rng.uniform(0.2, 1.0)


SCENE: dict[str, Change] = {
    "photo": _photo,
    "grey sky": _grey_sky,
    "pale ground": _pale_ground,
    "dark ground": _dark_ground,
    "snow": _snow,
    "surface": _surface,
    "near": _near,
}
SCENES = {
    "photo": 0.46,
    "grey sky": 0.1,
    "pale ground": 0.12,
    "dark ground": 0.05,
    "snow": 0.07,
    "surface": 0.13,
    "near": 0.07,
}
SCENES_IN_HAZE = {"photo": 0.65, "grey sky": 0.1, "pale ground": 0.1, "dark ground": 0.05, "snow": 0.06, "near": 0.04}

TONE: dict[str, Change] = {
    "as it is": _photo,
    "contrast": _contrast,
    "gamma": _gamma,
    "night": _night,
    "faded": _faded,
    "overexposed": _overexposed,
    "two colours": _two_colours,
}
TONES = {
    "as it is": 0.35,
    "contrast": 0.18,
    "gamma": 0.13,
    "night": 0.08,
    "faded": 0.1,
    "overexposed": 0.06,
    "two colours": 0.1,
}
TONES_IN_HAZE = {"as it is": 0.6, "contrast": 0.1, "gamma": 0.2, "night": 0.05, "overexposed": 0.05}


def _drawn(shares: dict[str, float], rng: np.random.Generator) -> str:
    return str(rng.choice(list(shares), p=np.array(list(shares.values())) / sum(shares.values())))


def luma(pixels: Pixels) -> np.ndarray:
    """Return the mean of the channels, (h, w, 1)."""
    return pixels.mean(axis=2, keepdims=True)


def _mix(first: np.ndarray, second: np.ndarray, share: np.ndarray) -> np.ndarray:
    return first + (second - first) * share
