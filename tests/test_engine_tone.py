"""Tone: the change is split exactly, haze is believed as far as it is wanted, fine change always, shifts never."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.engine.tone import BLOCK, Split, apply_change, block_means, enlarge
from mirl.errors import MirlError

SHIFT = 0.1


def photo(height: int = 70, width: int = 90, seed: int = 0) -> np.ndarray:
    """Slopes with some texture, away from black and white."""
    random = np.random.default_rng(seed)
    slope = np.linspace(0.3, 0.6, width, dtype=np.float32)[None, :, None] * np.ones((height, 1, 3), np.float32)
    return slope + random.normal(0, 0.03, (height, width, 3)).astype(np.float32)


def changed(
    pixels: np.ndarray, restored: np.ndarray, strength: float = 1, denoise: float = 1, haze: float = 1, window: int = 0
) -> np.ndarray:
    return apply_change(pixels, restored.astype(np.float32).copy(), strength, denoise, haze, window, "fake")


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 9))
def test_block_means_are_means_and_enlarging_keeps_a_plane(height, width, seed):
    values = np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)
    means = block_means(values)
    for i in range(means.shape[0]):
        for j in range(means.shape[1]):
            part = values[BLOCK * i : BLOCK * (i + 1), BLOCK * j : BLOCK * (j + 1)]
            np.testing.assert_allclose(means[i, j], part.mean((0, 1)), atol=1e-6)
    rows, columns = np.mgrid[0 : means.shape[0], 0 : means.shape[1]].astype(np.float32)
    plane = np.stack([rows, columns, rows + 2 * columns], axis=2)
    places = [
        np.clip((np.arange(size) + 0.5) / BLOCK - 0.5, 0, count - 1)
        for size, count in ((height, len(rows)), (width, columns.shape[1]))
    ]
    y, x = np.meshgrid(*places, indexing="ij")
    np.testing.assert_allclose(enlarge(plane, 0, height, width), np.stack([y, x, y + 2 * x], axis=2), atol=1e-5)


def test_bands_are_parts_of_the_whole():
    blocks = np.random.default_rng(0).random((9, 5, 3), dtype=np.float32)
    whole = enlarge(blocks, 0, 70, 37)
    np.testing.assert_array_equal(enlarge(blocks, 3 * BLOCK, 70 - 3 * BLOCK, 37), whole[3 * BLOCK :])


@pytest.mark.parametrize("size", [(70, 90), (1, 1), (300, 5), (600, 40)])
def test_the_two_parts_are_the_whole_change(size):
    pixels = photo(*size)
    restored = pixels + 0.5 * np.random.default_rng(1).normal(0, 0.1, pixels.shape).astype(np.float32) - SHIFT
    split = Split(pixels, restored)
    removed, hazy = split.rest(pixels, restored, 0), split.haze(pixels, 0)
    np.testing.assert_allclose(removed + hazy, restored - pixels, atol=1e-6)


def test_everything_wanted_is_the_output_of_the_network_exactly():
    pixels = photo()
    restored = 1.4 * pixels - 0.3
    np.testing.assert_array_equal(changed(pixels, restored), np.clip(restored, 0, 1))
    nearly = changed(pixels, restored, haze=np.nextafter(np.float32(1), np.float32(0)))
    np.testing.assert_allclose(nearly, np.clip(restored, 0, 1), atol=1e-5)


@pytest.mark.parametrize("shift", [-SHIFT, SHIFT])
def test_without_haze_a_shift_of_tone_is_undone_and_with_haze_kept(shift):
    pixels = photo()
    np.testing.assert_allclose(changed(pixels, pixels + shift, haze=0), pixels, atol=1e-6)
    np.testing.assert_allclose(changed(pixels, pixels + shift, denoise=0), pixels + shift, atol=1e-6)
    half = changed(pixels, pixels + shift, haze=0.5)
    np.testing.assert_allclose(half, pixels + shift / 2, atol=1e-6)


def test_without_haze_raised_contrast_is_undone():
    """Dehazing is x / t - A (1 - t) / t: a shift, and contrast raised."""
    pixels = photo()
    dehazed = (pixels - 0.3) / 0.7
    assert np.abs(changed(pixels, dehazed, haze=0) - pixels).max() < 0.1 * np.abs(dehazed - pixels).max()


def test_windows_take_away_what_raises_contrast_and_nothing_else():
    """A head that takes a photograph for a hazy one is wrong where the network only moves its tone."""
    pixels = photo()
    for haze in (0, 1):
        np.testing.assert_allclose(changed(pixels, pixels - SHIFT, haze=haze, window=32), pixels, atol=1e-6)
    dehazed = (pixels - 0.2) / 0.8
    np.testing.assert_allclose(changed(pixels, dehazed, window=32), dehazed, atol=0.01)


def test_windows_that_see_different_haze_do_not_show():
    """Two windows darken a smooth sky by different amounts: a step, which the windows' common word has not."""
    sky = np.linspace(0.6, 0.7, 512, dtype=np.float32)[None, :, None] * np.ones((192, 1, 3), np.float32)
    sky[128:] += np.random.default_rng(4).normal(0, 0.03, (64, 512, 3)).astype(np.float32)  # the ground, seen better
    ramp = np.sin(np.clip((np.arange(512) - 247.5) / 16, 0, 1) * np.pi / 2) ** 2  # as windows are blended
    restored = sky - (0.05 + 0.15 * ramp).astype(np.float32)[None, :, None]
    restored[128:] += 0.3 * (sky[128:] - sky[:64])
    shift = (changed(sky, restored, window=64) - sky)[:128]
    blocks = shift.reshape(16, 8, 64, 8, 3).mean((1, 3))
    assert np.abs(np.diff(blocks, axis=1)).max() < 0.1 * 0.15
    np.testing.assert_allclose(shift[:, :100], -0.05, atol=0.01)
    np.testing.assert_allclose(shift[:, -100:], -0.2, atol=0.01)
    plain = (changed(sky, restored) - sky)[:128].reshape(16, 8, 64, 8, 3).mean((1, 3))
    assert np.abs(np.diff(plain, axis=1)).max() > 0.07


