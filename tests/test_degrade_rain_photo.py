"""Rain as photographs show it: alpha in its range, grey that covers, wide and fine streaks, numpy and torch alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mirl.degrade.rain import streak_layer
from mirl.degrade.rain_photo import LARGEST_ALPHA, PHOTOGRAPHED, RainLook, add_photo_rain, cover, photo_rain_layer
from mirl.degrade.rounding import round_to_8_bits

PLAIN = replace(PHOTOGRAPHED, near_share=0, far_share=0, second_share=0, veil_share=0)


@pytest.fixture(scope="module")
def layers() -> list[np.ndarray]:
    drawn = (streak_layer(160, 200, np.random.default_rng(seed)) for seed in range(4))
    return [np.rint(layer * 255).astype(np.uint8) for layer in drawn]


@pytest.mark.parametrize("size", [(96, 120), (1, 1), (3, 70), (300, 40)])
def test_a_layer_is_alpha_in_range_and_a_function_of_its_generator(layers, size):
    first, again, other = (photo_rain_layer(layers, *size, np.random.default_rng(seed)) for seed in (1, 1, 2))
    for rain in (first, other):
        assert rain.alpha.shape == size
        assert rain.alpha.dtype == np.float32
        assert 0 <= rain.alpha.min() <= rain.alpha.max() <= LARGEST_ALPHA
        assert PHOTOGRAPHED.brightness[0] <= rain.brightness <= PHOTOGRAPHED.brightness[1]
        assert 0 <= rain.veil <= PHOTOGRAPHED.veil[1]
        assert PHOTOGRAPHED.airlight[0] <= rain.airlight <= PHOTOGRAPHED.airlight[1]
    np.testing.assert_array_equal(first.alpha, again.alpha)
    assert (first.brightness, first.veil, first.airlight) == (again.brightness, again.veil, again.airlight)
    assert first.brightness != other.brightness


def test_covering_blends_towards_the_streaks_grey_through_a_veil():
    clean = np.array([[[0.2, 0.4, 1.0]]], np.float32)
    rainy = cover(clean, np.float32(0.5), 0.8, 0.1, 0.6)
    expected = (clean * 0.9 + 0.06) * 0.5 + 0.4
    np.testing.assert_array_equal(rainy, round_to_8_bits(expected.astype(np.float32)))
    # A streak brightens a dark ground, darkens one brighter than itself, and leaves its own grey as it is.
    same = cover(np.full((1, 1, 3), 0.8, np.float32), np.float32(0.5), 0.8)
    np.testing.assert_allclose(same, 0.8, atol=1e-6)
    np.testing.assert_array_equal(cover(clean, np.float32(0), 0.8), round_to_8_bits(clean))


def test_numpy_and_torch_cover_alike(layers):
    clean = np.random.default_rng(0).random((80, 90, 3), np.float32)
    rain = photo_rain_layer(layers, 80, 90, np.random.default_rng(3))
    with_numpy = cover(clean, rain.alpha[..., None], rain.brightness, 0.05, rain.airlight)
    with_torch = cover(
        torch.from_numpy(clean), torch.from_numpy(rain.alpha)[..., None], rain.brightness, 0.05, rain.airlight
    )
    assert with_numpy.dtype == np.float32
    difference = np.abs(with_torch.numpy() - with_numpy) * 255
    assert difference.max() < 1.01
    assert (difference > 0.5).mean() < 1e-3


def spectrum_centre(look: RainLook, layers: list[np.ndarray]) -> float:
    """Mean horizontal frequency of alpha, in cycles a pixel, weighted by power; the mean over some layers."""
    centres = []
    for seed in range(12):
        alpha = photo_rain_layer(layers, 128, 128, np.random.default_rng(seed), look).alpha
        power = np.square(np.abs(np.fft.rfft(alpha - alpha.mean(1, keepdims=True), axis=1))).sum(0)
        centres.append((power * np.fft.rfftfreq(128)).sum() / power.sum())
    return float(np.mean(centres))


def test_enlarged_layers_have_wider_streaks(layers):
    fine, wide = (replace(PLAIN, scale=(scale, scale * 1.001)) for scale in (0.5, 3.0))
    assert spectrum_centre(fine, layers) > 1.8 * spectrum_centre(wide, layers)


def test_stretched_layers_have_longer_streaks(layers):
    def length(stretch: float) -> float:
        look = replace(PLAIN, stretch=(stretch, stretch * 1.001), scale=(1.0, 1.001), tilt_degrees=0.0)
        steps = []
        for seed in range(10):
            alpha = photo_rain_layer(layers, 128, 128, np.random.default_rng(seed), look).alpha
            steps.append(np.abs(np.diff(alpha, axis=0)).mean() / np.abs(np.diff(alpha, axis=1)).mean())
        return float(np.mean(steps))

    assert length(1.8) < 0.8 * length(0.5)


def test_strength_and_depths_add_to_what_is_covered(layers):
    def covered(look: RainLook) -> float:
        return float(
            np.mean([photo_rain_layer(layers, 96, 96, np.random.default_rng(s), look).alpha.mean() for s in range(16)])
        )

    weak, strong = (covered(replace(PLAIN, strength=(s, s * 1.001))) for s in (0.6, 1.4))
    assert 1.6 * weak < strong < 2.5 * weak
    assert covered(replace(PLAIN, near_share=1, far_share=1)) > 1.2 * covered(PLAIN)


def test_rain_is_faint_and_strong_and_shows_on_dark_grounds_more_than_on_bright_ones():
    dark, bright = (np.full((160, 160, 3), level, np.float32) for level in (0.15, 0.85))
    psnr = []
    for seed in range(24):
        on_dark, on_bright = (add_photo_rain(c, np.random.default_rng(seed)) for c in (dark, bright))
        assert on_dark.min() >= np.float32(0.15) - 1 / 255  # everything in rain is brighter than this
        assert np.abs(on_bright - bright).mean() < np.abs(on_dark - dark).mean()
        assert np.ptp(on_dark, axis=2).max() == 0  # grey stays grey
        psnr.append(-10 * np.log10(np.square(on_dark - dark).mean()))
    assert 12 < np.quantile(psnr, 0.1) < 19
    assert 18 < np.median(psnr) < 28  # on a ground this dark
    assert np.quantile(psnr, 0.9) > 24
