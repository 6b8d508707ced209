"""Metrics equal scikit-image's, the oracle, in both conventions; bad input is refused in one line."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from mirl.errors import MirlError
from mirl.evaluate.metrics import psnr, ssim

ORACLE = {
    "gaussian": {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False},
    "uniform": {},
}


def photo_like(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth shading, hard edges, a flat patch and fine texture, in 8-bit steps."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([0.5 + 0.4 * np.sin(6 * x + 3 * y), y, np.where(x + y > 0.7, 0.9, 0.2)], axis=-1)
    image += 0.05 * rng.standard_normal(image.shape) * (x < 0.5)[..., None]
    image[: height // 3, : width // 3] = 1.0
    return (np.rint(np.clip(image, 0, 1) * 255) / 255).astype(np.float32)


def oracle_ssim(restored: np.ndarray, clean: np.ndarray, window: str, peak: float = 1.0) -> float:
    a, b = restored.astype(np.float64), clean.astype(np.float64)
    return float(structural_similarity(a, b, channel_axis=-1, data_range=peak, **ORACLE[window]))


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@given(height=st.integers(11, 45), width=st.integers(11, 45), seed=st.integers(0, 99), scale=st.floats(1e-3, 1))
@settings(max_examples=25, deadline=None)
def test_ssim_equals_scikit_image_on_any_size(window, height, width, seed, scale):
    rng = np.random.default_rng(seed)
    clean = rng.random((height, width, 3))
    restored = np.clip(clean + scale * rng.standard_normal(clean.shape), 0, 1)
    assert ssim(restored, clean, window) == pytest.approx(oracle_ssim(restored, clean, window), abs=1e-6)


@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("size", [(97, 131), (64, 64), (11, 200)])
def test_ssim_equals_scikit_image_on_photo_like_float32(window, size):
    clean, other = photo_like(*size), photo_like(*size, seed=1)
    assert ssim(other, clean, window) == pytest.approx(oracle_ssim(other, clean, window), abs=1e-6)
    assert ssim(clean[::-1], clean, window) == pytest.approx(oracle_ssim(clean[::-1], clean, window), abs=1e-6)


@given(height=st.integers(1, 20), width=st.integers(1, 20), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_psnr_equals_scikit_image(height, width, seed):
    rng = np.random.default_rng(seed)
    clean, restored = rng.random((2, height, width, 3))
    assert psnr(restored, clean) == pytest.approx(peak_signal_noise_ratio(clean, restored, data_range=1), abs=1e-6)


def test_peak_scales_both_metrics_away():
    clean, other = photo_like(40, 50), photo_like(40, 50, seed=1)
    assert psnr(other * 255, clean * 255, peak=255) == pytest.approx(psnr(other, clean), abs=1e-5)
    assert ssim(other * 255, clean * 255, peak=255) == pytest.approx(ssim(other, clean), abs=1e-6)


def test_known_values():
    clean = np.full((16, 16, 3), 0.5)
    assert psnr(clean + 0.1, clean) == pytest.approx(20.0)
    # Two flat images leave the luminance term alone: (2 * 0.5 * 0.6 + C1) / (0.25 + 0.36 + C1), C1 = 1e-4.
    assert ssim(clean + 0.1, clean) == pytest.approx(0.6001 / 0.6101)


def test_identical_images_score_infinity_and_one():
    image = photo_like(32, 32)
    assert psnr(image, image) == math.inf
    assert ssim(image, image, "gaussian") == pytest.approx(1, abs=1e-12)
    assert ssim(image, image, "uniform") == pytest.approx(1, abs=1e-12)


def test_the_two_windows_differ():
    clean, other = photo_like(40, 50), photo_like(40, 50, seed=1)
    assert abs(ssim(other, clean, "gaussian") - ssim(other, clean, "uniform")) > 1e-4


@pytest.mark.parametrize(("window", "smallest"), [("gaussian", 11), ("uniform", 7)])
def test_an_image_smaller_than_the_window_is_refused(window, smallest):
    fits, small = np.zeros((smallest, smallest, 3)), np.zeros((40, smallest - 1, 3))
    assert ssim(fits, fits, window) == pytest.approx(1)
    with pytest.raises(MirlError, match=f"{smallest - 1}x40 pixels is too small.*{smallest}x{smallest}"):
        ssim(small, small, window)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_different_sizes_are_refused_naming_both(metric):
    with pytest.raises(MirlError, match="different sizes: 21x20 against 20x20"):
        metric(np.zeros((20, 21, 3)), np.zeros((20, 20, 3)))


@pytest.mark.parametrize("metric", [psnr, ssim])
@pytest.mark.parametrize(
    "bad", [np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20)), np.zeros((20, 20, 4)), np.zeros((0, 20, 3))]
)
def test_other_types_than_rgb_floats_are_refused(metric, bad):
    with pytest.raises(MirlError, match=r"metrics expect floating-point images \(h, w, 3\), found"):
        metric(bad, bad)


def test_an_unknown_window_is_refused():
    with pytest.raises(MirlError, match="unknown SSIM window 'box'; expected one of gaussian, uniform"):
        ssim(np.zeros((20, 20, 3)), np.zeros((20, 20, 3)), "box")


def test_ssim_of_a_benchmark_photo_takes_well_under_100_milliseconds():
    clean, other = photo_like(321, 481), photo_like(321, 481, seed=1)
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        ssim(other, clean)
        seconds.append(time.process_time() - begin)
    assert min(seconds) < 0.09
