"""What stored pairs and validation pictures are made with: clean targets, and degradations followed by a coding.

The same kinds, ranges and shares as `mirl.data.chain` has for training, whole photographs instead of patches and the
real codecs instead of tensors. The photographs that people train on are JPEGs themselves: where the degradation is as
faint as their own coding noise, the target is the photograph shrunk by area to 0.5..0.7, which averages that away.
"""

import numpy as np
from PIL import Image

from mirl.degrade.camera import add_camera_noise
from mirl.degrade.codec import Codec, code
from mirl.degrade.graphics import render_graphic
from mirl.degrade.haze import PHOTOGRAPHED, add_haze
from mirl.degrade.noise import add_any_noise
from mirl.degrade.rain_photo import add_photo_rain
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.smooth import resize, shrink_by_area
from mirl.degrade.tone import tone_negative

SHRUNK = (0.5, 0.7)
"""Range of the factor by which a clean target is shrunk."""

RESCALED = (0.4, 1.0)
LARGEST_GRAPHIC = 512

_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


def shrunk(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a clean target: the photograph (float32, (h, w, 3)) shrunk by area to 0.5..0.7 of its sides."""
    return shrink_by_area(photo, rng.uniform(*SHRUNK))


def rescaled(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the photograph as platforms scale it, to 0.4..1; every second one is enlarged again and stays soft."""
    factor = rng.uniform(*RESCALED)
    picture = _scaled(photo, factor, rng)
    if rng.random() < 0.5:
        picture = _scaled(picture, rng.uniform(1.0, 1 / factor), rng)
    return picture


def grey(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the photograph shrunk as `shrunk` does, in grey: the mean of its channels."""
    return _grey(shrunk(photo, rng))


def graphic(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return a rendered graphic, at most 512 pixels a side, that may show the photograph where pages have pictures."""
    height, width = (min(side, LARGEST_GRAPHIC) for side in photo.shape[:2])
    small = shrink_by_area(photo, min(1.0, 256 / max(photo.shape[:2])))
    picture = render_graphic(rng, max(height, width, 32), np.rint(small * 255).astype(np.uint8))
    return picture[:height, :width].astype(np.float32) / np.float32(255)


def toned(photo: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the photograph shrunk as `shrunk` does and brought to a tone that is to stay (see `mirl.degrade.tone`)."""
    return tone_negative(shrunk(photo, rng), rng)


def camera(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add camera noise; two in five are coded after it."""
    return code(add_camera_noise(clean, rng), rng, Codec(0.4, (60, 99), full_chroma_share=0.2, twice_share=0.1))


def coded(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add white noise of sigma 3..40 of 255 and code it as JPEG."""
    return code(add_any_noise(clean, rng, (3.0, 40.0), 0.15), rng, Codec(1.0, (50, 98)))


def grey_noise(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add noise of sigma 2..55 to a grey picture, which stays grey; three in ten are coded after it."""
    noisy = add_any_noise(clean, rng, equal_share=1.0)
    return _grey(code(noisy, rng, Codec(0.3, (50, 98))))


def rain(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add rain as photographs show it; a quarter are coded after it."""
    return code(add_photo_rain(clean, rng), rng, Codec(0.25, (60, 98)))


def haze(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add haze of any beta up to 0.35 with a tinted airlight; two in five are coded after it."""
    return code(add_haze(clean, rng, PHOTOGRAPHED), rng, Codec(0.4, (75, 98), twice_share=0.0))


def jpeg(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Code as JPEG at quality 12..98, a fifth twice."""
    return code(clean, rng, Codec())


def webp(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Code as lossy WebP at quality 12..98, a fifth twice."""
    return code(clean, rng, Codec(webp_share=1.0))


def platform_coding(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Code as JPEG or, three in ten, WebP at quality 20..95."""
    return code(clean, rng, Codec(0.85, (20, 95), webp_share=0.3))


def untouched(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what must stay as it is, as it is."""
    return clean


def coded_graphic(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Code half of them as JPEG or WebP at quality 40..98; the others stay as they are."""
    return code(clean, rng, Codec(0.5, (40, 98), full_chroma_share=0.5, webp_share=0.2))


def slightly_noisy(clean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add camera noise to half of them, and code two in five of all: their tone is to stay, whatever else there is."""
    noisy = add_camera_noise(clean, rng) if rng.random() < 0.5 else clean
    return code(noisy, rng, Codec(0.4, (60, 98)))


def _grey(image: np.ndarray) -> np.ndarray:
    return np.asarray(round_to_8_bits(image.mean(2, keepdims=True)).repeat(3, 2), np.float32)


def _scaled(image: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    height, width = (max(1, round(side * factor)) for side in image.shape[:2])
    scaled = resize(image, height, width, _FILTERS[rng.integers(len(_FILTERS))])
    return np.asarray(round_to_8_bits(scaled), np.float32)
