"""Files into photos, and what is refused."""

import io
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from mirl.errors import MirlError
from mirl.image.metadata import read_coding, read_exif
from mirl.image.photo import FORMATS, Photo
from mirl.image.pixels import Pixels, split

MAX_MEGAPIXELS = 100.0

_EXPECTED = "expected a still JPEG, PNG, WebP, TIFF or BMP image"
_TURNS = {  # EXIF orientation -> what makes it 1
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC = 258, 262  # TIFF tags
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


def read_photo(source: Path | bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Decode a file or its bytes; the content decides the format, never the name.

    CMYK is converted to sRGB, through its ICC profile when it has one, and written back as RGB. Palette and
    two-level images become RGB(A) and grey. Of a multi-picture JPEG (phones add depth or gain maps) the
    photograph is taken. Raises MirlError for what cannot be restored and written back faithfully: a missing
    or unreadable file, another format, more than one frame, more than `max_megapixels` (checked before
    decoding), damaged data, 16-bit colour, 12- or 32-bit, signed or floating-point samples.
    """
    name = "the image data" if isinstance(source, bytes) else str(source)
    try:
        # Pillow's warnings are silenced: size is checked below, damaged pixels raise, the rest is metadata.
        with _stream(source) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(stream, formats=tuple(FORMATS)) as image:
                _check_header(image, name, max_megapixels)
                return _decode(image, name, stream)
    except MirlError:
        raise
    except UnidentifiedImageError as error:
        raise MirlError(f"{name} is {_kind(source)}; {_EXPECTED}; convert it first") from error
    except Image.DecompressionBombError as error:
        raise MirlError(f"{name} has too many pixels: {_line(error)}; make it smaller first") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise MirlError(f"cannot read {name}: {error.strerror}; {_EXPECTED}") from error
        raise MirlError(f"{name} is damaged or truncated ({_line(error)}); {_EXPECTED}; export it again") from error


def read_pixels(path: Path, max_megapixels: float = MAX_MEGAPIXELS) -> Pixels:
    """Return the float32 (h, w, 3) pixels of an image file. Raises MirlError as `read_photo` does."""
    return read_photo(path, max_megapixels).pixels


def _stream(source: Path | bytes) -> AbstractContextManager[BinaryIO]:
    if isinstance(source, bytes):
        return nullcontext(io.BytesIO(source))
    file = source.open("rb")
    if file.seekable():
        return file
    with file:  # a pipe
        return nullcontext(io.BytesIO(file.read()))


def _check_header(image: ImageFile.ImageFile, name: str, max_megapixels: float) -> None:
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    megapixels = image.width * image.height * frames / 1e6
    if min(image.size) == 0:
        raise MirlError(f"{name} is empty ({image.width}x{image.height} pixels); {_EXPECTED}")
    if megapixels > max_megapixels:
        raise MirlError(
            f"{name} has {megapixels:.4g} megapixels, the limit is {max_megapixels:g}; "
            "make it smaller, or raise --max-megapixels"
        )
    if frames > 1:
        raise MirlError(f"{name} has {frames} frames or pages; {_EXPECTED}; save one of them by itself first")
    samples = set(np.atleast_1d(getattr(image, "tag_v2", {}).get(_BITS_PER_SAMPLE, 8)).tolist())
    deep_png = image.format == "PNG" and any(str(tile.args).endswith("16B") for tile in image.tile)
    grey16 = image.mode.startswith("I;16") and "transparency" not in image.info and samples <= {8, 16}
    if (deep_png or max(samples) > 8) and not grey16:
        raise MirlError(
            f"{name} has more than 8 bits a sample (mode {image.mode}), which only 16-bit grey "
            "without transparency can keep; convert it to 8 bits first"
        )


def _decode(image: ImageFile.ImageFile, name: str, stream: BinaryIO) -> Photo:
    coding = read_coding(image, stream)
    image.load()
    orientation, exif = read_exif(image)
    turned = image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
    pixels, alpha, grey, bits = split(turned, name)
    if bits == 16 and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0:  # white is 0: Pillow minds only 8 bits
        pixels = 1 - pixels
    icc = None if image.mode == "CMYK" else image.info.get("icc_profile")
    return Photo(pixels, alpha, "JPEG" if image.format == "MPO" else str(image.format), exif, icc, grey, bits, coding)


def _kind(source: Path | bytes) -> str:
    """Say in words what a file that Pillow did not recognise starts like."""
    with _stream(source) as stream:
        head = stream.read(512)
    if not head:
        return "an empty file"
    if head[4:8] == b"ftyp":
        return "a HEIC, AVIF or video file"
    if b"<svg" in head or b"<?xml" in head:
        return "an SVG or XML file"
    return next((kind for start, kind in _STARTS.items() if head.startswith(start)), "not an image of a known format")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
