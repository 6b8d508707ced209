"""Streak layers against the statistics measured on Rain100L (../shared/data/README.md, "Recipe facts")."""

from dataclasses import replace

import numpy as np
import pytest

from mirl.degrade import rain

HEIGHT, WIDTH = 321, 481  # Rain100L's size


@pytest.fixture(scope="module")
def layers() -> np.ndarray:
    return np.stack([rain.streak_layer(HEIGHT, WIDTH, np.random.default_rng(seed)) for seed in range(60)]) * 255


def test_mean_coverage_and_peak_are_those_of_rain100l(layers):
    # Its 100 pairs: mean 5.7 (1.5..14), coverage 17.6 % (6.7..36), 99.9th percentile 107 (55..179).
    # The measured S is clipped where the photo is bright, which costs a few percent; these layers are not.
    means, coverage = layers.mean(axis=(1, 2)), (layers > 8).mean(axis=(1, 2)) * 100
    peaks = np.percentile(layers, 99.9, axis=(1, 2))
    assert means.mean() == pytest.approx(5.7, abs=1.2)
    assert coverage.mean() == pytest.approx(17.6, abs=2.5)
    assert peaks.mean() == pytest.approx(110, abs=10)
    assert 1 < means.min() < 3
    assert 10 < means.max() < 22
    assert 3 < coverage.min() < 10
    assert 25 < coverage.max() < 50
    assert 45 < peaks.min() < 75
    assert 150 < peaks.max() < 210


def test_a_layer_is_never_negative_and_most_of_it_is_dry(layers):
    assert layers.min() == 0
    assert layers.max() <= 230 + 1e-3
    assert ((layers < 0.5).mean(axis=(1, 2)) > 0.3).all()


def test_rain_is_the_same_in_red_green_and_blue_and_only_brightens():
    clean = np.random.default_rng(0).integers(0, 100, (90, 110, 3)).astype(np.float32) / 255
    added = rain.add_rain(clean, np.random.default_rng(1)) - clean
    assert added.min() >= 0
    dark_enough = (clean + added).max(axis=2) < 0.99
    assert np.allclose(added[dark_enough], added[dark_enough][:, :1], atol=1e-6)


def tilt_degrees(layer: np.ndarray) -> float:
    """Direction of the streaks from the structure tensor, in degrees from the vertical."""
    gy, gx = np.gradient(layer)
    return float(np.degrees(0.5 * np.arctan2(2 * (gx * gy).sum(), (gx**2 - gy**2).sum())))


def test_each_layer_has_one_direction_within_35_degrees_of_the_vertical(layers):
    whole = [tilt_degrees(layer) for layer in layers]
    assert max(map(abs, whole)) < 40
    assert np.std(whole) > 8
    for layer, tilt in zip(layers, whole, strict=True):
        halves = [tilt_degrees(half) for half in (layer[:, : WIDTH // 2], layer[:, WIDTH // 2 :])]
        assert max(abs(half - tilt) for half in halves) < 4


def test_strength_says_how_much_it_rains():
    drizzle = replace(rain.RAIN100L, coverage=0.05, peak_255=60.0)
    pour = replace(rain.RAIN100L, coverage=0.4, peak_255=180.0)
    light, heavy = (
        np.mean([rain.streak_layer(200, 200, np.random.default_rng(s), strength).mean() for s in range(8)])
        for strength in (drizzle, pour)
    )
    assert heavy > 8 * light


def test_a_layer_of_any_size_has_rain_in_it():
    for height, width in ((1, 1), (7, 300), (300, 5), (600, 40)):
        assert rain.streak_layer(height, width, np.random.default_rng(0)).shape == (height, width)
    small = [rain.streak_layer(16, 16, np.random.default_rng(seed)) * 255 for seed in range(200)]
    assert np.mean(small) == pytest.approx(5.9, abs=1.2)


def test_rendering_in_chunks_changes_only_where_streaks_fall_not_how_many(monkeypatch):
    before = np.mean([rain.streak_layer(200, 200, np.random.default_rng(s)).mean() for s in range(12)])
    monkeypatch.setattr(rain, "_CHUNK", 50)
    after = np.mean([rain.streak_layer(200, 200, np.random.default_rng(s)).mean() for s in range(12)])
    assert after == pytest.approx(before, rel=0.15)
