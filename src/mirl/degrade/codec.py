"""Coding by the real codecs, through Pillow: JPEG and WebP, once or twice, on any phase of their block grids.

For stored pairs; training codes in tensors (`mirl.data.coding`). Pixels may differ between versions of
libjpeg-turbo and libwebp; with one version the same generator gives the same pixels.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

_BLOCK = 16
"""Pixels after which the grids of 4:2:0 JPEG and of WebP repeat."""

LARGEST_WEBP = 16383


@dataclass(frozen=True)
class Codec:
    """How often and how hard pictures are coded; shares are probabilities of a picture or of a pass.

    `quality` is a range of 1..100. JPEG subsamples chroma 4:2:0 except for `full_chroma_share` (4:4:4); lossy WebP
    always does. `twice_share` are coded again, at another quality, on another phase of the grid, as JPEG or WebP.
    """

    share: float = 1.0
    quality: tuple[int, int] = (12, 98)
    full_chroma_share: float = 0.3
    twice_share: float = 0.2
    webp_share: float = 0.0


def code(image: np.ndarray, rng: np.random.Generator, codec: Codec) -> np.ndarray:
    """Return `image` (float32, (h, w, 3), [0, 1]) as it comes back from the codec, or as it is; rounded to 8 bits."""
    pixels = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    if rng.random() < codec.share:
        for _ in range(2 if rng.random() < codec.twice_share else 1):
            pixels = _code_once(pixels, rng, codec)
    return pixels.astype(np.float32) / np.float32(255)


def code_jpeg(picture: Image.Image, quality: int, full_chroma: bool = False) -> Image.Image:
    """Code an RGB picture as JPEG, 4:2:0 or (full_chroma) 4:4:4, and decode it."""
    return _through(picture, "JPEG", quality=quality, subsampling=0 if full_chroma else 2)


def code_webp(picture: Image.Image, quality: int) -> Image.Image:
    """Code an RGB picture as lossy WebP and decode it."""
    return _through(picture, "WEBP", quality=quality, method=2)


def _code_once(pixels: np.ndarray, rng: np.random.Generator, codec: Codec) -> np.ndarray:
    """Code uint8 (h, w, 3) as a part of a larger picture would be: at a random place of the block grid."""
    height, width = pixels.shape[:2]
    down, across = (int(shift) for shift in rng.integers(0, _BLOCK, 2))
    padded = Image.fromarray(np.pad(pixels, ((down, 0), (across, 0), (0, 0)), mode="edge"))
    quality = int(rng.integers(codec.quality[0], codec.quality[1] + 1))
    webp, full_chroma = rng.random() < codec.webp_share, rng.random() < codec.full_chroma_share
    if webp and max(padded.size) <= LARGEST_WEBP:
        coded = code_webp(padded, quality)
    else:
        coded = code_jpeg(padded, quality, bool(full_chroma))
    return np.asarray(coded)[down : down + height, across : across + width]


def _through(picture: Image.Image, kind: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    with Image.open(buffer) as coded:
        return coded.convert("RGB")
