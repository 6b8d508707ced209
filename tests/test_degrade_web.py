"""The web's treatment of photos: real codecs, quality matters, every option is taken at its rate."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mirl.data.bundled import training_photos
from mirl.degrade import web

PLAIN = web.WebStrength(shrink_share=0, webp_share=0, full_chroma_share=0, second_coding_share=0)


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    pictures = [Image.open(path).convert("RGB").crop((100, 100, 300, 260)) for path in training_photos()[4:24:5]]
    return [np.asarray(picture, np.float32) / 255 for picture in pictures]


def error(photos, strength, seeds=range(3)):
    rounds = [web.pass_through_web(p, np.random.default_rng(s), strength) - p for p in photos for s in seeds]
    return float(np.mean([np.square(difference).mean() for difference in rounds]))


@pytest.mark.parametrize("webp_share", [0.0, 1.0])
def test_lower_quality_costs_more_on_average(photos, webp_share):
    ladder = [error(photos, replace(PLAIN, quality=(q, q), webp_share=webp_share), [0]) for q in (90, 70, 50, 30, 10)]
    assert ladder == sorted(ladder)
    assert ladder[-1] > 3 * ladder[0]


def test_a_smaller_copy_costs_more(photos):
    ladder = [error(photos, replace(PLAIN, quality=(90, 90), shrink_share=1, factor=(f, f))) for f in (1.0, 0.7, 0.4)]
    assert ladder == sorted(ladder)


def test_a_second_coding_and_thinner_chroma_cost_more(photos):
    once = replace(PLAIN, quality=(40, 40))
    assert error(photos, replace(once, second_coding_share=1)) > 1.1 * error(photos, once)
    assert error(photos, once) > error(photos, replace(once, full_chroma_share=1))


def test_webp_and_jpeg_differ(photos):
    jpeg, webp = (
        web.pass_through_web(photos[0], np.random.default_rng(0), replace(PLAIN, quality=(30, 30), webp_share=share))
        for share in (0, 1)
    )
    assert np.abs(jpeg - webp).mean() > 1 / 255


def blockiness(image: np.ndarray, phase: int) -> float:
    """Mean jump between columns at x = phase (mod 8) over that at all columns."""
    jumps = np.abs(np.diff(image, axis=1)).mean(axis=(0, 2))
    return float(jumps[(phase - 1) % 8 :: 8].mean() / jumps.mean())


def test_the_second_coding_has_another_block_grid(photos):
    image = np.concatenate([photos[0]] * 2)
    single = web.pass_through_web(image, np.random.default_rng(0), replace(PLAIN, quality=(10, 10)))
    assert int(np.argmax([blockiness(single, phase) for phase in range(8)])) == 0
    strongest = set()
    for seed in range(8):
        strength = replace(PLAIN, quality=(10, 10), second_coding_share=1)
        twice = web.pass_through_web(image, np.random.default_rng(seed), strength)
        strongest.add(int(np.argmax([blockiness(twice, phase) for phase in range(8)])))
    assert len(strongest - {0}) >= 3


def test_a_picture_too_wide_for_webp_is_coded_as_jpeg():
    wide = np.full((1, 17000, 3), 0.5, np.float32)
    result = web.pass_through_web(wide, np.random.default_rng(0), replace(PLAIN, webp_share=1))
    assert result.shape == wide.shape
