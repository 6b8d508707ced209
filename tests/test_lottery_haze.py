"""The haze head's training: numpy gives torch's answers, a seed its head, hazy and clean photographs are told apart."""

import numpy as np
import pytest
import torch

from conftest import make_ticket
from mirl.cli import main
from mirl.data.bundled import held_out_photos, training_photos
from mirl.degrade.haze import HazeStrength, add_haze
from mirl.engine.haze import SIDE, amount_of_haze, probability, thumbnail
from mirl.engine.haze import features as seen
from mirl.image import read_pixels
from mirl.lottery.haze_answer import HazeTraining, HeadNetwork, features, train_haze_head, with_dark
from mirl.lottery.haze_examples import SHAPES, UNTREATED, Maker, Source, _levels
from mirl.lottery.haze_graphics import draw_graphic
from mirl.lottery.haze_scenes import SCENE, SCENES, SCENES_IN_HAZE, TONE, TONES, TONES_IN_HAZE, lit
from mirl.lottery.haze_sources import LARGEST_SIDE, MISTY, haze_sources
from mirl.lottery.haze_surfaces import draw_sky, draw_surface
from mirl.ticket import read_ticket, write_ticket

SHORT = HazeTraining(examples=1200, steps=300, batch=32)


@pytest.fixture(scope="module")
def trained():
    return train_haze_head(None, SHORT)


@pytest.mark.parametrize("shape", [(54, 96), (96, 64), (31, 18), (1, 1)])
def test_torch_and_numpy_give_one_answer(shape):
    small = np.random.default_rng(3).integers(0, 256, (*shape, 3), dtype=np.uint8)
    pixels = small.astype(np.float32) / 255
    network = HeadNetwork((8, 16, 12), torch.Generator().manual_seed(1))
    network.get_parameter("output.weight").data += torch.linspace(-1, 1, 12)
    network.halve()
    assert np.allclose(features(with_dark(small)[None])[0].numpy(), seen(pixels), atol=1e-6)
    assert network.probabilities([small])[0] == pytest.approx(probability(pixels, network.head(0.5, 0.9)), abs=1e-4)


def test_a_short_training_tells_hazy_photographs_from_clean_ones(trained):
    strength = HazeStrength(beta=(0.25, 0.35), continuous=True)
    clean = [read_pixels(path) for path in held_out_photos()]
    hazy = [add_haze(pixels, np.random.default_rng(i), strength) for i, pixels in enumerate(clean)]
    before, after = (np.array([probability(thumbnail(pixels), trained.head) for pixels in many]) for many in (clean, hazy))
    assert np.all(after / (1 - after) > 1.5 * before / (1 - before))  # odds: a probability near 1 hardly grows
    assert after.mean() > before.mean() + 0.4
    amounts = [np.mean([amount_of_haze(pixels, trained.head) for pixels in many]) for many in (clean, hazy)]
    assert amounts[0] < amounts[1] - 0.3


def test_a_head_fits_a_ticket_and_its_thresholds_are_the_validation_s(trained):
    head = trained.head
    assert head.size < 8000
    assert all(np.array_equal(tensor, tensor.astype(np.float16).astype(np.float32)) for tensor in head.tensors.values())
    assert trained.share_above(head.low, hazy=False) <= 0.5  # low is at least 0.5, however poor the head
    assert trained.share_above(head.high, hazy=True) > 0.3
    assert trained.told()["photos"] == trained.photos == 23


def test_the_command_writes_a_ticket_with_a_head_and_gives_it_to_another(tmp_path, capsys):
    write_ticket(make_ticket(), tmp_path / "bare.mirl", "float32")
    bare, first, second, other = (str(tmp_path / f"{name}.mirl") for name in ("bare", "first", "second", "other"))
    short = ["--examples", "24", "--steps", "2"]
    assert main(["haze-head", bare, "-o", first, *short]) == main(["haze-head", bare, "-o", second, *short]) == 0
    assert (tmp_path / "first.mirl").read_bytes() == (tmp_path / "second.mirl").read_bytes()
    assert main(["haze-head", bare, "-o", other, "--like", first]) == 0
    before, after, given = (read_ticket(tmp_path / f"{name}.mirl") for name in ("bare", "first", "other"))
    assert before.haze_head is None
    assert after.kept == before.kept + after.haze_head.size
    assert all(np.array_equal(after.weights[name], weight) for name, weight in before.weights.items())
    assert all(np.array_equal(given.haze_head.tensors[name], tensor) for name, tensor in after.haze_head.tensors.items())
    assert after.provenance["haze_head"]["steps"] == 2
    assert "haze head of" in capsys.readouterr().out
    assert main(["haze-head", bare, "-o", other, "--like", bare]) == 1
    assert "has no haze head" in capsys.readouterr().err


