"""Malformed and odd image files: every class by name, and mutations of sound files of all formats, by seed."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def encoded(format: str, image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def noise(mode: str = "RGB", size: tuple[int, int] = (24, 18)) -> Image.Image:
    rng = np.random.default_rng(1)
    return Image.fromarray(rng.integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)).convert(mode)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(width: int, height: int, bits: int, colour: int, data: bytes, *extra: bytes) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + header
        + b"".join(extra)
        + png_chunk(b"IDAT", zlib.compress(data, 9))
        + png_chunk(b"IEND", b"")
    )


def webp_of(width: int, height: int) -> bytes:
    """A WebP whose extended header promises width x height."""
    size = b"".join((side - 1).to_bytes(3, "little") for side in (width, height))
    body = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + size
    return b"RIFF" + struct.pack("<I", len(body)) + body


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header promises width x height."""
    content = bytearray(encoded("JPEG", noise()))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def bmp_of(width: int, height: int) -> bytes:
    content = bytearray(encoded("BMP", noise()))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


def tiff_of(width: int, height: int) -> bytes:
    content = encoded("TIFF", noise())
    for tag, old, new in ((256, 24, width), (257, 18, height)):
        entry = struct.pack("<HHI", tag, 4, 1) + struct.pack("<I", old)
        assert entry in content
        content = content.replace(entry, entry[:8] + struct.pack("<I", new))
    return content


def jpeg_of_scans(count: int, side: int = 64) -> bytes:
    """A sound progressive JPEG whose last scan comes `count` times more: each costs time for every pixel."""
    content = encoded("JPEG", Image.new("RGB", (side, side), "teal"), progressive=True)
    tables = content.rindex(b"\xff\xc4", 0, content.rindex(b"\xff\xda"))
    return content[:-2] + content[tables:-2] * count + content[-2:]


def tiff_chain(pages: int) -> bytes:
    """A TIFF of many pages of one pixel."""
    content, place = b"II*\0" + struct.pack("<I", 8), 8
    entries = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 0), (278, 1), (279, 1)]
    length = 2 + 12 * len(entries) + 4
    for page in range(pages):
        place += length
        packed = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in entries)
        content += struct.pack("<H", len(entries)) + packed + struct.pack("<I", 0 if page == pages - 1 else place)
    return content


