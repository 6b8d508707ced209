"""What web platforms do to a photo: shrink it, code it as JPEG or WebP, show it enlarged, code it once more.

The codecs are the real ones, through Pillow, so pixels may differ between versions of libjpeg-turbo and
libwebp; with one version the same generator gives the same pixels.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from mirl.degrade.codec import LARGEST_WEBP, code_jpeg, code_webp

_FILTERS = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS)


@dataclass(frozen=True)
class WebStrength:
    """How hard a platform treats a photo; shares are probabilities per image.

    `factor` is the range of the smaller copy's scale, `quality` that of the codecs. JPEG subsamples chroma
    4:2:0 except for `full_chroma_share` (4:4:4); lossy WebP always does. A second coding sees the picture on
    a grid shifted by 1 to 7 pixels.
    """

    factor: tuple[float, float] = (0.4, 1.0)
    shrink_share: float = 0.5
    quality: tuple[int, int] = (10, 90)
    webp_share: float = 0.3
    full_chroma_share: float = 0.2
    second_coding_share: float = 0.4


PLATFORMS = WebStrength()


def pass_through_web(clean: np.ndarray, rng: np.random.Generator, strength: WebStrength = PLATFORMS) -> np.ndarray:
    """Return `clean` (float32, (h, w, 3), [0, 1]) as it comes back from a platform, same size."""
    picture = Image.fromarray(np.rint(clean.clip(0, 1) * 255).astype(np.uint8))
    size = picture.size
    if rng.random() < strength.shrink_share:
        factor = rng.uniform(*strength.factor)
        small = max(1, round(size[0] * factor)), max(1, round(size[1] * factor))
        picture = picture.resize(small, _FILTERS[rng.integers(len(_FILTERS))])
    picture = _draw_coding(picture, rng, strength)
    if picture.size != size:
        picture = picture.resize(size, _FILTERS[rng.integers(len(_FILTERS))])
    if rng.random() < strength.second_coding_share:
        shift_x, shift_y = (int(n) for n in rng.integers(1, 8, 2))
        padded = np.pad(np.asarray(picture), ((shift_y, 0), (shift_x, 0), (0, 0)), mode="edge")
        coded = _draw_coding(Image.fromarray(padded), rng, strength)
        picture = coded.crop((shift_x, shift_y, shift_x + size[0], shift_y + size[1]))
    return np.asarray(picture, np.float32) / 255


def _draw_coding(picture: Image.Image, rng: np.random.Generator, strength: WebStrength) -> Image.Image:
    quality = int(rng.integers(strength.quality[0], strength.quality[1] + 1))
    webp, full_chroma = rng.random() < strength.webp_share, rng.random() < strength.full_chroma_share
    if webp and max(picture.size) <= LARGEST_WEBP:
        return code_webp(picture, quality)
    return code_jpeg(picture, quality, bool(full_chroma))
