"""The haze head's training: numpy gives torch's answers, a seed its head, hazy and clean photographs are told apart."""

import numpy as np
import pytest
import torch

from mirl.data.bundled import held_out_photos
from mirl.degrade.haze import HazeStrength, add_haze
from mirl.engine.haze import SIDE, amount_of_haze, probability, thumbnail
from mirl.engine.haze import features as seen
from mirl.image import read_pixels
from mirl.lottery.haze_answer import HazeTraining, HeadNetwork, features, train_haze_head, with_dark
from mirl.lottery.haze_examples import SCENE, SCENES, SHAPES, TONE, TONES, TONES_IN_HAZE, Maker, Source
from mirl.lottery.haze_graphics import draw_graphic

SHORT = HazeTraining(examples=1200, validation_examples=200, steps=250, batch=32)


@pytest.fixture(scope="module")
def trained():
    return train_haze_head(None, SHORT)


@pytest.mark.parametrize("shape", [(54, 96), (96, 64), (31, 18), (1, 1)])
def test_torch_and_numpy_give_one_answer(shape):
    small = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    pixels = small.astype(np.float32) / 255
    network = HeadNetwork((8, 16, 12), torch.Generator().manual_seed(1))
    network.tensors["output_weight"].data += torch.linspace(-1, 1, 12)
    network.halve()
    assert np.allclose(features(with_dark(small)[None])[0].numpy(), seen(pixels), atol=1e-6)
    assert network.probabilities([small])[0] == pytest.approx(probability(pixels, network.head(0.5, 0.9)), abs=1e-4)


def test_a_short_training_tells_hazy_photographs_from_clean_ones(trained):
    strength = HazeStrength(beta=(0.25, 0.35), continuous=True)
    clean = [read_pixels(path) for path in held_out_photos()]
    hazy = [add_haze(pixels, np.random.default_rng(i), strength) for i, pixels in enumerate(clean)]
    answers = [[probability(thumbnail(pixels), trained.head) for pixels in many] for many in (clean, hazy)]
    assert max(answers[0]) < min(answers[1])
    assert all(amount_of_haze(pixels, trained.head) == 0 for pixels in clean)


def test_a_head_fits_a_ticket_and_its_thresholds_are_the_validation_s(trained):
    head = trained.head
    assert head.size < 8000
    assert all(np.array_equal(tensor, tensor.astype(np.float16).astype(np.float32)) for tensor in head.tensors.values())
    assert trained.share_above(head.low, hazy=False) <= 0.5  # low is at least 0.5, however poor the head
    assert trained.share_above(head.high, hazy=True) > 0.3
    assert trained.told()["photos"] == trained.photos == 25


def test_a_seed_gives_the_same_head():
    training = HazeTraining(examples=24, validation_examples=12, steps=3, batch=4)
    one, same, other = (train_haze_head(None, HazeTraining(**{**vars(training), "seed": seed})) for seed in (4, 4, 5))
    assert (one.head.low, one.head.high) == (same.head.low, same.head.high)
    for name, tensor in one.head.tensors.items():
        assert tensor.tobytes() == same.head.tensors[name].tobytes()
    assert not np.array_equal(one.head.tensors["conv1.weight"], other.head.tensors["conv1.weight"])


@pytest.mark.parametrize("kind", [*SCENE, *TONE])
def test_scenes_and_tones_keep_shape_and_range(kind):
    rng = np.random.default_rng(5)
    pixels = rng.random((41, 60, 3), dtype=np.float32)
    change = {**SCENE, **TONE}[kind]
    changed = change(pixels, rng)
    assert changed.shape == pixels.shape
    assert -0.5 < changed.min() <= changed.max() < 1.5


def test_every_share_names_a_change():
    assert set(SCENES) == set(SCENE)
    assert set(TONES) == set(TONE) >= set(TONES_IN_HAZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_examples_have_the_shape_asked_for_and_haze_veils_them(shape):
    rng = np.random.default_rng(6)
    dark = Source((rng.random((150, 200, 3)) * 60).astype(np.uint8), None)
    maker = Maker(0)
    made = {hazy: [maker.example(dark, shape, hazy, np.random.default_rng(i)) for i in range(12)] for hazy in (False, True)}
    assert all(example.small.shape == (*shape, 3) and max(shape) == SIDE for many in made.values() for example in many)
    plain = {hazy: [e.small.min() for e in many if e.kind == "photo, as it is"] for hazy, many in made.items()}
    assert np.median(plain[True]) > np.median(plain[False]) + 20


def test_graphics_are_light_or_dark_and_not_empty():
    drawn = [draw_graphic(120, 160, np.random.default_rng(i)) for i in range(24)]
    assert all(picture.shape == (120, 160, 3) and picture.std() > 0.005 for picture in drawn)
    grounds = [np.median(picture) for picture in drawn]
    assert min(grounds) < 0.3
    assert max(grounds) > 0.7
