"""What a file carries besides its pixels: EXIF, and how it was compressed."""

import struct
from dataclasses import dataclass
from typing import BinaryIO

from PIL import Image, JpegImagePlugin

_ORIENTATION = 0x0112
# Descriptive EXIF tags of a TIFF; its other tags say where that file keeps its pixels.
_TIFF_TAGS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
_EXIF_IFDS = (0x8769, 0x8825)  # exposure, position
_INTEROP = 0xA005  # an offset into the old file
_LOSSLESS_TIFF = ("raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits")
_JPEG_LUMA_SUM = 3685  # sum of the luminance table of the JPEG standard (annex K.1), which is quality 50
_QUALITY_90 = 0.2  # libjpeg scales that table by 2 - quality / 50


@dataclass(frozen=True)
class Coding:
    """How a file was compressed, as far as it is worth repeating; the defaults where Pillow cannot tell.

    A JPEG's tables are kept from quality 90 up only: coarser ones would put back the artefacts just removed.
    """

    jpeg_tables: tuple[tuple[int, ...], ...] | None = None
    jpeg_subsampling: int = -1
    webp_lossless: bool = False
    tiff_compression: str = "tiff_adobe_deflate"
    dpi: tuple[float, float] | None = None


def read_exif(image: Image.Image) -> tuple[int, bytes | None]:
    """Return the orientation (1 to 8) still to apply and the EXIF block after that; (1, None) if broken.

    Call it after `image.load()`: Pillow turns TIFFs by itself.
    """
    try:
        exif = image.getexif()
        orientation = int(exif.get(_ORIENTATION, 1))
        raw = image.info.get("exif")
        if raw and image.format != "TIFF":
            return orientation, _upright(raw)
        kept = Image.Exif()
        for tag in _TIFF_TAGS:
            if tag in exif:
                kept[tag] = exif[tag]
        for tag in _EXIF_IFDS:
            if values := exif.get_ifd(tag):
                kept[tag] = {key: value for key, value in values.items() if key != _INTEROP}
        return orientation, kept.tobytes() if len(kept) else None
    except Exception:  # Pillow raises nearly anything on a broken block, and the picture does not need it
        return 1, None


def read_coding(image: Image.Image, stream: BinaryIO) -> Coding:
    """Return how the opened `image` was compressed; `stream` is its file."""
    across, down = (float(value) for value in image.info.get("dpi", (0, 0)))
    dpi = (across, down) if 0 < across < 1e5 and 0 < down < 1e5 else None
    if isinstance(image, JpegImagePlugin.JpegImageFile) and image.mode in ("L", "RGB"):
        tables = tuple(tuple(image.quantization[key]) for key in sorted(image.quantization))
        if tables and sum(tables[0]) <= _QUALITY_90 * 1.02 * _JPEG_LUMA_SUM:  # 2 % for its rounding
            return Coding(tables, JpegImagePlugin.get_sampling(image), dpi=dpi)
    compression = image.info.get("compression")
    if image.format == "TIFF" and compression in _LOSSLESS_TIFF:
        return Coding(tiff_compression=compression, dpi=dpi)
    return Coding(webp_lossless=image.format == "WEBP" and _webp_lossless(stream), dpi=dpi)


def _upright(exif: bytes) -> bytes:
    """Set the orientation to 1 and unlink the thumbnail (it shows the degraded photo), no other byte."""
    data = bytearray(exif.removeprefix(b"Exif\0\0"))
    order = {b"II*\0": "<", b"MM\0*": ">"}[bytes(data[:4])]
    (start,) = struct.unpack_from(f"{order}I", data, 4)
    (count,) = struct.unpack_from(f"{order}H", data, start)
    end = start + 2 + 12 * count
    for entry in range(start + 2, end, 12):
        if struct.unpack_from(f"{order}H", data, entry)[0] == _ORIENTATION:
            struct.pack_into(f"{order}HHIHH", data, entry, _ORIENTATION, 3, 1, 1, 0)
    if end + 4 <= len(data):
        struct.pack_into(f"{order}I", data, end, 0)
    return b"Exif\0\0" + bytes(data)


def _webp_lossless(stream: BinaryIO) -> bool:
    """Walk the RIFF chunks to the one that holds the picture."""
    place, at = stream.tell(), 12
    while True:
        stream.seek(at)
        chunk = stream.read(8)
        if len(chunk) < 8 or chunk[:4] in (b"VP8 ", b"VP8L"):
            stream.seek(place)
            return chunk[:4] == b"VP8L"
        (size,) = struct.unpack("<I", chunk[4:])
        at += 8 + size + size % 2