def test_the_common_word_of_windows_follows_the_photograph():
    """x / t - A (1 - t) / t in every window: what all windows agree on is kept, edges included."""
    pixels = photo(96, 128)
    pixels[:, 60:] -= 0.25
    dehazed = (pixels - 0.3) / 0.7
    np.testing.assert_allclose(changed(pixels, dehazed, window=64), np.clip(dehazed, 0, 1), atol=0.03)


def test_fine_change_does_not_depend_on_haze():
    random = np.random.default_rng(2)
    noise = random.normal(0, 0.1, (72, 96, 3)).astype(np.float32)
    clean = np.full((72, 96, 3), 0.5, np.float32)
    for haze in (0, 0.3, 1):
        restored = changed(clean + noise, clean, haze=haze)
        assert np.abs(restored - clean).std() < 0.15 * noise.std()


def test_a_change_of_the_mean_is_believed_where_fine_energy_is_removed_with_it():
    """Streaks are brighter than what is behind them, and noise that was clipped at black has raised its mean."""
    random, clean = np.random.default_rng(3), np.full((96, 96, 3), 0.3, np.float32)
    streaks = np.where(random.random((96, 96, 1)) < 0.15, np.float32(0.4), np.float32(0))
    rainy = clean + streaks
    assert np.abs(changed(rainy, clean, haze=0) - clean).mean() < 0.25 * streaks.mean()
    black = np.zeros((96, 96, 3), np.float32)
    noisy = np.maximum(random.normal(0, 0.1, black.shape), 0).astype(np.float32)
    assert changed(noisy, black, haze=0).mean() < 0.2 * noisy.mean()
    smooth = np.full_like(clean, 0.3 + noisy.mean())  # the same shift without anything fine is not believed
    np.testing.assert_allclose(changed(smooth, clean, haze=0), smooth, atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_amounts_blend_the_two_parts_and_stay_in_range(strength, denoise, haze, seed):
    pixels = np.clip(photo(40, 50, seed) * 2 - 0.5, 0, 1)
    restored = pixels + np.random.default_rng(seed).normal(0, 0.1, pixels.shape).astype(np.float32) - SHIFT
    split = Split(pixels, restored)
    removed, hazy = split.rest(pixels, restored, 0), split.haze(pixels, 0)
    expected = pixels + strength * (denoise * removed + haze * hazy)
    found = changed(pixels, restored, strength, denoise, haze)
    if denoise < 1 or haze < 1:  # else blended behind clipping, as ever
        np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-5)
    assert found.min() >= 0
    assert found.max() <= 1


def test_what_is_no_number_is_refused_and_the_input_stays():
    pixels = photo()
    before, broken = pixels.copy(), pixels.copy()
    broken[-1, -1, 0] = np.inf
    for haze in (0, 1):
        with pytest.raises(MirlError, match="fake backend gave NaN or infinite"):
            changed(pixels, broken, haze=haze)
    changed(pixels, 1 - pixels, haze=0)
    np.testing.assert_array_equal(pixels, before)
