"""Tiles cover every pixel, their windows sum to one, and what tiles cannot change comes out unchanged."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.engine.tiles import OVERLAP, choose_tile, map_tiles, starts, tile_bytes, windows

lines = st.tuples(st.integers(1, 400), st.integers(2, 120), st.integers(0, 60)).map(
    lambda line: (line[0], line[1], min(line[2], line[1] // 2))
)


@given(lines)
def test_tiles_cover_the_line_and_share_at_least_the_overlap(line):
    size, tile, overlap = line
    begin = starts(size, tile, overlap)
    tile = min(tile, size)
    assert begin[0] == 0
    assert begin[-1] + tile == size
    assert all(left + tile - right >= overlap for left, right in pairwise(begin))
    assert all(left < right for left, right in pairwise(begin))


@given(lines)
def test_no_tile_could_be_left_out(line):
    size, tile, overlap = line
    count = len(starts(size, tile, overlap))
    assert count == 1 or (count - 1) * (tile - overlap) + overlap < size


@given(lines)
def test_windows_sum_to_one_over_every_pixel(line):
    size, tile, overlap = line
    weights = windows(size, tile, overlap)
    total = np.zeros(size)
    for start, window in zip(starts(size, tile, overlap), weights, strict=True):
        assert window.min() >= 0
        total[start : start + len(window)] += window
    np.testing.assert_allclose(total, 1, atol=1e-6)


@given(lines)
def test_windows_fade_without_steps(line):
    size, tile, overlap = line
    if overlap < 8:
        return
    for window in windows(size, tile, overlap):
        assert np.abs(np.diff(window)).max(initial=0) <= 1.6 * np.pi / 2 / overlap  # slope of the sine-squared ramp


def test_a_window_is_nearly_zero_where_its_tile_ends_inside_the_image():
    first, middle, last = windows(300, 140, 60)
    assert first[0] == last[-1] == 1
    assert max(first[-1], middle[0], middle[-1], last[0]) < 0.002


sizes = st.integers(1, 70)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, st.integers(1, 80), st.integers(1, 80), st.integers(0, 80))
def test_an_identity_comes_out_exactly_for_all_sizes_tiles_and_overlaps(height, width, tall, wide, overlap):
    pixels = np.random.default_rng(0).random((height, width, 3), dtype=np.float32)
    before = pixels.copy()
    tiled = map_tiles(lambda tile: tile, pixels, (tall, wide), overlap)
    assert tiled.dtype == np.float32
    np.testing.assert_allclose(tiled, pixels, atol=1e-6)
    np.testing.assert_array_equal(pixels, before)


def test_all_tiles_have_the_same_size_and_are_counted():
    seen, reports = [], []

    def forward(tile):
        seen.append(tile.shape)
        assert tile.flags.c_contiguous
        return tile

    map_tiles(forward, np.zeros((100, 130, 3), np.float32), (40, 50), 8, lambda *report: reports.append(report))
    assert set(seen) == {(40, 50, 3)}
    assert reports == [(done, len(seen)) for done in range(1, len(seen) + 1)]


def test_tiles_that_disagree_blend_without_a_step():
    shades = iter(np.linspace(0, 1, 12))
    result = map_tiles(lambda tile: np.full_like(tile, next(shades)), np.zeros((60, 200, 3), np.float32), (60, 50), 24)
    assert np.abs(np.diff(result[..., 0], axis=1)).max() < 0.02
    assert np.abs(np.diff(result[..., 0], axis=0)).max() < 1e-6


@given(st.integers(1, 20_000), st.integers(1, 20_000), st.sampled_from([200.0, 1800.0, 3600.0, 11_000.0]))
def test_the_chosen_tile_fits_the_memory_and_wastes_little(height, width, bytes_per_pixel):
    tall, wide = choose_tile(height, width, bytes_per_pixel)
    assert 1 <= tall <= height
    assert 1 <= wide <= width
    assert tall * wide * bytes_per_pixel <= tile_bytes(height, width)
    if (tall, wide) == (height, width):
        return
    work = len(starts(height, tall, OVERLAP)) * len(starts(width, wide, OVERLAP)) * tall * wide
    assert work <= 2.5 * height * width
    assert all(side % 8 == 0 or side == whole for side, whole in ((tall, height), (wide, width)))


@pytest.mark.parametrize(("height", "width"), [(3000, 4000), (4000, 3000), (1000, 1000)])
def test_the_tile_of_a_photo_is_large_and_nearly_square(height, width):
    tall, wide = choose_tile(height, width, 3600.0)
    assert min(tall, wide) >= 480
    assert max(tall, wide) <= 1.2 * min(tall, wide)


def test_a_small_image_is_one_tile_and_a_huge_network_gets_the_smallest():
    assert choose_tile(300, 400, 3600.0) == (300, 400)
    assert choose_tile(4000, 3000, 1e6) == (2 * OVERLAP, 2 * OVERLAP)
    assert choose_tile(4000, 100, 1e6) == (2 * OVERLAP, 100)
