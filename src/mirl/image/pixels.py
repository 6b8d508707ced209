"""Pixels as numbers: 8-bit rounding, Pillow's modes as floats and back, the arrays of Python callers."""

import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from mirl.errors import MirlError
from mirl.image.limits import ImageError

Pixels = NDArray[np.float32]

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601
_ROWS = 256  # large pictures are converted in bands of rows, to keep temporaries small


def quantise(pixels: Pixels) -> Pixels:
    """Clip to [0, 1] and round to the 256 levels k/255 of an 8-bit file, as float32."""
    return np.rint(np.clip(pixels, 0, 1) * np.float32(255)) / np.float32(255)


def cut_centre(pixels: Pixels, side: int) -> Pixels:
    """Return the middle of an image, at most `side` pixels high and wide."""
    height, width = (min(side, size) for size in pixels.shape[:2])
    top, left = (pixels.shape[0] - height) // 2, (pixels.shape[1] - width) // 2
    return np.ascontiguousarray(pixels[top : top + height, left : left + width])


def as_pixels(image: Any) -> tuple[Pixels, Callable[[Pixels], Any]]:
    """Return float32 (h, w, 3) pixels in [0, 1], and `back`, which makes the same kind from such pixels.

    Arrays: (h, w), (h, w, 3) or (h, w, 4), uint8, uint16, or floats in [0, 1]. Alpha comes back unchanged.
    PIL images keep their `info`; palette and two-level images come back as RGB(A) and L, CMYK as RGB. Raises
    MirlError for anything else.
    """
    if isinstance(image, Image.Image):
        return _pil_pixels(image)
    if not isinstance(image, np.ndarray):
        raise MirlError(f"expected a PIL image or a numpy array, found {type(image).__name__}; convert it first")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)) or image.size == 0:
        raise MirlError(f"expected an array of shape (h, w), (h, w, 3) or (h, w, 4), found {image.shape}")
    if image.dtype.kind != "f" and (image.dtype.kind, image.dtype.itemsize) not in (("u", 1), ("u", 2)):
        raise MirlError(f"expected uint8, uint16 or floats in [0, 1], found {image.dtype}; convert the array first")
    dtype, grey, fractions = image.dtype, image.ndim == 2, image.dtype.kind == "f"
    if fractions and not (image.min() >= -1e-3 and image.max() <= 1 + 1e-3):
        low, high = float(image.min()), float(image.max())
        raise MirlError(f"expected floats in [0, 1], found {low:.6g} to {high:.6g}; scale the array first")
    colours = np.repeat(image[..., None], 3, axis=2) if grey else image[..., :3]
    alpha = None if grey else image[..., 3:].copy()

    def back(restored: Pixels) -> NDArray[Any]:
        values = restored @ _LUMA if grey else restored
        values = values.astype(dtype) if fractions else _integers(values, dtype)
        return values if alpha is None else np.concatenate([values, alpha], axis=2)

    return np.clip(colours.astype(np.float32), 0, 1) if fractions else _fractions(colours), back


def split(image: Image.Image, name: str) -> tuple[Pixels, Pixels | None, bool, int]:
    """Return pixels (h, w, 3), alpha (h, w) or None, whether the image is grey, and its bits (8 or 16).

    Raises ImageError, naming the image, for a mode that has no faithful 8-bit RGB or 16-bit grey form.
    """
    mode = image.mode
    if mode.startswith("I;16") and "transparency" not in image.info:
        grey16 = _fractions(np.asarray(image).astype(np.uint16))
        return np.repeat(grey16[..., None], 3, axis=2), None, True, 16
    if mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "YCbCr", "CMYK"):
        raise ImageError("bits", f"{name} has mode {mode}, which cannot be restored; convert it to 8-bit RGB or L first")
    grey, clear = mode in ("1", "L", "LA"), image.has_transparency_data
    if mode == "CMYK":
        image = _rgb_of_cmyk(image)
    else:
        image = image.convert(("LA" if clear else "L") if grey else ("RGBA" if clear else "RGB"))
    values = np.atleast_3d(np.asarray(image))
    colours = np.repeat(values[..., :1], 3, axis=2) if grey else values[..., :3]
    return _fractions(colours), _fractions(values[..., -1]) if clear else None, grey, 8


def join(pixels: Pixels, alpha: Pixels | None, grey: bool, bits: int) -> Image.Image:
    """Return an L, LA, RGB, RGBA or I;16 image: the inverse of `split`, rounding to the nearest level.

    Raises MirlError for pixels that are no numbers.
    """
    values = _integers(pixels @ _LUMA if grey else pixels, np.dtype(np.uint16 if bits == 16 else np.uint8))
    image = Image.fromarray(values)
    if alpha is not None:
        image.putalpha(Image.fromarray(_integers(alpha, np.dtype(np.uint8))))
    return image


def _pil_pixels(image: Image.Image) -> tuple[Pixels, Callable[[Pixels], Image.Image]]:
    name = f"the {image.mode} image"
    if min(image.size) == 0:
        raise MirlError(f"{name} is empty ({image.width}x{image.height} pixels); expected at least one pixel")
    try:
        pixels, alpha, grey, bits = split(image, name)
    except OSError as error:  # opened lazily by the caller, decoded only now
        raise MirlError(f"{name} cannot be decoded ({error}); load or export it again") from error
    outdated = ("transparency", "icc_profile") if image.mode == "CMYK" else ("transparency",)
    info = {key: value for key, value in image.info.items() if key not in outdated}

    def back(restored: Pixels) -> Image.Image:
        result = join(restored, alpha, grey, bits)
        result.info.update(info)
        return result

    return pixels, back


def _rgb_of_cmyk(image: Image.Image) -> Image.Image:
    """Convert to sRGB through the image's ICC profile, or as Pillow does when it has none or a broken one."""
    if icc := image.info.get("icc_profile"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target = ImageCms.createProfile("sRGB")
            if (converted := ImageCms.profileToProfile(image, source, target, outputMode="RGB")) is not None:
                return converted
        except (ImageCms.PyCMSError, OSError):
            pass
    return image.convert("RGB")


def _fractions(values: NDArray[Any]) -> Pixels:
    """Divide unsigned integers by the largest value of their type."""
    return np.divide(values, np.float32(np.iinfo(values.dtype).max), dtype=np.float32)


def _integers(values: Pixels, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Clip to [0, 1] and round to the levels of an unsigned type, a band of rows at a time."""
    result = np.empty(values.shape, dtype)
    scale = np.float32(np.iinfo(dtype).max)
    for top in range(0, len(values), _ROWS):
        band = values[top : top + _ROWS]
        if not np.isfinite(band).all():
            raise MirlError("the pixels hold NaN or infinite values; expected [0, 1]; check what made them")
        result[top : top + _ROWS] = np.rint(np.clip(band, 0, 1) * scale)
    return result
