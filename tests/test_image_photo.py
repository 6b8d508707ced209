"""What is written: formats, modes, metadata and alpha of the file that was read, in one step."""

import io
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin

from mirl.errors import MirlError
from mirl.image import FORMATS, Photo, check_format, encode_photo, read_photo, target_format, write_photo

RNG = np.random.default_rng(0)
PHOTO_8 = RNG.integers(0, 256, (9, 6, 4), dtype=np.uint8)
LEVELS_16 = RNG.integers(0, 65536, (9, 6), dtype=np.uint16)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def image_of(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(LEVELS_16)
    if mode == "P":
        return Image.fromarray(PHOTO_8[..., :3].copy()).quantize(16)
    if mode == "CMYK":
        return Image.frombytes("CMYK", (6, 9), PHOTO_8.tobytes())
    rgba = Image.fromarray(PHOTO_8)
    return rgba.convert("L").convert("1") if mode == "1" else rgba.convert(mode)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **({"lossless": True, "exact": True} if format == "WEBP" else {}) | options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


KEPT = [("PNG", mode, mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")]
KEPT += [("TIFF", mode, mode) for mode in ("L", "LA", "RGB", "RGBA", "I;16")]
KEPT += [("BMP", mode, mode) for mode in ("L", "RGB")] + [("WEBP", mode, mode) for mode in ("RGB", "RGBA")]
CHANGED = [("PNG", "1", "L"), ("PNG", "P", "RGB"), ("BMP", "P", "RGB"), ("TIFF", "CMYK", "RGB")]


@pytest.mark.parametrize(("format", "mode", "result"), KEPT + CHANGED)
def test_lossless_files_survive_reading_and_writing_exactly(tmp_path, format, mode, result):
    image = image_of(mode)
    photo = read_photo(saved(image, format))
    path = tmp_path / f"out{FORMATS[format][0]}"
    write_photo(photo, path)
    again = opened(path.read_bytes())
    assert (again.format, again.mode, again.size) == (format, result, image.size)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(image if mode == result else image.convert(result)))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpegs_stay_jpegs_of_their_colours(mode):
    again = opened(encode_photo(read_photo(saved(image_of(mode).resize((64, 48)), "JPEG", quality=95))))
    assert (again.format, again.mode, again.size) == ("JPEG", "L" if mode == "L" else "RGB", (64, 48))


@pytest.mark.parametrize(("quality", "subsampling"), [(90, 2), (93, 0), (97, 1), (100, 2)])
def test_a_fine_jpeg_keeps_its_tables_and_subsampling(quality, subsampling):
    source = saved(image_of("RGB").resize((64, 48)), "JPEG", quality=quality, subsampling=subsampling)
    again = opened(encode_photo(read_photo(source)))
    assert again.quantization == opened(source).quantization
    assert JpegImagePlugin.get_sampling(again) == subsampling


@pytest.mark.parametrize("quality", [10, 50, 85])
def test_a_coarse_jpeg_is_written_finer_or_its_artefacts_would_come_back(quality):
    source = saved(image_of("RGB").resize((64, 48)), "JPEG", quality=quality)
    fine = opened(saved(image_of("RGB"), "JPEG", quality=95)).quantization
    assert opened(encode_photo(read_photo(source))).quantization == fine


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("icc", [None, PROFILE])
def test_webp_stays_lossless_or_lossy(lossless, icc):
    source = saved(image_of("RGB").resize((64, 48)), "WEBP", lossless=lossless, icc_profile=icc)
    photo = read_photo(source)
    again = read_photo(encode_photo(photo))
    assert np.array_equal(again.pixels, photo.pixels) == lossless


@pytest.mark.parametrize(("before", "after"), [("tiff_lzw", "tiff_lzw"), ("raw", "raw"), ("jpeg", "tiff_adobe_deflate")])
def test_tiff_keeps_a_lossless_compression_only(before, after):
    again = opened(encode_photo(read_photo(saved(image_of("RGB"), "TIFF", compression=before))))
    assert again.info["compression"] == after


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_icc_profile_and_exif_are_carried_over(format):
    exif = Image.Exif()
    exif[ExifTags.Base.Make], exif[ExifTags.Base.Orientation] = "Camera", 1
    exif[ExifTags.Base.ExifOffset] = {ExifTags.Base.ISOSpeedRatings: 800}
    exif[ExifTags.Base.GPSInfo] = {ExifTags.GPS.GPSLatitudeRef: "N"}
    source = saved(image_of("RGB"), format, icc_profile=PROFILE, exif=exif.tobytes(), dpi=(300, 300))
    again = opened(encode_photo(read_photo(source)))
    assert again.info["icc_profile"] == PROFILE
    kept = again.getexif()
    assert kept[ExifTags.Base.Make] == "Camera"
    assert kept.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.ISOSpeedRatings] == 800
    assert kept.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] == "N"
    if format != "WEBP":  # which has no resolution
        assert [round(float(value)) for value in again.info["dpi"]] == [300, 300]


