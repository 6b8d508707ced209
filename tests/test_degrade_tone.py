"""Tone negatives: in range, in 8-bit steps, each as dark, bright or flat as its name says, none of them haze."""

import numpy as np
import pytest

from mirl.data.bundled import training_photos
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.smooth import blur, random_field, shrink_by_area
from mirl.degrade.tone import TONES, tone_negative
from mirl.image import read_pixels

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
BY_NAME = {tone.name: tone for tone in TONES}


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [shrink_by_area(read_pixels(path), 0.2)[:150, :170] for path in training_photos()[:24:3]]


@pytest.mark.parametrize("tone", TONES, ids=lambda tone: tone.name)
@pytest.mark.parametrize("shape", [(96, 120), (1, 1), (3, 70), (65, 2)])
def test_a_negative_keeps_shape_range_and_8_bit_levels_and_leaves_its_photo_alone(tone, shape):
    photo = np.random.default_rng(0).random((*shape, 3), np.float32)
    before = photo.copy()
    first, again = (tone_negative(photo, np.random.default_rng(5), tone) for _ in range(2))
    assert first.shape == photo.shape
    assert first.dtype == np.float32
    assert 0 <= first.min() <= first.max() <= 1
    np.testing.assert_array_equal(first, round_to_8_bits(first))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(photo, before)


def lightness(photos: list[np.ndarray], name: str, draws: int = 4) -> np.ndarray:
    """Luminance of some negatives of every photograph, (n, pixels), sorted in each."""
    drawn = [tone_negative(p, np.random.default_rng(s), BY_NAME[name]) @ LUMA for p in photos for s in range(draws)]
    return np.sort(np.stack([picture.ravel()[:: max(1, picture.size // 4000)][:4000] for picture in drawn]), axis=1)


def test_the_shares_sum_to_one_and_every_negative_keeps_structure(photos):
    assert sum(tone.share for tone in TONES) == pytest.approx(1)
    for tone in TONES:
        assert np.median(lightness(photos, tone.name).std(axis=1)) > 0.02, tone.name


def test_each_tone_is_as_dark_bright_or_flat_as_it_is_called(photos):
    plain = np.sort(np.stack([(p @ LUMA).ravel()[:: p[..., 0].size // 4000][:4000] for p in photos]), axis=1)
    assert np.median(lightness(photos, "night")) < 0.2
    assert np.median(lightness(photos, "dark")) < 0.6 * np.median(plain)
    assert np.mean(lightness(photos, "low contrast").std(1)) < 0.6 * np.mean(plain.std(1))
    for name in ("pastel", "high key"):
        assert np.median(lightness(photos, name)) > np.median(plain) + 0.1
    snow, silhouette, page = (lightness(photos, name) for name in ("snow", "silhouette", "page"))
    assert np.median((snow > 0.75).mean(1)) > 0.4
    assert np.median((silhouette < 0.1).mean(1)) > 0.15
    assert np.median((silhouette > 0.45).mean(1)) > 0.15
    assert np.median((page > 0.4).mean(1)) > 0.6


def test_low_contrast_and_fading_point_at_a_level_below_the_airlight_of_haze(photos):
    """Haze is an affine map with the airlight, 0.8 to 1, as its fixed point: so must a negative never be."""
    ramp = np.broadcast_to(np.linspace(0, 1, 256, dtype=np.float32)[:, None, None], (256, 4, 3))
    for name in ("low contrast", "faded"):
        for seed in range(40):
            low, high = tone_negative(ramp, np.random.default_rng(seed), BY_NAME[name])[[0, -1]].mean(1)
            slope = high - low
            assert (low / (1 - slope) < 0.7).all()


def test_a_blur_keeps_means_and_directions_and_a_field_its_range():
    spot = np.zeros((41, 41), np.float32)
    spot[20, 20] = 1
    wide = blur(spot, 1.0, 3.0)
    assert wide.sum() == pytest.approx(1, abs=1e-5)
    y, x = np.mgrid[-20:21, -20:21]
    assert (wide * y**2).sum() == pytest.approx(1, rel=0.05)
    assert (wide * x**2).sum() == pytest.approx(9, rel=0.05)
    np.testing.assert_array_equal(blur(spot, 0.0), spot)
    field = random_field(30, 50, 3, np.random.default_rng(0))
    assert field.shape == (30, 50)
    assert field.min() == 0
    assert field.max() == pytest.approx(1, abs=1e-5)
    assert np.abs(np.diff(field, axis=1)).max() < 0.3


def test_shrinking_by_area_averages_noise_away():
    rng = np.random.default_rng(0)
    noisy = np.clip(0.5 + rng.normal(0, 0.1, (200, 300, 3)), 0, 1).astype(np.float32)
    small = shrink_by_area(noisy, 0.5)
    assert small.shape == (100, 150, 3)
    assert small.std() == pytest.approx(0.05, rel=0.03)
    np.testing.assert_array_equal(small, round_to_8_bits(small))
    assert shrink_by_area(noisy[:1, :1], 0.5).shape == (1, 1, 3)