def named() -> dict[str, tuple[bytes, int | None]]:
    """Return every class: its bytes and the status the API answers; None where 200 and 4xx are both right."""
    rgb, frames = noise(), [noise(), noise("L").convert("RGB")]
    animated = {"save_all": True, "append_images": frames[1:]}
    jpeg, png = encoded("JPEG", rgb, quality=90), encoded("PNG", rgb)
    deep = np.random.default_rng(2).integers(0, 65536, (18, 24), dtype=np.uint16)
    rows = b"".join(b"\0" + bytes(24 * 6) for _ in range(18))
    exif = b"Exif\0\0II*\0\xff\xff\xff\x7f" + bytes(range(200))
    svg = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
    text_bomb = png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
    icc_bomb = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200_000_000), 9))
    return {
        "empty": (b"", 400),
        "text": (b"hello world " * 9, 415),
        "SVG": (svg, 415),
        "XML": (b"<?xml version='1.0'?>" + svg, 415),
        "GIF": (encoded("GIF", rgb), 415),
        "animated GIF": (encoded("GIF", frames[0], **animated), 415),
        "PDF": (b"%PDF-1.7\n1 0 obj", 415),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(40), 415),
        "ICO": (encoded("ICO", rgb), 415),
        "PPM": (encoded("PPM", rgb), 415),
        "EPS": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 415),
        "animated PNG": (encoded("PNG", frames[0], **animated), 422),
        "animated WebP": (encoded("WEBP", frames[0], **animated), 422),
        "TIFF of two pages": (encoded("TIFF", frames[0], **animated), 422),
        "TIFF of 3000 pages": (tiff_chain(3000), 422),
        "truncated JPEG": (jpeg[: len(jpeg) // 2], 422),
        "truncated PNG": (png[: len(png) // 2], 422),
        "truncated WebP": (encoded("WEBP", rgb)[:200], 422),
        "truncated TIFF": (encoded("TIFF", rgb)[:300], None),
        "truncated BMP": (encoded("BMP", rgb)[:300], 422),
        "CMYK JPEG": (encoded("JPEG", rgb.convert("CMYK")), 200),
        "CMYK TIFF": (encoded("TIFF", rgb.convert("CMYK")), 200),
        "16-bit grey PNG": (encoded("PNG", Image.fromarray(deep)), 200),
        "16-bit colour PNG": (png_of(24, 18, 16, 2, rows), 422),
        "floating TIFF": (encoded("TIFF", Image.fromarray(np.zeros((9, 9), np.float32))), 422),
        "palette PNG": (encoded("PNG", rgb.quantize(16)), 200),
        "palette with transparency": (encoded("PNG", rgb.quantize(4), transparency=1), 200),
        "alpha PNG": (encoded("PNG", noise("RGBA")), 200),
        "alpha WebP": (encoded("WEBP", noise("RGBA")), 200),
        "two-level PNG": (encoded("PNG", rgb.convert("1")), 200),
        "broken EXIF": (encoded("JPEG", rgb, exif=exif), 200),
        "broken ICC": (encoded("JPEG", rgb, icc_profile=b"no profile" * 50), 200),
        "broken ICC of CMYK": (encoded("JPEG", rgb.convert("CMYK"), icc_profile=b"no profile" * 50), 200),
        "polyglot of JPEG and HTML": (jpeg + svg, 200),
        "polyglot of PNG and ZIP": (png + b"PK\x03\x04" + bytes(40), 200),
        "polyglot of GIF and JPEG": (b"GIF89a/*" + jpeg, 415),
        "bomb PNG": (png_of(60_000, 60_000, 8, 2, bytes(1_000_000)), 413),
        "bomb PNG below Pillow's limit": (png_of(12_000, 12_000, 1, 0, bytes(1_000_000)), 413),
        "bomb WebP": (webp_of(16_383, 16_383), 413),
        "bomb JPEG": (jpeg_of(65_000, 65_000), 413),
        "bomb BMP": (bmp_of(30_000, 30_000), 413),
        "bomb TIFF": (tiff_of(60_000, 60_000), 413),
        "JPEG of 80 scans": (jpeg_of_scans(70), 200),
        "JPEG of 10000 scans": (jpeg_of_scans(10_000), 422),
        "scans hidden behind a lone marker": (jpeg_of_scans(10_000).replace(b"\xff\xda", b"\xff\x01\xff\xda"), 422),
        "JPEG of 2 MB of filling": (b"\xff\xd8" + b"\xff" * 2_000_000 + jpeg[2:], 422),
        "JPEG of 2 MB of filling without end": (b"\xff\xd8" + b"\xff" * 2_000_000, 422),
        "JPEG of 2 MB of nothing": (b"\xff\xd8" + bytes(2_000_000) + jpeg[2:], 422),
        "JPEG of 100000 segments": (b"\xff\xd8" + b"\xff\xe5\0\2" * 100_000 + jpeg[2:], 422),
        "JPEG of 1000 segments": (b"\xff\xd8" + b"\xff\xfe\0\2" * 1000 + jpeg[2:], 200),
        "CIELab TIFF": (encoded("TIFF", rgb.convert("LAB")), 422),
        "broken EXIF of a PNG": (encoded("PNG", rgb, exif=exif), 200),
        "broken ICC of a WebP": (encoded("WEBP", rgb, icc_profile=b"no profile" * 50), 200),
        "WAV": (b"RIFF\x24\0\0\0WAVEfmt " + bytes(24), 415),
        "JPEG of a little filling": (b"\xff\xd8" + b"\xff" * 2000 + jpeg[2:], 200),
        "bomb in text": (png_of(24, 18, 8, 0, bytes(25 * 18), text_bomb), None),
        "bomb in ICC": (png_of(24, 18, 8, 0, bytes(25 * 18), icc_bomb), None),
        "PNG of no pixels": (png_of(0, 9, 8, 0, b""), None),
        "BMP of negative size": (b"BM" + bytes(12) + struct.pack("<IiiHHIIiiII", 40, -9, -9, 1, 24, 0, 0, 0, 0, 0, 0), None),
        "one pixel": (encoded("PNG", noise(size=(1, 1))), 200),
    }


def mutations(count: int, seed: int = 0) -> Iterator[bytes]:
    """Yield `count` damaged files: bytes flipped, cut, repeated, joined, numbers set to extremes; formats in turns."""
    rng = np.random.default_rng(seed)
    modes = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "RGBA", "L", "LA", "1"), "WEBP": ("RGB", "RGBA"),
             "TIFF": ("RGB", "L", "CMYK", "RGBA"), "BMP": ("RGB", "L")}  # fmt: skip
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 3
    sound = {
        format: [encoded(format, noise(mode), **({} if format == "BMP" else {"exif": exif})) for mode in modes[format]]
        for format in FORMATS
    }
    for number in range(count):
        files = sound[FORMATS[number % len(FORMATS)]]
        data = bytearray(files[int(rng.integers(len(files)))])
        head = min(len(data), 400)  # where headers are
        for _ in range(int(rng.integers(1, 5))):
            at = int(rng.integers(head if rng.random() < 0.7 else len(data)))
            kind = int(rng.integers(6))
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[at : at + 4] = int(rng.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])).to_bytes(4, "big")
            elif kind == 2:
                data = data[: max(at, 8)]
            elif kind == 3:
                data[at:at] = data[at : at + int(rng.integers(1, 64))]
            elif kind == 4:
                del data[at : at + int(rng.integers(1, 32))]
            else:
                data[at : at + 8] = rng.integers(0, 256, 8, dtype=np.uint8).tobytes()
            head = max(1, min(len(data), 400))
            data = data or bytearray(b"\0")
        yield bytes(data)