def test_a_bmp_keeps_its_resolution():
    assert opened(encode_photo(read_photo(saved(image_of("RGB"), "BMP", dpi=(200, 200))))).info["dpi"][0] > 199


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_once(format, orientation):
    upright = np.zeros((16, 32, 3), dtype=np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[8:, 24:] = (0, 0, 255)
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)  # by the table of the EXIF standard
    turns = {
        1: lambda x: x, 2: np.fliplr, 3: lambda x: np.rot90(x, 2), 4: np.flipud,
        5: lambda x: x.swapaxes(0, 1),
        6: lambda x: np.rot90(x, -1), 7: lambda x: np.rot90(x, 2).swapaxes(0, 1), 8: lambda x: np.rot90(x, 1),
    }  # fmt: skip
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Model] = orientation, "kept"
    lying = Image.fromarray(np.ascontiguousarray(turns[undo](upright)))
    fine = {"quality": 95, "subsampling": 0} if format == "JPEG" else {}
    photo = read_photo(saved(lying, format, exif=exif, **fine))
    assert np.abs(photo.pixels * 255 - upright).max() < 60  # JPEG; a wrong turn differs by 255
    again = opened(encode_photo(photo))
    assert again.size == (32, 16)
    assert again.getexif().get(ExifTags.Base.Orientation, 1) == 1
    assert again.getexif()[ExifTags.Base.Model] == "kept"


def test_orientation_turns_alpha_and_sixteen_bits_too():
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    alpha = read_photo(saved(image_of("RGBA"), "PNG", exif=exif)).alpha
    np.testing.assert_array_equal(np.rint(alpha * 255), np.rot90(PHOTO_8[..., 3], -1))
    deep = read_photo(saved(image_of("I;16"), "PNG", exif=exif)).pixels[..., 0]
    np.testing.assert_array_equal(np.rint(deep * 65535), np.rot90(LEVELS_16, -1))


def exif_block(order: str, entries: list[tuple[int, int]], next_ifd: int) -> bytes:
    """An EXIF block by hand: SHORT entries, and a link to a thumbnail's directory."""
    block = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, value in entries:
        block += struct.pack(f"{order}HHIHH", tag, 3, 1, value, 0)
    return b"Exif\0\0" + block + struct.pack(f"{order}I", next_ifd) + b"maker notes"


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_orientation_and_the_link_to_the_thumbnail_change_in_an_exif_block(order):
    other = (0x0128, 2)
    photo = read_photo(saved(image_of("RGB"), "JPEG", exif=exif_block(order, [(0x0112, 3), other], 1234)))
    assert photo.exif == exif_block(order, [(0x0112, 1), other], 0)


