"""The tensor JPEG against Pillow's, quality by quality and sampling by sampling."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from mirl.data import bundled
from mirl.data.coding import Coding, jpeg
from mirl.data.draws import Draws

QUALITIES = (10, 20, 30, 40, 50, 60, 75, 85, 90, 95, 98)


def photograph(number: int) -> np.ndarray:
    with Image.open(bundled.training_photos()[number]) as image:
        return np.asarray(image.convert("RGB"))[128:320, 64:256].copy()


def pillow(image: np.ndarray, quality: int, full_chroma: bool) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0 if full_chroma else 2)
    with Image.open(buffer) as coded:
        return np.asarray(coded.convert("RGB")).astype(np.float64)


def tensors(*images: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("full_chroma", [False, True], ids=["4:2:0", "4:4:4"])
@pytest.mark.parametrize("quality", QUALITIES)
def test_coding_differs_from_pillows_by_at_most_a_fifth_of_what_coding_changes(quality: int, full_chroma: bool) -> None:
    images = [photograph(number) for number in (0, 4, 9)]
    ours = jpeg(tensors(*images), torch.full((3,), float(quality)), torch.full((3,), full_chroma))
    ours_255 = (ours * 255).permute(0, 2, 3, 1).numpy()
    theirs = np.stack([pillow(image, quality, full_chroma) for image in images])
    changed = np.abs(theirs - np.stack(images)).mean()
    assert np.abs(ours_255 - theirs).mean() <= 0.2 * changed
    assert changed > 0.05


def test_each_sample_of_a_batch_has_its_own_quality_and_sampling() -> None:
    image = photograph(2)
    batch = jpeg(tensors(image, image, image), torch.tensor([20.0, 90.0, 90.0]), torch.tensor([False, False, True]))
    for place, (quality, full) in zip(batch, ((20, False), (90, False), (90, True)), strict=True):
        alone = jpeg(tensors(image), torch.tensor([float(quality)]), torch.tensor([full]))[0]
        assert torch.equal(place, alone)
    assert not torch.equal(batch[1], batch[2])


def test_coding_a_coded_picture_again_on_the_same_grid_changes_little() -> None:
    once = jpeg(tensors(photograph(1)), torch.tensor([50.0]), torch.tensor([True]))
    twice = jpeg(once, torch.tensor([50.0]), torch.tensor([True]))
    shifted = jpeg(once.roll((3, 5), (-2, -1)), torch.tensor([50.0]), torch.tensor([True])).roll((-3, -5), (-2, -1))
    assert (twice - once).abs().mean() < 0.2 * (shifted - once).abs().mean()


def test_only_the_share_that_is_asked_for_is_coded() -> None:
    images = tensors(*[photograph(0)] * 40).permute(0, 2, 3, 1)
    draws = Draws(5, np.arange(40))
    coded = Coding(share=0.5, quality=(30, 40), twice=0.5)(images, draws)
    changed = (coded != images).flatten(1).any(dim=1)
    assert 10 <= int(changed.sum()) <= 30
    assert torch.equal(Coding(share=0.0)(images, draws), images)
    assert torch.equal(Coding(share=0.5, quality=(30, 40), twice=0.5)(images, draws), coded)
