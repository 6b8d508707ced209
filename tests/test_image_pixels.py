"""Images and arrays of Python callers: the same kind comes back, and wrong ones are refused in one line."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mirl.errors import MirlError
from mirl.image import as_pixels, quantise

RNG = np.random.default_rng(0)
SHAPES = [(5, 7), (5, 7, 3), (5, 7, 4), (1, 1, 3)]


@given(st.lists(st.floats(-2, 3, width=32), min_size=1, max_size=30))
def test_quantised_pixels_are_the_nearest_of_256_levels(values):
    pixels = np.array(values, dtype=np.float32)
    rounded = quantise(pixels)
    assert rounded.dtype == np.float32
    levels = rounded * 255
    assert np.abs(levels - np.rint(levels)).max() < 1e-4
    assert np.abs(rounded - np.clip(pixels, 0, 1)).max() <= 0.5 / 255 + 1e-6
    np.testing.assert_array_equal(quantise(rounded), rounded)


def test_quantised_levels_are_those_of_a_file():
    levels = np.arange(256, dtype=np.float32) / np.float32(255)
    np.testing.assert_array_equal(quantise(levels), levels)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_integer_arrays_come_back_as_they_were(shape, dtype):
    image = RNG.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)
    pixels, back = as_pixels(image)
    assert pixels.dtype == np.float32
    assert pixels.shape == (*shape[:2], 3)
    again = back(pixels)
    assert again.dtype == dtype
    np.testing.assert_array_equal(again, image)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_float_arrays_come_back_as_they_were(shape, dtype):
    image = RNG.random(shape).astype(dtype)
    pixels, back = as_pixels(image)
    again = back(pixels)
    assert (again.dtype, again.shape) == (dtype, shape)
    np.testing.assert_allclose(again.astype(np.float64), image.astype(np.float64), atol=1e-6)


def test_the_alpha_of_an_array_is_untouched_by_what_happens_to_the_pixels():
    image = RNG.integers(0, 256, (4, 4, 4), dtype=np.uint8)
    pixels, back = as_pixels(image)
    again = back(1 - pixels)
    np.testing.assert_array_equal(again[..., 3], image[..., 3])
    np.testing.assert_array_equal(again[..., :3], 255 - image[..., :3])


def test_a_view_of_an_array_and_other_byte_orders_work():
    image = RNG.integers(0, 65536, (8, 8, 3)).astype(">u2")[::2, ::-1]
    pixels, back = as_pixels(image)
    np.testing.assert_array_equal(back(pixels), image)


def test_the_callers_array_is_never_changed():
    for image in (RNG.random((4, 4, 3), dtype=np.float32), RNG.integers(0, 256, (4, 4, 4), dtype=np.uint8)):
        before = image.copy()
        pixels, _ = as_pixels(image)
        pixels[:] = 0
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA", "I;16"])
def test_pil_images_come_back_in_their_mode_with_their_metadata(mode):
    if mode == "I;16":
        image = Image.fromarray(RNG.integers(0, 65536, (5, 7), dtype=np.uint16))
    else:
        image = Image.fromarray(RNG.integers(0, 256, (5, 7, 4), dtype=np.uint8)).convert(mode)
    image.info["icc_profile"] = b"profile"
    pixels, back = as_pixels(image)
    again = back(pixels)
    assert (again.mode, again.size, again.info["icc_profile"]) == (mode, image.size, b"profile")
    assert again.tobytes() == image.tobytes()


@pytest.mark.parametrize(("mode", "result"), [("1", "L"), ("P", "RGB"), ("CMYK", "RGB"), ("YCbCr", "RGB"), ("RGBX", "RGB")])
def test_other_pil_modes_come_back_in_the_nearest_kept_one(mode, result):
    image = Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).convert(mode)
    pixels, back = as_pixels(image)
    assert back(pixels).mode == result
    np.testing.assert_array_equal(np.asarray(back(pixels)), np.asarray(image.convert(result)))


def test_a_palette_with_a_transparent_entry_comes_back_as_rgba():
    image = Image.fromarray(RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)).quantize(4)
    image.info["transparency"] = 2
    pixels, back = as_pixels(image)
    again = back(pixels)
    assert again.mode == "RGBA"
    assert "transparency" not in again.info
    np.testing.assert_array_equal(np.asarray(again)[..., 3] == 0, np.asarray(image) == 2)


def test_a_colour_profile_of_inks_does_not_describe_the_rgb_that_comes_back():
    image = Image.new("CMYK", (4, 4))
    image.info["icc_profile"] = b"inks"
    pixels, back = as_pixels(image)
    assert "icc_profile" not in back(pixels).info


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ([[1, 2]], "found list"),
        (None, "found NoneType"),
        (np.zeros((4,)), r"found \(4,\)"),
        (np.zeros((4, 4, 2)), r"found \(4, 4, 2\)"),
        (np.zeros((1, 3, 4, 4)), r"found \(1, 3, 4, 4\)"),
        (np.zeros((0, 4, 3)), r"found \(0, 4, 3\)"),
        (np.zeros((4, 4, 3), dtype=np.int64), "found int64"),
        (np.zeros((4, 4, 3), dtype=bool), "found bool"),
        (np.full((4, 4, 3), 200.0), "found 200 to 200"),
        (np.full((4, 4, 3), -0.5), "found -0.5"),
        (np.full((4, 4, 3), np.nan), "found nan"),
        (np.full((4, 4, 3), np.inf), "found inf"),
        (Image.new("F", (2, 2)), "mode F"),
        (Image.new("I", (2, 2)), "mode I"),
        (Image.new("RGB", (0, 2)), "is empty"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image_is_refused_in_one_line(image, words):
    with pytest.raises(MirlError, match=words) as caught:
        as_pixels(image)
    assert "\n" not in str(caught.value)


def test_a_truncated_image_opened_by_the_caller_is_refused():
    buffer = io.BytesIO()
    Image.fromarray(RNG.integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(buffer, "PNG")
    with pytest.raises(MirlError, match="cannot be decoded"):
        as_pixels(Image.open(io.BytesIO(buffer.getvalue()[:3000])))


def test_slightly_overshooting_floats_are_clipped():
    pixels, _ = as_pixels(np.array([[[-1e-4, 0.5, 1 + 1e-4]]]))
    np.testing.assert_array_equal(pixels, np.array([[[0, 0.5, 1]]], dtype=np.float32))