@pytest.mark.parametrize(
    "exif",
    [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0XX*\0\x08\0\0\0", b"Exif\0\0" + bytes(90)],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_a_broken_exif_block_is_dropped(format, exif):
    photo = read_photo(saved(image_of("RGB"), format, exif=exif))
    assert photo.exif is None
    assert opened(encode_photo(photo)).size == (6, 9)


def test_metadata_that_a_format_cannot_hold_costs_no_photo():
    photo = Photo(np.zeros((2, 2, 3), np.float32), exif=b"Exif\0\0" + bytes(70_000), icc=PROFILE)
    again = opened(encode_photo(photo, "JPEG"))  # at most 64 kB of EXIF
    assert "exif" not in again.info
    assert again.info["icc_profile"] == PROFILE


@pytest.mark.parametrize("name", ["out.jpg", "out.bmp", "OUT.JPEG"])
def test_transparency_is_refused_where_it_would_be_lost(tmp_path, name):
    photo = read_photo(saved(image_of("RGBA"), "PNG"))
    with pytest.raises(MirlError, match=r"transparency; choose png, webp or tiff"):
        write_photo(photo, tmp_path / name)
    assert list(tmp_path.iterdir()) == []
    write_photo(replace(photo, alpha=np.ones_like(photo.alpha)), tmp_path / name)
    assert opened((tmp_path / name).read_bytes()).mode == "RGB"


@pytest.mark.parametrize(
    ("name", "format"),
    [("a.webp", "WEBP"), ("a.TIF", "TIFF"), ("a.jfif", "JPEG"), ("a", "PNG"), ("a.xyz", "PNG")],
)
def test_the_suffix_decides_the_format_where_it_names_one(tmp_path, name, format):
    photo = read_photo(saved(image_of("RGB"), "PNG"))
    assert target_format(photo, Path(name)) == format
    write_photo(photo, tmp_path / name)
    assert opened((tmp_path / name).read_bytes()).format == format


@pytest.mark.parametrize("name", ["a.jpg", "a.webp", "a.bmp"])
def test_sixteen_bits_are_rounded_to_eight_where_the_format_has_no_more(tmp_path, name):
    photo = read_photo(saved(Image.fromarray(np.full((16, 16), 25_700, np.uint16)), "PNG"))
    write_photo(photo, tmp_path / name)
    np.testing.assert_allclose(read_photo(tmp_path / name).pixels * 255, 100, atol=1)


def test_a_grey_photo_restored_to_colour_is_written_by_luma():
    photo = read_photo(saved(image_of("L"), "PNG"))
    green = replace(photo, pixels=np.zeros_like(photo.pixels) + np.float32([0, 1, 0]))
    assert np.asarray(opened(encode_photo(green)))[0, 0] == round(0.587 * 255)


def test_values_outside_the_range_are_clipped_and_rounded_to_the_nearest_level():
    pixels = np.array([[[-1.0, 2.0, 100.4 / 255], [100.6 / 255, 0.0, 1.0]]], dtype=np.float32)
    np.testing.assert_array_equal(np.asarray(opened(encode_photo(Photo(pixels)))), [[[0, 255, 100], [101, 0, 255]]])


def test_pixels_that_are_no_numbers_are_refused():
    pixels = np.full((2, 2, 3), np.nan, dtype=np.float32)
    with pytest.raises(MirlError, match="NaN"):
        encode_photo(Photo(pixels))


def test_an_unknown_format_and_a_size_beyond_the_format_are_refused():
    photo = Photo(np.zeros((1, 70_000, 3), np.float32))
    with pytest.raises(MirlError, match="expected one of JPEG, PNG"):
        encode_photo(photo, "GIF")
    for format, most in (("JPEG", 65_500), ("WEBP", 16_383)):
        for refused in (photo, Photo(np.zeros((most + 1, 1, 3), np.float32))):
            with pytest.raises(MirlError, match=f"cannot write .* pixels as {format}: a side is beyond {most}"):
                check_format(refused, format)
            with pytest.raises(MirlError, match=f"cannot write .* pixels as {format}: a side is beyond {most}"):
                encode_photo(refused, format)
        assert opened(encode_photo(Photo(np.zeros((most, 1, 3), np.float32)), format)).size == (1, most)


def test_an_unwritable_place_is_one_error_and_leaves_no_file(tmp_path):
    photo = Photo(np.zeros((2, 2, 3), np.float32))
    (tmp_path / "file").write_bytes(b"old")
    for path in (tmp_path / "none" / "out.png", tmp_path / "file" / "out.png", Path("/proc/out.png")):
        with pytest.raises(MirlError, match="cannot write"):
            write_photo(photo, path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
