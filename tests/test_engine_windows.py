"""Windows: each alone, blended with weights that sum to one, the same pixels whatever memory, tile or backend."""

from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import make_ticket
from contract import TOLERANCE, on_every_backend, opened
from mirl.engine.engine import restore, restore_pixels
from mirl.engine.options import Options
from mirl.engine.tiles import map_windows, window_weights
from mirl.errors import MirlError
from mirl.windows import TRAINED, WHOLE, Windows, windows_of
from test_haze import make_head

PIXELS = np.random.default_rng(0).random((70, 150, 3), dtype=np.float32)
CUT = make_ticket()
TICKET = replace(CUT, windows=Windows(48, 16))


class Means:
    """A backend that gives every image its own mean: what a window does not see cannot show."""

    name, bytes_per_pixel, haze_head = "means", 1000.0, None

    def __init__(self, windows):
        self.windows, self.shapes = windows, []

    def forward(self, pixels):
        self.shapes.append(pixels.shape[:2])
        return np.broadcast_to(pixels.mean((0, 1)), pixels.shape).astype(np.float32)

    @contextmanager
    def shared_statistics(self, tiles, on_tile):
        raise AssertionError("windows share nothing")
        yield


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 900), st.integers(4, 20), st.floats(0, 0.5))
def test_the_weights_of_windows_sum_to_one(size, blocks, share):
    window, overlap = 8 * blocks, int(share * 8 * blocks)
    total, covered = np.zeros(size), []
    for start, weights in window_weights(size, window, overlap):
        assert start % 8 == 0
        assert len(weights) <= window
        assert weights.min() >= 0
        total[start : start + len(weights)] += weights
        covered.append((start, start + len(weights)))
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert (covered[0][0], covered[-1][1]) == (0, size)
    assert all(end - begin >= min(max(16, overlap), size) - 7 for (_, end), (begin, _) in pairwise(covered))


def test_each_window_is_restored_alone_and_neighbours_fade_into_each_other():
    backend, image = Means(Windows(32, 16)), np.zeros((32, 48, 3), np.float32)
    image[:, 32:] = 1
    restored = map_windows(backend.forward, image, 32, 16)
    assert backend.shapes == [(32, 32), (32, 32)]
    assert np.all(restored[:, :20] == 0)
    assert np.allclose(restored[:, 28:], 0.5)
    assert np.all(np.diff(restored[:, 20:28, 0]) > 0)


@pytest.mark.parametrize("size", [(96, 128), (90, 123), (33, 200)])
def test_windows_that_differ_by_a_shift_leave_no_trace_without_haze(size):
    """What a network makes of tone, window by window, is taken back to the last pixel."""
    random, pixels = np.random.default_rng(0), np.full((*size, 3), 0.5, np.float32)
    backend = Means(Windows(32, 16))
    backend.forward = lambda window: window + random.uniform(-0.3, 0.3, 3).astype(np.float32)
    assert np.abs(restore_pixels(backend, pixels, Options(tone="keep")) - pixels).max() < 0.02 * 0.6


@pytest.mark.parametrize(("size", "shape"), [((20, 30), (20, 30)), ((20, 96), (20, 48)), ((48, 48), (48, 48))])
def test_a_side_below_the_window_is_taken_whole(size, shape):
    backend = Means(Windows(48, 16))
    restore_pixels(backend, PIXELS[: size[0], : size[1]])
    assert set(backend.shapes) == {shape}


def test_windows_depend_on_no_tile_and_no_memory():
    ticket, results = TICKET, []
    for tile, bytes_per_pixel in ((None, None), (None, 1e12), (0, None), (32, 1e12)):
        backend = opened("torch", ticket)
        backend.bytes_per_pixel = bytes_per_pixel or backend.bytes_per_pixel
        results.append(restore_pixels(backend, PIXELS, Options(tile=tile)))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


@on_every_backend
@pytest.mark.parametrize("tone", ["auto", "keep"])
def test_all_backends_agree(kind, tone):
    ticket = replace(TICKET, haze_head=make_head())
    expected = restore_pixels(opened("torch", ticket), PIXELS, Options(tone=tone, denoise=0.7))
    found = restore_pixels(opened(kind, ticket), PIXELS, Options(tone=tone, denoise=0.7))
    assert np.abs(found - expected).max() < 5 * TOLERANCE[kind.partition("-")[0]]


def test_window_zero_is_the_whole_image_and_a_number_overrides_the_ticket():
    plain = restore(PIXELS, CUT, backend="torch")
    np.testing.assert_array_equal(restore(PIXELS, TICKET, backend="torch", window=0), plain)
    np.testing.assert_array_equal(
        restore(PIXELS[:40, :48], TICKET, backend="torch"), restore(PIXELS[:40, :48], CUT, backend="torch")
    )
    windowed = restore(PIXELS, TICKET, backend="torch")
    assert np.abs(windowed - plain).max() > 1e-5
    np.testing.assert_array_equal(restore(PIXELS, TICKET, backend="torch", window=48), windowed)
    other = restore(PIXELS, replace(CUT, windows=windows_of(64)), backend="torch")
    np.testing.assert_array_equal(restore(PIXELS, TICKET, backend="torch", window=64), other)


def test_a_haze_head_decides_one_amount_for_the_whole_photograph():
    head = make_head()
    sure, never = replace(head, low=0.0, high=1e-9), replace(head, low=1 - 1e-9, high=1.0)
    hazy, clear = (restore(PIXELS, replace(CUT, haze_head=each), backend="torch") for each in (sure, never))
    np.testing.assert_array_equal(hazy, restore(PIXELS, CUT, backend="torch"))
    np.testing.assert_array_equal(clear, restore(PIXELS, CUT, backend="torch", tone="keep"))
    np.testing.assert_array_equal(clear, restore(PIXELS, CUT, backend="torch", dehaze=0))
    assert np.abs(hazy - clear).max() > 1e-4


def test_progress_counts_windows_once():
    told = []
    restore_pixels(Means(Windows(32, 16)), PIXELS, on_tile=lambda *now: told.append(now))
    assert told == [(i + 1, len(told)) for i in range(len(told))]
    assert len(told) == len(window_weights(70, 32, 16)) * len(window_weights(150, 32, 16))


@pytest.mark.parametrize(("size", "overlap"), [(31, 0), (-1, 0), (1 << 17, 0), (60, 8), (64, 33), (64, -1), (0, 1)])
def test_impossible_windows_are_refused(size, overlap):
    with pytest.raises(MirlError, match=r"window|overlap"):
        Windows(size, overlap)


def test_the_usual_overlap_is_an_eighth():
    assert (windows_of(128), windows_of(256), windows_of(0)) == (TRAINED, Windows(256, 32), WHOLE)
