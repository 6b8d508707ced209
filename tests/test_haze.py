"""The haze head: its thumbnail is an exact mean, its convolutions are torch's, its value is checked."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirl.engine.haze import SIDE, amount_of_haze, features, probability, thumbnail
from mirl.errors import MirlError
from mirl.haze_head import HazeHead, head_shapes, head_size


def make_head(widths=(4, 6), seed=0, low=0.2, high=0.8):
    random = np.random.default_rng(seed)
    tensors = {
        name: random.normal(0, 0.5, shape).astype(np.float32) if shape else np.float32(random.normal()).reshape(())
        for name, shape in head_shapes(widths).items()
    }
    return HazeHead(widths, low, high, tensors)


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 100))
@settings(max_examples=40, deadline=None)
def test_a_thumbnail_is_the_mean_over_exact_areas(height, width, side):
    pixels = np.random.default_rng(height).random((height, width, 3), dtype=np.float32)
    small = thumbnail(pixels, side)
    assert max(small.shape[:2]) == min(side, max(height, width))
    assert small.mean((0, 1)) == pytest.approx(pixels.mean((0, 1)), abs=1e-5)
    if max(height, width) > side:  # the definition: enlarge by repetition until parts are whole, then average
        rows, columns = small.shape[:2]
        tall = np.repeat(pixels[:, :40], rows, axis=0).reshape(rows, height, -1, 3).mean(1)
        if width <= 40:
            wide = np.repeat(tall, columns, axis=1).reshape(rows, columns, width, 3).mean(2)
            assert np.allclose(small, wide, atol=1e-5)


def test_a_small_photograph_is_not_enlarged():
    pixels = np.random.default_rng(0).random((20, SIDE, 3), dtype=np.float32)
    assert np.array_equal(thumbnail(pixels), pixels)


def test_the_dark_channel_looks_two_pixels_around_and_no_further():
    small = np.ones((9, 12, 3), np.float32)
    small[4, 6, 1] = 0
    dark = features(small)[3]
    assert not dark[2:7, 4:9].any()
    assert dark.sum() == 9 * 12 - 25


def test_saturation_of_grey_is_zero_and_of_black_finite():
    assert not features(np.zeros((4, 4, 3), np.float32))[4].any()
    red = np.zeros((1, 1, 3), np.float32)
    red[..., 0] = 1
    assert features(red)[4, 0, 0] == pytest.approx(1 / 1.001)


@pytest.mark.parametrize("size", [(1, 1), (31, 18), (64, 96)])
def test_the_head_is_the_network_of_the_specification(size):
    torch = pytest.importorskip("torch")
    head = make_head((8, 16, 12))
    small = np.random.default_rng(1).random((*size, 3), dtype=np.float32)
    x = torch.from_numpy(features(small))[None]
    for i in (1, 2, 3):
        weight, bias = (torch.from_numpy(head.tensors[f"conv{i}.{kind}"]) for kind in ("weight", "bias"))
        x = torch.relu(torch.nn.functional.conv2d(x, weight, bias, stride=2, padding=1))
    wanted = torch.sigmoid(x.mean((0, 2, 3)) @ torch.from_numpy(head.tensors["output.weight"]) + head.tensors["output.bias"])
    assert probability(small, head) == pytest.approx(float(wanted), abs=1e-6)


def test_the_amount_of_haze_runs_from_zero_at_low_to_one_at_high():
    pixels = np.random.default_rng(2).random((50, 70, 3), dtype=np.float32)
    p = probability(pixels, make_head())
    for low, high, wanted in [(p + 0.1, 1, 0), (0, p - 0.01, 1), (p - 0.1, p + 0.1, 0.5)]:
        assert amount_of_haze(pixels, make_head(low=max(low, 0), high=high)) == pytest.approx(wanted, abs=1e-6)


def test_a_head_counts_its_values():
    head = make_head((4, 6))
    assert head.size == head_size((4, 6)) == 4 * 45 + 4 + 6 * 36 + 6 + 6 + 1 == sum(t.size for t in head.tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": ()}, "widths"),
        ({"widths": (4, 10**6)}, "widths"),
        ({"widths": (4, 7)}, "conv2"),
        ({"low": 0.9}, "low"),
        ({"high": float("nan")}, "high"),
        ({"tensors": {}}, "tensors"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(change, message):
    head = make_head()
    fields = {"widths": head.widths, "low": head.low, "high": head.high, "tensors": head.tensors}
    with pytest.raises(MirlError, match=message):
        HazeHead(**{**fields, **change})
    broken = {**head.tensors, "output.weight": np.full(6, np.inf, np.float32)}
    with pytest.raises(MirlError, match="finite"):
        HazeHead(head.widths, head.low, head.high, broken)
