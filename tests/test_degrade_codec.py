"""The real codecs: quality and passes matter, grids lie at any phase, a share of nothing changes nothing."""

from dataclasses import replace

import numpy as np
import pytest

from mirl.data.bundled import training_photos
from mirl.degrade.codec import LARGEST_WEBP, Codec, code
from mirl.degrade.smooth import shrink_by_area
from mirl.image import read_pixels

ONCE = Codec(quality=(30, 30), full_chroma_share=0, twice_share=0)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [shrink_by_area(read_pixels(path), 0.5)[40:168, 60:220] for path in training_photos()[4:24:5]]


def error(photos: list[np.ndarray], codec: Codec) -> float:
    codes = [(photo, code(photo, np.random.default_rng(seed), codec)) for photo in photos for seed in range(3)]
    return float(np.mean([np.square(coded - photo).mean() for photo, coded in codes]))


@pytest.mark.parametrize("webp_share", [0.0, 1.0])
def test_lower_quality_costs_more_and_no_share_costs_nothing(photos, webp_share):
    ladder = [error(photos, replace(ONCE, quality=(q, q), webp_share=webp_share)) for q in (95, 75, 50, 20)]
    assert ladder == sorted(ladder)
    assert ladder[-1] > 3 * ladder[0] > 0
    assert error(photos, replace(ONCE, share=0)) == 0


def test_coarser_chroma_and_a_second_pass_cost_more_and_webp_is_no_jpeg(photos):
    assert (
        error(photos, replace(ONCE, full_chroma_share=1)) < error(photos, ONCE) < error(photos, replace(ONCE, twice_share=1))
    )
    assert error(photos, ONCE) != error(photos, replace(ONCE, webp_share=1))


def test_the_grid_of_blocks_lies_at_every_phase():
    ramp = np.broadcast_to(np.linspace(0.2, 0.8, 160, dtype=np.float32)[None, :, None], (48, 160, 3))
    rng = np.random.default_rng(1)
    textured = np.clip(ramp + rng.normal(0, 0.05, ramp.shape).astype(np.float32), 0, 1)
    phases = set()
    for seed in range(40):
        coded = code(textured, np.random.default_rng(seed), replace(ONCE, quality=(8, 8)))
        jumps = np.abs(np.diff(coded.mean(2), axis=1)).mean(0)
        phases.add(int(np.argmax([jumps[phase::8].mean() for phase in range(8)])))
    assert phases == set(range(8))


def test_a_picture_too_wide_for_webp_is_coded_as_jpeg():
    wide = np.full((1, LARGEST_WEBP + 1, 3), 0.5, np.float32)
    assert code(wide, np.random.default_rng(0), replace(ONCE, webp_share=1)).shape == wide.shape
