"""The one room where files become pixels and back: Pillow and numpy, no torch.

Pixels are float32 (h, w, 3) RGB in [0, 1]; alpha travels apart and is never restored. `photo.py` is the value
and how it is written, `read.py` how it is read, `limits.py` what is refused, `metadata.py` what a file carries besides
its pixels, `pixels.py` 8-bit rounding, modes, and the images and arrays of Python callers.
"""

from mirl.image.limits import MAX_MEGAPIXELS, ImageError
from mirl.image.photo import (
    CHOICES,
    FORMATS,
    KEEP,
    OTHER_PICTURES,
    SUFFIXES,
    Photo,
    check_format,
    check_quality,
    chosen_format,
    encode_photo,
    target_format,
    write_photo,
)
from mirl.image.pixels import as_pixels, cut_centre, quantise
from mirl.image.read import read_photo, read_pixels

__all__ = [
    "CHOICES",
    "FORMATS",
    "KEEP",
    "MAX_MEGAPIXELS",
    "OTHER_PICTURES",
    "SUFFIXES",
    "ImageError",
    "Photo",
    "as_pixels",
    "check_format",
    "check_quality",
    "chosen_format",
    "cut_centre",
    "encode_photo",
    "quantise",
    "read_photo",
    "read_pixels",
    "target_format",
    "write_photo",
]
