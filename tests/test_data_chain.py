"""The chains of degradations on bundled photographs: each does what it says, in any batch the same."""

import numpy as np
import pytest
import torch

from mirl.data.chain import CHAINS
from mirl.data.patches import load_training_data
from mirl.data.stream import PatchStream
from mirl.recipe import TaskShare

PATCH = 32
pytestmark = pytest.mark.usefixtures("small_banks")


@pytest.fixture(scope="module")
def stream(small_banks: None) -> PatchStream:
    return load_training_data(None, [TaskShare(name) for name in CHAINS], PATCH, seed=0)


def patches(stream: PatchStream, name: str, count: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    index = list(CHAINS).index(name)
    batch = stream.batch(0, count * len(CHAINS))
    mine = batch.task == index
    return batch.degraded[mine], batch.clean[mine]


@pytest.mark.parametrize("name", CHAINS)
def test_patches_are_of_8_bits_and_the_size_asked_for(stream: PatchStream, name: str) -> None:
    for images in patches(stream, name):
        assert images.shape[1:] == (3, PATCH, PATCH)
        assert 0 <= images.min() <= images.max() <= 1
        torch.testing.assert_close(images * 255, (images * 255).round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", [name for name in CHAINS if name not in ("clean", "rescaled")])
def test_most_patches_are_degraded(stream: PatchStream, name: str) -> None:
    degraded, clean = patches(stream, name)
    assert (degraded != clean).flatten(1).any(dim=1).float().mean() > 0.6


def test_clean_patches_are_left_alone_or_coded_at_high_quality(stream: PatchStream) -> None:
    degraded, clean = patches(stream, "clean")
    same = (degraded == clean).flatten(1).all(dim=1).float().mean()
    assert 0.6 < same < 1
    assert (degraded - clean).abs().mean() < 1 / 255


def test_rain_only_adds_light_on_dark_grounds_and_haze_lowers_contrast(stream: PatchStream) -> None:
    degraded, clean = patches(stream, "rain")
    dark = clean < 0.2
    assert (degraded - clean)[dark].mean() > 0
    degraded, clean = patches(stream, "haze")
    assert degraded.std(dim=(2, 3)).mean() < clean.std(dim=(2, 3)).mean()
    assert degraded.mean() > clean.mean()


def test_grey_photographs_stay_grey(stream: PatchStream) -> None:
    for name in ("gaussian", "camera", "rain"):
        degraded, clean = patches(stream, name, 96)
        grey = (clean == clean[:, :1]).flatten(1).all(dim=1)
        assert grey.any()
        coded = 1 if CHAINS[name].coding else 0  # a coding's rounding may tint grey by a level
        spread = degraded[grey].amax(dim=1) - degraded[grey].amin(dim=1)
        assert (spread * 255).max() <= coded + 1e-3


def test_a_batch_depends_on_seed_and_step_alone(stream: PatchStream) -> None:
    again = load_training_data(None, [TaskShare(name) for name in CHAINS], PATCH, seed=0)
    first, second = stream.batch(3, 16), again.batch(3, 16)
    assert torch.equal(first.degraded, second.degraded)
    assert torch.equal(first.clean, second.clean)
    other = stream.batch(4, 16)
    assert not torch.equal(first.clean, other.clean)


def test_smaller_patches_early_in_a_training_come_from_the_same_stream(stream: PatchStream) -> None:
    early = stream.batch(0, 12, patch=16)
    assert early.clean.shape == (12, 3, 16, 16)
    assert torch.equal(early.clean, stream.batch(0, 12, patch=16).clean)
    assert torch.equal(stream.batch(0, 12, patch=PATCH).clean, stream.batch(0, 12).clean)


def test_correlated_noise_is_correlated_and_white_noise_is_not(stream: PatchStream) -> None:
    def correlation(name: str) -> float:
        degraded, clean = patches(stream, name, 96)
        noise = (degraded - clean)[((clean > 0.3) & (clean < 0.7)).flatten(1).float().mean(dim=1) > 0.5]
        noise = noise - noise.mean(dim=(1, 2, 3), keepdim=True)
        return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())

    assert correlation("correlated") > 0.3
    assert abs(correlation("gaussian")) < 0.15


def test_banks_hold_what_their_names_say(stream: PatchStream) -> None:
    sources = dict(zip(CHAINS, (synthesised for synthesised, _ in stream.sources), strict=True))
    photos = sources["haze"].stores["photos"]  # type: ignore[union-attr]
    shrunk = sources["camera"].stores["shrunk"]  # type: ignore[union-attr]
    assert len(shrunk) == len(photos)
    ratio = shrunk.heights / photos.heights
    assert np.all((ratio > 0.49) & (ratio < 0.71))


def test_no_sample_depends_on_the_batch_around_it(stream: PatchStream) -> None:
    """Phases of coding grids and of the last cut are each sample's own."""
    whole = stream.batch(1, 48)
    parts = [stream.batch(1, 8, rank, 6) for rank in range(6)]
    assert torch.equal(whole.degraded, torch.cat([part.degraded for part in parts]))
    assert torch.equal(whole.clean, torch.cat([part.clean for part in parts]))
