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


def drawn_whole(height, width, centre_y, centre_x, length, width_across, slope, brightness):
    """Sum streaks pixel by pixel from their definition, nothing left out but what is fainter than a thousandth."""
    total = np.zeros((height, width))
    for y0, x0, long, wide, tilt, bright in zip(centre_y, centre_x, length, width_across, slope, brightness, strict=True):
        cosine = 1 / np.sqrt(1 + tilt**2)
        along = (np.arange(height) - y0) / (long * cosine / 2)
        line = x0 + tilt * (np.arange(height) - y0)
        taper = np.where(np.abs(along) < 1, 0.5 + 0.5 * np.cos(np.pi * along), 0) ** 0.7
        across = (np.arange(width) - line[:, None]) * cosine / wide
        value = np.exp(-0.5 * across**2) * (taper * bright)[:, None]
        near = np.abs(np.arange(width) - np.floor(line)[:, None]) <= 5
        total += np.where(near & (value > 1e-3), value, 0)
    return total.reshape(-1)


@pytest.mark.parametrize("seed", range(4))
def test_rows_and_columns_that_are_left_out_hold_nothing(seed):
    rng, count = np.random.default_rng(seed), 60
    streaks = {
        "centre_y": rng.uniform(-30, 110, count), "centre_x": rng.uniform(-30, 130, count),
        "length": rng.uniform(4, 60, count), "slope": rng.normal(0, 0.5, count), "brightness": rng.gamma(2, 0.5, count),
    }  # fmt: skip
    wide = rng.uniform(0.3, (0.6, 3.0)[seed % 2], count)
    found = rain._render(80, 100, width=wide, **streaks)
    np.testing.assert_allclose(found, drawn_whole(80, 100, width_across=wide, **streaks), rtol=0, atol=1e-9)
    assert found.max() > 1
    beside = streaks | {"centre_x": np.full(count, -500.0)}
    assert not rain._render(80, 100, width=wide, **beside).any()
    assert not rain._render(80, 100, width=wide, **streaks | {"centre_y": np.full(count, -500.0)}).any()
