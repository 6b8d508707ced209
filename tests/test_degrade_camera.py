"""Sensor noise against its variance formula, and what demosaicking and smoothing do to it."""

import numpy as np
import pytest
import torch

from mirl.degrade.camera import GAMMA, add_camera_noise, add_sensor_noise

GAINS = np.array([2.0, 1.0, 1.5], np.float32)


def noise_of(level: float, shot: float, read: float, bayer: float = 0.0, sigma: float = 0.0) -> np.ndarray:
    clean = np.full((256, 256, 3), level ** (1 / GAMMA), np.float32)
    normal = np.random.default_rng(0).standard_normal(clean.shape).astype(np.float32)
    return add_sensor_noise(clean, normal, shot, read, GAINS, bayer, sigma) ** GAMMA - level


@pytest.mark.parametrize(("level", "shot", "read"), [(0.2, 2e-3, 3e-3), (0.5, 8e-3, 1e-3), (0.05, 3e-4, 6e-3)])
def test_the_variance_in_linear_light_is_that_of_the_formula(level: float, shot: float, read: float) -> None:
    found = noise_of(level, shot, read).var((0, 1))
    np.testing.assert_allclose(found, shot * GAINS * level + (read * GAINS) ** 2, rtol=0.03)


def test_demosaicking_correlates_neighbours_and_leaves_known_places_as_they_are() -> None:
    plain, interpolated = noise_of(0.3, 2e-3, 2e-3), noise_of(0.3, 2e-3, 2e-3, bayer=1.0)
    np.testing.assert_allclose(interpolated[0::2, 0::2, 0], plain[0::2, 0::2, 0], atol=1e-6)
    np.testing.assert_allclose(interpolated[1::2, 1::2, 2], plain[1::2, 1::2, 2], atol=1e-6)
    means = (interpolated[1:-1:2, 0:-2:2, 0] - (plain[0:-2:2, 0:-2:2, 0] + plain[2::2, 0:-2:2, 0]) / 2)[:, 1:]
    assert np.abs(means).max() < 1e-3

    def correlation(noise: np.ndarray) -> float:
        return float(np.corrcoef(noise[:, :-1, 0].ravel(), noise[:, 1:, 0].ravel())[0, 1])

    assert abs(correlation(plain)) < 0.02
    assert correlation(interpolated) > 0.3


def test_smoothing_lowers_the_variance_and_a_sigma_of_zero_changes_nothing() -> None:
    plain, smooth = noise_of(0.3, 2e-3, 2e-3), noise_of(0.3, 2e-3, 2e-3, sigma=1.0)
    assert smooth.var() < 0.15 * plain.var()
    np.testing.assert_array_equal(noise_of(0.3, 2e-3, 2e-3, sigma=0.0), plain)


def test_numpy_and_torch_give_the_same_noise() -> None:
    rng = np.random.default_rng(1)
    clean = rng.random((2, 24, 32, 3)).astype(np.float32)
    normal = rng.standard_normal(clean.shape).astype(np.float32)
    ours = add_sensor_noise(clean, normal, 3e-3, 2e-3, GAINS, 1.0, 0.7)
    theirs = add_sensor_noise(
        torch.from_numpy(clean), torch.from_numpy(normal), 3e-3, 2e-3, torch.from_numpy(GAINS), 1.0, 0.7
    )
    np.testing.assert_allclose(theirs.numpy(), ours, atol=2e-6)


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 7, 3), (64, 33, 3)])
def test_any_size_keeps_its_shape_and_is_rounded_to_8_bits(shape: tuple[int, int, int]) -> None:
    clean = np.full(shape, 0.5, np.float32)
    noisy = add_camera_noise(clean, np.random.default_rng(3))
    assert noisy.shape == shape
    assert noisy.dtype == np.float32
    np.testing.assert_allclose(noisy * 255, np.rint(noisy * 255), atol=1e-4)
