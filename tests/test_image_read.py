"""Every format and mode that is read, and every file that is refused in one line."""

import io
import os
import struct
import threading
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from mirl.errors import MirlError
from mirl.image import quantise, read_photo, read_pixels

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[..., 0].copy()
GREY16 = np.random.default_rng(1).integers(0, 65536, (5, 7), dtype=np.uint16)
ALPHA = np.random.default_rng(2).integers(0, 256, (5, 7), dtype=np.uint8)
LOSSLESS = ("PNG", "TIFF", "BMP", "WEBP")


def encoded(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}) | options)
    return buffer.getvalue()


def rgba() -> Image.Image:
    return Image.fromarray(np.dstack([RGB, ALPHA]))


def png(width: int, height: int, depth: int, colour: int, raw: bytes, extra: bytes = b"") -> bytes:
    """A PNG made by hand, for the kinds Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    middle = chunk(extra[:4], extra[4:]) if extra else b""
    return b"\x89PNG\r\n\x1a\n" + header + middle + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def ink_profile() -> bytes:
    """A small valid CMYK ICC profile: no ink is white, black ink is black, any other ink is mid grey."""
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lightness = [0 if ink[3] else 128 if any(ink) else 255 for ink in inks]
    identity = b"".join(struct.pack(">i", value) for value in (65536, 0, 0, 0, 65536, 0, 0, 0, 65536))
    table = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + bytes(range(256)) * 4
    table += b"".join(bytes([value, 128, 128]) for value in lightness) + bytes(range(256)) * 3
    white = struct.pack(">3i", 63190, 65536, 54061)
    name = b"test inks\0"
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">I", len(name)) + name + bytes(78),
        b"A2B0": table,
        b"wtpt": b"XYZ " + bytes(4) + white,
    }
    directory, body = struct.pack(">I", len(tags)), b""
    for tag, data in tags.items():
        directory += tag + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(directory) + len(body)
    head = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + white
    return head.ljust(128, b"\0") + directory + body


@pytest.mark.parametrize("format", LOSSLESS)
def test_lossless_formats_give_the_exact_pixels(format):
    photo = read_photo(encoded(Image.fromarray(RGB), format))
    assert (photo.format, photo.grey, photo.bits, photo.alpha) == (format, False, 8, None)
    assert photo.pixels.dtype == np.float32
    np.testing.assert_array_equal(photo.pixels, RGB.astype(np.float32) / np.float32(255))


@pytest.mark.parametrize("name", ["photo.png", "photo.jpg", "photo", "photo.txt"])
def test_the_content_decides_the_format_not_the_name(tmp_path, name):
    (tmp_path / name).write_bytes(encoded(Image.fromarray(RGB), "BMP"))
    assert read_photo(tmp_path / name).format == "BMP"
    np.testing.assert_array_equal(read_pixels(tmp_path / name), quantise(RGB.astype(np.float32) / 255))


def test_jpeg_is_close_to_what_was_written():
    smooth = np.linspace(0, 255, 32 * 32 * 3).reshape(32, 32, 3).astype(np.uint8)
    photo = read_photo(encoded(Image.fromarray(smooth), "JPEG", quality=100, subsampling=0))
    assert photo.format == "JPEG"
    assert np.abs(photo.pixels * 255 - smooth).max() <= 3


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
def test_alpha_is_apart_and_exact(format):
    photo = read_photo(encoded(rgba(), format))
    np.testing.assert_array_equal(np.rint(photo.pixels * 255), RGB)
    np.testing.assert_array_equal(np.rint(photo.alpha * 255), ALPHA)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_grey_with_alpha_stays_grey(format):
    photo = read_photo(encoded(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)]), format))
    assert photo.grey
    np.testing.assert_array_equal(np.rint(photo.pixels * 255), np.dstack([GREY] * 3))
    np.testing.assert_array_equal(np.rint(photo.alpha * 255), ALPHA)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "JPEG"])
def test_one_channel_is_grey(format):
    photo = read_photo(encoded(Image.fromarray(np.full((5, 7), 77, np.uint8)), format))
    assert photo.grey
    np.testing.assert_array_equal(np.rint(photo.pixels * 255), np.full((5, 7, 3), 77))


def test_two_levels_become_grey():
    levels = Image.fromarray(GREY).point(lambda value: 255 * (value > 127)).convert("1")
    photo = read_photo(encoded(levels, "PNG"))
    assert (photo.grey, photo.bits) == (True, 8)
    np.testing.assert_array_equal(photo.pixels[..., 0], GREY > 127)


def test_palettes_become_rgb_and_their_transparent_entry_alpha():
    image = Image.fromarray(RGB).quantize(4)
    opaque = read_photo(encoded(image, "PNG"))
    clear = read_photo(encoded(image, "PNG", transparency=1))
    np.testing.assert_array_equal(np.rint(opaque.pixels * 255), np.asarray(image.convert("RGB")))
    assert opaque.alpha is None
    np.testing.assert_array_equal(clear.alpha == 0, np.asarray(image) == 1)
    assert not clear.grey


@pytest.mark.parametrize(("image", "key"), [(RGB, tuple(RGB[2, 3].tolist())), (GREY, int(GREY[2, 3]))])
def test_a_transparent_colour_becomes_alpha(image, key):
    photo = read_photo(encoded(Image.fromarray(image), "PNG", transparency=key))
    assert photo.alpha[2, 3] == 0
    assert photo.alpha.max() == 1


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_keeps_sixteen_bits(format):
    photo = read_photo(encoded(Image.fromarray(GREY16), format))
    assert (photo.grey, photo.bits) == (True, 16)
    np.testing.assert_array_equal(np.rint(photo.pixels * 65535), np.dstack([GREY16] * 3))


def test_sixteen_bit_tiff_whose_white_is_zero_is_not_inverted():
    negative = encoded(Image.fromarray(65535 - GREY16), "TIFF", tiffinfo={262: 0})
    np.testing.assert_array_equal(np.rint(read_photo(negative).pixels[..., 0] * 65535), GREY16)


def test_big_endian_sixteen_bit_tiff_is_read():
    image = Image.frombytes("I;16B", (7, 5), GREY16.astype(">u2").tobytes())
    np.testing.assert_array_equal(np.rint(read_photo(encoded(image, "TIFF")).pixels[..., 0] * 65535), GREY16)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_and_comes_out_as_srgb(format):
    inks = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    plain = read_photo(encoded(inks, format))
    profiled = read_photo(encoded(inks, format, icc_profile=ink_profile()))
    broken = read_photo(encoded(inks, format, icc_profile=b"no profile"))
    np.testing.assert_allclose(plain.pixels[8, 8] * 255, (0, 255, 255), atol=2)
    np.testing.assert_allclose(profiled.pixels[8, 8] * 255, (119, 119, 119), atol=2)
    np.testing.assert_allclose(broken.pixels[8, 8], plain.pixels[8, 8])
    assert plain.icc is None
    assert profiled.icc is None
    assert not profiled.grey


def test_icc_profiles_are_kept():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for format in ("PNG", "TIFF", "WEBP", "JPEG"):
        assert read_photo(encoded(Image.fromarray(RGB), format, icc_profile=profile)).icc == profile


def test_of_a_multi_picture_jpeg_the_photograph_is_taken():
    first, second = Image.fromarray(np.full((16, 16, 3), 200, np.uint8)), Image.new("RGB", (8, 8))
    photo = read_photo(encoded(first, "MPO", save_all=True, append_images=[second]))
    assert photo.format == "JPEG"
    np.testing.assert_allclose(photo.pixels * 255, 200, atol=1)


def test_a_pipe_is_read(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_bytes, args=(encoded(Image.fromarray(RGB), "PNG"),))
    writer.start()
    photo = read_photo(fifo)
    writer.join()
    np.testing.assert_array_equal(np.rint(photo.pixels * 255), RGB)


def refuse(source: Path | bytes, *words: str, **options: float) -> None:
    with pytest.raises(MirlError) as caught:
        read_photo(source, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "an empty file"),
        (b"GIF89a" + bytes(20), "a GIF"),
        (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "HEIC"),
        (b"%PDF-1.7", "a PDF"),
        (b"Dear diary", "not an image of a known format"),
        (b"\x89PNG\r\n\x1a\n", "a damaged PNG"),
        (b"II*\0" + bytes(30), "TIFF"),
    ],
)
def test_other_formats_are_refused_by_name(tmp_path, data, word):
    refuse(data, word, "JPEG, PNG, WebP, TIFF or BMP")
    (tmp_path / "odd.png").write_bytes(data)
    refuse(tmp_path / "odd.png", word, str(tmp_path / "odd.png"))


def test_a_missing_file_a_folder_and_an_unreachable_file_are_refused(tmp_path):
    refuse(tmp_path / "none.png", "none.png", "No such file")
    refuse(tmp_path, "Is a directory")
    (tmp_path / "file").write_bytes(b"x")
    refuse(tmp_path / "file" / "below.png", "Not a directory")


@pytest.mark.parametrize("format", ["TIFF", "PNG", "WEBP"])
def test_several_frames_are_refused(format):
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in (0, 100, 200)]
    refuse(encoded(frames[0], format, save_all=True, append_images=frames[1:]), "3 frames")


@pytest.mark.parametrize(
    "data",
    [
        png(2, 2, 16, 2, b"".join(b"\0" + bytes(12) for _ in range(2))),
        png(2, 2, 16, 4, b"".join(b"\0" + bytes(8) for _ in range(2))),
        png(2, 2, 16, 6, b"".join(b"\0" + bytes(16) for _ in range(2))),
        png(2, 2, 16, 0, b"".join(b"\0" + bytes(4) for _ in range(2)), extra=b"tRNS\0\0"),
        encoded(Image.new("I", (2, 2)), "TIFF"),
        encoded(Image.new("F", (2, 2)), "TIFF"),
    ],
    ids=["rgb16", "la16", "rgba16", "grey16-transparent", "int32", "float32"],
)
def test_samples_that_cannot_be_kept_are_refused(data):
    refuse(data, "more than 8 bits")


def test_lab_is_refused():
    refuse(encoded(Image.new("LAB", (4, 4)), "TIFF"), "mode LAB")


@pytest.mark.parametrize("size", [(0, 2), (2, 0)])
def test_an_image_of_no_pixels_is_refused(size):
    refuse(png(*size, 8, 2, b""))


def test_megapixels_are_counted_before_decoding():
    bomb = png(60_000, 50_000, 8, 0, b"")  # no pixel data at all: decoding would fail otherwise
    refuse(bomb, "pixels")
    nearly = png(12_000, 9_000, 8, 0, b"")  # where Pillow only warns
    refuse(nearly, "108 megapixels", "limit is 100", "--max-megapixels")
    small = encoded(Image.fromarray(RGB), "PNG")
    refuse(small, "3.5e-05 megapixels", max_megapixels=1e-5)
    read_photo(small, max_megapixels=35e-6)


def test_our_limit_counts_where_pillow_would_only_warn(monkeypatch):
    small = encoded(Image.fromarray(RGB), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # Pillow warns above 20 pixels and refuses above 40
    assert read_photo(small).pixels.shape == (5, 7, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    refuse(small, "too many pixels")


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP", "JPEG"])
def test_a_file_cut_anywhere_is_refused_or_complete(format):
    rows = np.random.default_rng(3).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(rows), format)
    whole = read_photo(data).pixels
    refused = 0
    for cut in range(0, len(data), max(len(data) // 60, 1)):
        try:
            np.testing.assert_array_equal(read_photo(data[:cut]).pixels, whole)
        except MirlError:
            refused += 1
    assert refused >= 58


@pytest.mark.parametrize("format", ["PNG", "TIFF", "BMP", "WEBP", "JPEG"])
def test_damaged_bytes_never_raise_anything_but_mirl_error(format):
    data = bytearray(encoded(Image.fromarray(RGB), format, exif=Image.Exif()))
    rng = np.random.default_rng(4)
    for _ in range(150):
        copy = bytearray(data)
        for place in rng.integers(0, len(copy), 3):
            copy[place] = rng.integers(256)
        with suppress(MirlError):  # anything else fails the test
            assert np.isfinite(read_photo(bytes(copy), max_megapixels=1).pixels).all()