def test_a_seed_gives_the_same_head():
    training = HazeTraining(examples=24, steps=3, batch=4)
    one, same, other = (train_haze_head(None, HazeTraining(**{**vars(training), "seed": seed})) for seed in (4, 4, 5))
    assert (one.head.low, one.head.high) == (same.head.low, same.head.high)
    for name, tensor in one.head.tensors.items():
        assert tensor.tobytes() == same.head.tensors[name].tobytes()
    assert not np.array_equal(one.head.tensors["conv1.weight"], other.head.tensors["conv1.weight"])


@pytest.mark.parametrize("kind", [*SCENE, *TONE, "lit"])
def test_scenes_and_tones_keep_shape_and_range(kind):
    rng = np.random.default_rng(5)
    pixels = rng.random((41, 60, 3), dtype=np.float32)
    change = {**SCENE, **TONE, "lit": lit}[kind]
    changed = change(pixels, rng)
    assert changed.shape == pixels.shape
    assert -0.5 < changed.min() <= changed.max() < 1.5


def test_levels_never_lose_more_than_the_ends():
    pixels = np.linspace(0.3, 0.7, 96 * 96 * 3, dtype=np.float32).reshape(96, 96, 3)
    for seed in range(20):
        changed = _levels(pixels, np.random.default_rng(seed))
        assert 0 <= changed.min() < changed.max() <= 1
        assert np.all(np.diff(changed.reshape(-1)) >= 0)


def test_every_share_names_a_change():
    assert set(SCENES) == set(SCENE) >= set(SCENES_IN_HAZE)
    assert set(TONES) == set(TONE) >= set(TONES_IN_HAZE)


@pytest.fixture(scope="module")
def maker():
    return Maker(0)


@pytest.mark.parametrize("shape", SHAPES)
def test_examples_have_the_shape_asked_for_and_haze_veils_them(shape, maker):
    rng = np.random.default_rng(6)
    dark = Source((rng.random((150, 200, 3)) * 60).astype(np.uint8), None)
    made = {hazy: [maker.example(dark, shape, hazy, np.random.default_rng(i)) for i in range(12)] for hazy in (False, True)}
    assert all(example.small.shape == (*shape, 3) and max(shape) == SIDE for many in made.values() for example in many)
    plain = {hazy: [e.small.min() for e in many if e.kind == UNTREATED] for hazy, many in made.items()}
    assert np.median(plain[True]) > np.median(plain[False]) + 20


def test_graphics_are_light_or_dark_and_not_empty():
    drawn = [draw_graphic(120, 160, np.random.default_rng(i)) for i in range(24)]
    assert all(picture.shape == (120, 160, 3) and picture.std() > 0.005 for picture in drawn)
    grounds = [np.median(picture) for picture in drawn]
    assert min(grounds) < 0.3
    assert max(grounds) > 0.7


@pytest.mark.parametrize("draw", [draw_surface, draw_sky])
def test_surfaces_and_skies_are_pale_and_of_many_kinds(draw):
    drawn = [draw(54, 96, np.random.default_rng(i)) for i in range(60)]
    assert all(picture.shape == (54, 96, 3) and picture.dtype == np.float32 for picture in drawn)
    assert all(0 <= picture.min() <= picture.max() <= 1 for picture in drawn)
    brightest, spreads = ([float(of(picture)) for picture in drawn] for of in (np.max, np.std))
    assert min(brightest) > 0.4
    assert max(spreads) > 4 * min(spreads)
    assert np.array_equal(drawn[7], draw(54, 96, np.random.default_rng(7)))


def test_photographs_that_show_mist_train_nothing():
    named = [path for path in training_photos() if path.stem in MISTY]
    sources = list(haze_sources(None))
    assert len(named) == 2
    assert len(sources) == len(training_photos()) - len(named)
    for path in named:
        mean = read_pixels(path).mean((0, 1))
        assert not any(np.abs(each.pixels.mean((0, 1)) / 255 - mean).max() < 1e-3 for each in sources)
    assert max(max(each.pixels.shape) for each in sources) <= LARGEST_SIDE
