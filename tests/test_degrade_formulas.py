"""The cores of noise, rain and haze: hand-made values, 8-bit rounding, numpy and torch alike."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.degrade import haze, noise, rain
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.tasks import task_named
from mirl.errors import MirlError


def photo(height: int = 96, width: int = 120, seed: int = 0) -> np.ndarray:
    """A picture with smooth parts, edges and texture, in 8-bit steps."""
    y, x = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(seed)
    base = np.stack([y / height, x / width, 0.5 + 0.4 * np.sin(x / 9)], axis=2)
    base[height // 3 : height // 2, width // 4 : width // 2] = (0.9, 0.2, 0.1)
    return round_to_8_bits((base + rng.normal(0, 0.03, base.shape)).astype(np.float32))


@given(st.floats(-1, 2, allow_nan=False, width=32))
def test_rounding_gives_the_nearest_level_of_the_clipped_value(value):
    level = round_to_8_bits(np.array([value], np.float32))[0] * 255
    assert abs(level - round(float(level))) < 1e-4
    assert abs(level / 255 - min(max(value, 0), 1)) <= 0.5 / 255 + 1e-6


def test_noise_is_rounded_not_floored():
    image = np.full((1, 1, 3), 100 / 255, np.float32)
    normal = np.array([0.6, -0.6, 0.4], np.float32).reshape(1, 1, 3)
    assert np.rint(noise.add_noise(image, normal, 1.0) * 255).ravel().tolist() == [101, 99, 100]


@pytest.mark.parametrize("sigma", [15.0, 25.0, 50.0])
def test_noise_has_the_standard_deviation_asked_for_and_no_bias(sigma):
    clean = np.full((128, 128, 3), 128 / 255, np.float32)
    difference = (noise.add_gaussian_noise(clean, np.random.default_rng(0), sigma) - clean) * 255
    # 49,152 samples: standard errors of the deviation and of the mean are 0.3 and 0.45 % of sigma.
    # (Clipping at sigma 50 takes 1 % of the tails.)
    assert difference.std() == pytest.approx(sigma, rel=0.02)
    assert abs(difference.mean()) < 0.02 * sigma
    assert np.corrcoef(difference[..., 0].ravel(), difference[..., 1].ravel())[0, 1] == pytest.approx(0, abs=0.03)


def test_haze_equation_on_hand_made_values():
    clean = np.array([[[0.2, 0.4, 0.6]]], np.float32)
    t = haze.transmission(np.array([[2.0]], np.float32), 0.5)
    assert t[0, 0] == pytest.approx(math.exp(-1))
    expected = clean * math.exp(-1) + 0.9 * (1 - math.exp(-1))
    assert np.array_equal(haze.scatter(clean, t[..., None], 0.9), np.rint(expected * 255).astype(np.float32) / 255)


def test_no_depth_is_no_haze_and_infinite_depth_is_airlight():
    clean = photo()
    assert np.array_equal(haze.scatter(clean, np.ones((96, 120, 1), np.float32), 0.8), clean)
    assert np.allclose(haze.scatter(clean, np.zeros((96, 120, 1), np.float32), 0.8), 204 / 255)


def test_a_layer_adds_and_saturates():
    clean = np.array([[[0.0, 128 / 255, 250 / 255]]], np.float32)
    rainy = rain.add_layer(clean, np.full((1, 1, 1), 20 / 255, np.float32))
    assert np.rint(rainy * 255).ravel().tolist() == [20, 148, 255]


def test_numpy_and_torch_give_the_same_from_the_same_cores():
    clean, rng = photo(), np.random.default_rng(1)
    normal = rng.standard_normal(clean.shape, dtype=np.float32)
    layer = rain.streak_layer(96, 120, rng)[..., None]
    relative = haze.resize_depth(haze.smooth_depth(clean, rng), 96, 120)

    def hazy(picture, z):
        depth = haze.scale_depth(z, 3.0, 0.6, (1.2, 5.5))
        return haze.scatter(picture, haze.transmission(depth, 0.16)[..., None], 0.95)

    for core, arrays in (
        (lambda image, other: noise.add_noise(image, other, 25.0), (clean, normal)),
        (rain.add_layer, (clean, layer)),
        (hazy, (clean, relative)),
    ):
        with_numpy = core(*arrays)
        with_torch = core(*(torch.from_numpy(np.array(a)) for a in arrays))
        assert isinstance(with_torch, torch.Tensor)
        assert with_torch.dtype == torch.float32
        assert with_numpy.dtype == np.float32
        difference = np.abs(with_torch.numpy() - with_numpy) * 255
        assert difference.max() < 1.01  # one level where the last bit of a sum or of exp decides the rounding
        assert (difference > 0.5).mean() < 1e-3


def test_an_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(MirlError, match=r"unknown task 'fog'; expected one of denoise15, .*web"):
        task_named("fog")


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32))
def test_a_smooth_depth_is_relative_and_mostly_far_at_the_top(seed):
    depth = haze.smooth_depth(photo(), np.random.default_rng(seed))
    assert depth.dtype == np.float32
    assert haze.RELATIVE_RANGE[0] <= depth.min() < depth.max() <= haze.RELATIVE_RANGE[1]
    assert depth[:16].mean() > depth[-16:].mean()
    assert np.abs(np.diff(depth, axis=0)).max() < 1.5  # no jumps of the full range between neighbours


@pytest.mark.parametrize("strength", [haze.OUTDOOR, haze.INDOOR])
def test_haze_lies_in_the_ranges_of_its_strength(strength):
    black, white = np.zeros((64, 64, 3), np.float32), np.ones((64, 64, 3), np.float32)
    airlights, transmissions = [], []
    for seed in range(60):
        # On black I = A (1 - t), on white I = t + A (1 - t): their difference is t.
        depth = np.random.default_rng(0).random((32, 32))
        low, high = (haze.add_haze(j, np.random.default_rng(seed), strength, depth) for j in (black, white))
        t = (high - low).mean(axis=2)
        transmissions += [t.min(), t.max()]
        airlights.append((low[..., 0] / (1 - t).clip(0.02)).mean())
    lowest = math.exp(-max(strength.beta) * strength.depth_range[1])
    highest = math.exp(-min(strength.beta) * strength.depth_range[0])
    assert lowest - 0.01 <= min(transmissions) < max(transmissions) <= highest + 0.01
    assert min(strength.airlight) - 0.1 < min(airlights) < max(airlights) < max(strength.airlight) + 0.1
    assert max(airlights) - min(airlights) > 0.1
    assert len(set(np.round(airlights, 2))) > (12 if strength.continuous else 4)


def test_outdoor_haze_draws_only_resides_grid_of_beta():
    strength = haze.HazeStrength(median=(3, 3), spread=(0, 0), airlight=(1.0,))
    black = np.zeros((8, 8, 3), np.float32)
    found = {round(float(haze.add_haze(black, np.random.default_rng(s), strength)[0, 0, 0]) * 255) for s in range(150)}
    assert found == {round(255 * (1 - math.exp(-3 * beta))) for beta in strength.beta}


def test_a_depth_map_decides_where_haze_is_thick():
    clean = np.zeros((40, 60, 3), np.float32)
    depth = np.linspace(0, 8, 30)[None].repeat(20, axis=0)  # another size and unit, far to the right
    hazy = haze.add_haze(clean, np.random.default_rng(0), depth=depth)[..., 0]
    assert (np.diff(hazy.mean(axis=0)) >= 0).all()
    assert hazy[:, -1].mean() > hazy[:, 0].mean() + 0.02


def test_photographed_haze_is_denser_and_tinted():
    black = np.zeros((32, 32, 3), np.float32)
    hazes = np.stack([haze.add_haze(black, np.random.default_rng(s), haze.PHOTOGRAPHED).mean((0, 1)) for s in range(80)])
    plain = np.stack([haze.add_haze(black, np.random.default_rng(s)).mean((0, 1)) for s in range(80)])
    assert np.quantile(hazes, 0.9) > np.quantile(plain, 0.9) + 0.05
    assert np.ptp(plain, axis=1).max() == 0
    tints = hazes / hazes.mean(1, keepdims=True) - 1
    assert tints.std() == pytest.approx(0.015 * math.sqrt(2 / 3), rel=0.2)


@pytest.mark.parametrize("seed", range(12))
def test_any_noise_is_white_and_in_range_and_a_fifth_equal_in_all_channels(seed):
    grey = np.full((200, 200, 3), 0.5, np.float32)
    difference = (noise.add_any_noise(grey, np.random.default_rng(seed)) - grey) * 255
    assert 1.9 < difference.std() < 56
    centred = difference[..., 0] - difference[..., 0].mean()
    assert abs((centred[:, 1:] * centred[:, :-1]).mean() / centred.var()) < 0.03
    always = noise.add_any_noise(grey, np.random.default_rng(seed), equal_share=1.0)
    assert np.ptp(always, axis=2).max() == 0


def test_any_noise_is_equal_in_all_channels_for_about_a_fifth():
    grey = np.full((8, 8, 3), 0.5, np.float32)
    equal = [np.ptp(noise.add_any_noise(grey, np.random.default_rng(seed)), axis=2).max() == 0 for seed in range(400)]
    assert np.mean(equal) == pytest.approx(noise.EQUAL_SHARE, abs=0.06)


def test_correlated_noise_has_neighbours_alike_and_sigma_in_its_range():
    grey = np.full((128, 128, 3), 0.5, np.float32)
    correlations, sigmas, coarser = [], [], []
    for seed in range(40):
        field = (noise.add_correlated_noise(grey, np.random.default_rng(seed)) - grey) * 255
        centred = field - field.mean((0, 1))
        correlations.append((centred[:, 1:] * centred[:, :-1]).mean() / centred.var())
        sigmas.append(field.std())
        chroma = centred[..., 0] - centred.mean(2)
        coarser.append((chroma[:, 1:] * chroma[:, :-1]).mean() / chroma.var())
    assert min(correlations) > 0.03
    assert np.median(correlations) > 0.3
    assert 1.8 < min(sigmas) < max(sigmas) < 41
    assert np.mean(np.array(coarser) > np.array(correlations) + 0.1) == pytest.approx(1 / 3, abs=0.2)


def test_jpeg_coding_of_haze_is_an_option():
    clean, rng = photo(), np.random.default_rng
    plain = haze.add_haze(clean, rng(0))
    coded = haze.add_haze(clean, rng(0), haze.HazeStrength(jpeg_quality=92))
    assert 0 < np.abs(plain - coded).mean() < 6 / 255
