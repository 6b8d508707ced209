"""What an image file may be, decided by its content before a pixel is decoded: `mirl restore` and `mirl serve` share this.

A refusal is an ImageError with a `reason`, so that a service can answer without reading messages. The format is what the
bytes say, never the name; megapixels are width x height x frames of the header.
"""

import re
from typing import BinaryIO, Literal

import numpy as np
from PIL import ImageFile

from mirl.errors import MirlError

Reason = Literal["format", "damaged", "empty", "frames", "megapixels", "bits", "transparency", "unreadable", "size"]

MAX_MEGAPIXELS = 100.0
EXPECTED = "expected a still JPEG, PNG, WebP, TIFF or BMP image"

_MOST_FRAMES = 100  # pages of a TIFF are counted one by one, and a small file can chain millions of them
_MOST_SCANS = (
    100  # of a JPEG; encoders write about ten, and each takes time for the whole picture; libtiff has the same limit
)
_MOST_FILL = 65_536  # bytes of a JPEG that belong to no segment before its first scan; Pillow steps through them one by one
_MOST_SEGMENTS = 5000  # of a JPEG; 32 MB in the largest ones are about 500, and Pillow reads them one by one
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")  # of JPEG, those that stand alone left out
_SCAN, _END = 0xDA, 0xD9
_BITS_PER_SAMPLE = 258  # TIFF tag
_STARTS = {
    b"GIF8": "a GIF",
    b"%PDF": "a PDF",
    b"\xff\xd8": "a damaged or unusual JPEG",
    b"\x89PNG": "a damaged PNG",
    b"RIFF": "a damaged WebP or another RIFF file",
    b"II*\0": "a TIFF of an unusual layout, or damaged",
    b"MM\0*": "a TIFF of an unusual layout, or damaged",
    b"BM": "a damaged BMP",
}
_DAMAGED = (b"\xff\xd8", b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*", b"BM")


class ImageError(MirlError):
    """An image that is refused; `reason` says why in one word."""

    def __init__(self, reason: Reason, message: str):
        super().__init__(message)
        self.reason = reason


def check_start(stream: BinaryIO, name: str, max_megapixels: float) -> None:
    """Refuse what costs too much before `check_header` is asked: too many pixels of a WebP, too many scans of a JPEG.

    Opening a WebP takes memory for all its pixels; other formats take none. The stream stays where it was.
    """
    place = stream.tell()
    head = stream.read(30)
    stream.seek(place)
    if head.startswith(b"\xff\xd8"):
        _check_scans(stream.read(), name)
        stream.seek(place)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return
    if head[12:16] == b"VP8X":
        width, height = (1 + int.from_bytes(head[at : at + 3], "little") for at in (24, 27))
    elif head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width, height = (int.from_bytes(head[at : at + 2], "little") & 0x3FFF for at in (26, 28))
    _check_megapixels(width, height, 1, name, max_megapixels)


def check_header(image: ImageFile.ImageFile, name: str, max_megapixels: float) -> None:
    """Raise ImageError for an opened image that may not be decoded: empty, too large, several frames, too many bits."""
    frames = count_frames(image)
    if min(image.size) == 0:
        raise ImageError("empty", f"{name} is empty ({image.width}x{image.height} pixels); {EXPECTED}")
    _check_megapixels(image.width, image.height, frames, name, max_megapixels)
    if frames > 1:
        raise ImageError("frames", f"{name} has {frames} frames or pages; {EXPECTED}; save one of them by itself first")
    samples = set(np.atleast_1d(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)).tolist())
    deep_png = image.format == "PNG" and any(str(tile.args).endswith("16B") for tile in image.tile)
    grey16 = image.mode.startswith("I;16") and "transparency" not in image.info and samples <= {8, 16}
    if (deep_png or max(samples) > 8) and not grey16:
        raise ImageError(
            "bits",
            f"{name} has more than 8 bits a sample (mode {image.mode}), which only 16-bit grey "
            "without transparency can keep; convert it to 8 bits first",
        )


def count_frames(image: ImageFile.ImageFile) -> int:
    """Return the number of frames or pages, of a TIFF at most 100; a multi-picture JPEG counts as its photograph."""
    if image.format == "MPO":
        return 1
    if image.format != "TIFF":
        return int(getattr(image, "n_frames", 1))
    pages = 1
    try:
        while pages < _MOST_FRAMES:
            image.seek(pages)
            pages += 1
    except EOFError:
        pass
    image.seek(0)
    return pages


def describe_unknown(start: bytes) -> tuple[Reason, str]:
    """Say in words what a file that no decoder recognised starts like, and whether it is damaged or another format."""
    if not start:
        return "empty", "an empty file"
    if start[4:8] == b"ftyp":
        return "format", "a HEIC, AVIF or video file"
    if start.startswith(b"RIFF") and start[8:12] not in (b"", b"WEBP"):
        return "format", "a sound or video file"
    if re.search(rb"<svg|<\?xml", start):
        return "format", "an SVG or XML file"
    kind = next((kind for known, kind in _STARTS.items() if start.startswith(known)), "not an image of a known format")
    return "damaged" if start.startswith(_DAMAGED) else "format", kind


def _check_scans(content: bytes, name: str) -> None:
    """Walk the segments of a JPEG to its end, or to the scan, the segment or the byte of filling that is one too many."""
    segments, scans, at, fill, kind = 0, 0, 2, 0, 0
    while kind != _END and at < len(content):
        marker = _MARKER.search(content, at)
        begin, end = marker.span() if marker else (len(content), len(content))
        kind = marker[0][-1] if marker else _END
        fill += 0 if scans else begin - at
        segments, scans = segments + 1, scans + (kind == _SCAN)
        counts = (
            (scans, _MOST_SCANS, "scans"),
            (segments, _MOST_SEGMENTS, "segments"),
            (fill, _MOST_FILL, "bytes of filling"),
        )
        if waste := next((f"over {most} {what}" for count, most, what in counts if count > most), ""):
            raise ImageError("damaged", f"{name} is damaged or made to waste time ({waste}); export it again")
        at = end + int.from_bytes(content[end : end + 2], "big")


def _check_megapixels(width: int, height: int, frames: int, name: str, max_megapixels: float) -> None:
    megapixels = width * height * frames / 1e6
    if megapixels > max_megapixels:
        raise ImageError(
            "megapixels",
            f"{name} has {megapixels:.4g} megapixels, the limit is {max_megapixels:g}; "
            "make it smaller, or raise --max-megapixels",
        )
