"""Files into photos, and what is refused."""

import io
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from PIL import Image, ImageFile, UnidentifiedImageError

from mirl.errors import MirlError, OutOfMemory, one_line
from mirl.image.limits import EXPECTED, MAX_MEGAPIXELS, ImageError, check_header, check_start, describe_unknown
from mirl.image.metadata import read_coding, read_exif
from mirl.image.photo import FORMATS, Photo
from mirl.image.pixels import Pixels, split

_TURNS = {  # EXIF orientation -> what makes it 1
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PHOTOMETRIC = 262  # TIFF tag


def read_photo(source: Path | bytes, max_megapixels: float = MAX_MEGAPIXELS) -> Photo:
    """Decode a file or its bytes; the content decides the format, never the name.

    CMYK is converted to sRGB, through its ICC profile when it has one, and written back as RGB. Palette and
    two-level images become RGB(A) and grey. Of a multi-picture JPEG (phones add depth or gain maps) the
    photograph is taken. Raises MirlError (an ImageError, with a reason) for what cannot be restored and
    written back faithfully: a missing or unreadable file, another format, more than one frame, more than
    `max_megapixels` (checked before decoding), damaged data, 16-bit colour, 12- or 32-bit, signed or floating-point samples;
    OutOfMemory where a sound file asks for more than there is.
    """
    name = "the image data" if isinstance(source, bytes) else str(source)
    try:
        # Pillow's warnings are silenced: size is checked below, damaged pixels raise, the rest is metadata.
        with _stream(source) as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_start(stream, name, max_megapixels)
            with Image.open(stream, formats=tuple(FORMATS)) as image:
                check_header(image, name, max_megapixels)
                return _decode(image, name, stream)
    except MirlError:
        raise
    except UnidentifiedImageError as error:
        with _stream(source) as stream:
            reason, kind = describe_unknown(stream.read(512))
        raise ImageError(reason, f"{name} is {kind}; {EXPECTED}; convert it first") from error
    except Image.DecompressionBombError as error:
        message = f"{name} has too many pixels: {one_line(error)}; make it smaller first"
        raise ImageError("megapixels", message) from error
    except MemoryError as error:
        raise OutOfMemory(f"not enough memory to decode {name}; close other programs or make it smaller first") from error
    except Exception as error:  # decoders raise nearly anything on damaged files
        if isinstance(error, OSError) and error.errno is not None:
            raise ImageError("unreadable", f"cannot read {name}: {error.strerror}; {EXPECTED}") from error
        message = f"{name} is damaged or truncated ({one_line(error)}); {EXPECTED}; export it again"
        raise ImageError("damaged", message) from error


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
