"""A decoded photo, and how it is encoded and written."""

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirl.errors import MirlError, OutOfMemory
from mirl.files import write_bytes
from mirl.image.limits import ImageError
from mirl.image.metadata import Coding
from mirl.image.pixels import Pixels, join

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
}
SUFFIXES = {suffix: name for name, suffixes in FORMATS.items() for suffix in suffixes}
OTHER_PICTURES = frozenset(
    (".heic", ".heif", ".avif", ".gif", ".jxl", ".jp2", ".svg", ".psd", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf")
)  # suffixes of pictures that are not read
KEEP = "keep"
CHOICES = (KEEP, *(name.lower() for name in FORMATS))  # what a user may ask for, everywhere by these words
_QUALITY = 95
_WEBP_METHOD = 3  # Chromium's: the page then saves the same pixels
_LARGEST_SIDE = {"JPEG": 65_500, "WEBP": 16_383}


@dataclass(frozen=True, eq=False)
class Photo:
    """A decoded image: `pixels` float32 (h, w, 3) RGB in [0, 1], `alpha` float32 (h, w) in [0, 1] or None.

    `format` is a key of FORMATS. `grey` photos came with one channel and are written with one (BT.601 luma);
    `bits` is 16 for 16-bit grey, else 8. The orientation is applied, so `exif` says 1; a broken EXIF block is
    dropped.
    """

    pixels: Pixels
    alpha: Pixels | None = None
    format: str = "PNG"
    exif: bytes | None = None
    icc: bytes | None = None
    grey: bool = False
    bits: int = 8
    coding: Coding = field(default_factory=Coding)


def chosen_format(choice: str) -> str | None:
    """Return the key of FORMATS that one of CHOICES stands for, None for "keep". Raises MirlError for another word."""
    if choice not in CHOICES:
        raise MirlError(f"--format must be one of {', '.join(CHOICES)}, found {choice!r}")
    return None if choice == KEEP else choice.upper()


def check_quality(quality: int | None) -> None:
    """Raise MirlError for a quality that is neither None nor 1 to 100."""
    if quality is not None and not 1 <= quality <= 100:
        raise MirlError(f"--quality must lie between 1 and 100, found {quality}")


def check_format(photo: Photo, format: str, name: str = "the result") -> None:
    """Raise MirlError, naming the photo, when `format` would lose its transparency or cannot hold its size."""
    if format in ("JPEG", "BMP") and photo.alpha is not None and photo.alpha.min() < 1:
        raise ImageError(
            "transparency", f"{name}: {format} cannot hold the photo's transparency; choose png, webp or tiff instead"
        )
    height, width = photo.pixels.shape[:2]
    if max(height, width) > (most := _LARGEST_SIDE.get(format, 1 << 31)):
        size = f"{width}x{height} pixels"
        raise ImageError("size", f"cannot write {size} as {format}: a side is beyond {most}; choose another format")


def target_format(photo: Photo, path: Path) -> str:
    """Return the format `write_photo` would use: the one `path`'s suffix names, else the photo's own.

    Raises MirlError when that format would lose the photo's transparency or cannot hold its size.
    """
    name = SUFFIXES.get(path.suffix.lower(), photo.format)
    check_format(photo, name, str(path))
    return name


def write_photo(photo: Photo, path: Path, quality: int | None = None) -> None:
    """Write the photo in one step, as `target_format` says. Raises MirlError, leaving no partial file."""
    write_bytes(path, encode_photo(photo, target_format(photo, path), quality))


def encode_photo(photo: Photo, format: str | None = None, quality: int | None = None) -> bytes:
    """Encode as `format`, by default the photo's own.

    JPEG keeps its tables and subsampling from quality 90 up, else quality 95; WebP stays lossless or is
    quality 95. A `quality` of 1 to 100 replaces both, and concerns no other format. ICC profile, EXIF and
    resolution go along where the format has a place for them (BMP: only resolution). 16-bit grey stays so in
    PNG and TIFF and is rounded to 8 bits elsewhere. Raises MirlError for an unknown format, a quality outside
    1 to 100, transparency that JPEG or BMP cannot hold and a size that the format cannot hold.
    """
    format = format or photo.format
    if format not in FORMATS:
        raise MirlError(f"cannot write the format {format!r}; expected one of {', '.join(FORMATS)}")
    check_quality(quality)
    check_format(photo, format)
    alpha = None if format in ("JPEG", "BMP") else photo.alpha
    image = join(photo.pixels, alpha, photo.grey, photo.bits if format in ("PNG", "TIFF") else 8)
    options = _options(photo, format, quality)
    size = f"{image.width}x{image.height} pixels"
    failure: Exception | None = None
    for unwritable in (
        (),
        ("exif",),
        ("exif", "icc_profile"),
    ):  # metadata that cannot be written costs no photo
        kept = {key: value for key, value in options.items() if key not in unwritable}
        buffer = io.BytesIO()
        try:
            image.save(buffer, format, **kept)
            return buffer.getvalue()
        except MemoryError as error:
            raise OutOfMemory(f"not enough memory to write {size} as {format}; close other programs") from error
        except Exception as error:
            failure = error
    raise ImageError("size", f"cannot write {size} as {format}: {failure}; choose another format") from failure


def _options(photo: Photo, format: str, quality: int | None) -> dict[str, Any]:
    coding = photo.coding
    options: dict[str, Any] = {"exif": photo.exif, "icc_profile": photo.icc, "dpi": coding.dpi}
    if format == "JPEG" and quality is None and coding.jpeg_tables:
        options |= {"qtables": coding.jpeg_tables, "subsampling": coding.jpeg_subsampling}
    elif format == "JPEG":
        options["quality"] = quality or _QUALITY
    elif format == "WEBP" and quality is None and coding.webp_lossless:
        options |= {"lossless": True, "quality": _QUALITY, "exact": True}
    elif format == "WEBP":
        options |= {"quality": quality or _QUALITY, "exact": True, "method": _WEBP_METHOD}
    elif format == "TIFF":
        options["compression"] = coding.tiff_compression
    return {key: value for key, value in options.items() if value is not None}
