"""The registry of tasks: every entry makes pairs as it says, and whatever lists tasks reads it."""

import numpy as np
import pytest
from PIL import Image

from mirl.data.bundled import training_photos
from mirl.data.pairs import INPUT_SUFFIXES, KINDS, find_sets
from mirl.data.synth import synthesise
from mirl.degrade.codec import code_jpeg
from mirl.degrade.rounding import round_to_8_bits
from mirl.degrade.smooth import shrink_by_area
from mirl.degrade.stored import LARGEST_GRAPHIC, RESCALED, SHRUNK
from mirl.degrade.tasks import PHOTOS, TASKS, Task
from mirl.evaluate.metrics import psnr
from mirl.image import read_pixels

SHRINKING = {"correlated", "camera", "coded", "grey", "jpeg", "webp", "clean", "tone"}
KEPT = {"clean", "graphics", "tone"}
"""Tasks whose input often is the target."""


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    """Middles of bundled photographs, at the size they are stored in."""
    return [read_pixels(path)[200:360, 250:430] for path in training_photos()[:24:6]]


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("shape", [(96, 120), (1, 1), (3, 70), (65, 2)])
def test_every_task_keeps_shape_type_range_and_8_bit_levels_and_its_input(name, shape):
    photo = np.rint(np.random.default_rng(0).random((*shape, 3), np.float32) * 255) / np.float32(255)
    before = photo.copy()
    degraded, clean = TASKS[name].pair(photo, np.random.default_rng(3))
    assert degraded.shape == clean.shape
    for side in (degraded, clean):
        assert side.dtype == np.float32
        assert 0 <= side.min() <= side.max() <= 1
        np.testing.assert_array_equal(side, round_to_8_bits(side))
    np.testing.assert_array_equal(photo, before)
    np.testing.assert_array_equal(TASKS[name].degrade(photo, np.random.default_rng(3)).shape, photo.shape)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_is_a_function_of_the_generators_seed(name, photos):
    first, again, other = (TASKS[name].pair(photos[1], np.random.default_rng(seed)) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[0].shape != other[0].shape or not np.array_equal(first[0], other[0])


@pytest.mark.parametrize("name", sorted(TASKS))
def test_every_task_degrades_a_photograph_as_much_as_it_says_and_no_more(name, photos):
    pairs = [TASKS[name].pair(photo, np.random.default_rng(seed)) for seed in range(4) for photo in photos]
    decibels = [min(psnr(degraded, clean), 60.0) for degraded, clean in pairs]
    if name == "clean":
        assert min(decibels) == 60
    elif name in KEPT:
        assert 0.1 < np.mean(np.array(decibels) < 60) < 0.95
        assert min(decibels) > 13
    else:
        assert 14 < np.median(decibels) < 40
        assert min(decibels) > 7


@pytest.mark.parametrize("name", sorted(TASKS))
def test_targets_are_the_photograph_or_shrunk_as_documented(name, photos):
    photo = photos[0]
    _, clean = TASKS[name].pair(photo, np.random.default_rng(11))
    if name in SHRINKING:
        factors = np.divide(clean.shape[:2], photo.shape[:2])
        assert SHRUNK[0] - 0.01 < factors.min() <= factors.max() < SHRUNK[1] + 0.01
    elif name == "rescaled":
        assert RESCALED[0] * 160 - 1 <= clean.shape[0] <= 161
    elif name == "graphics":
        assert clean.shape == photo.shape
        large, _ = TASKS[name].pair(np.zeros((600, 700, 3), np.float32), np.random.default_rng(0))
        assert large.shape == (LARGEST_GRAPHIC, LARGEST_GRAPHIC, 3)
    else:
        np.testing.assert_array_equal(clean, photo)


def test_grey_pairs_are_grey_on_both_sides(photos):
    for seed in range(8):
        for side in TASKS["grey"].pair(photos[seed % 4], np.random.default_rng(seed)):
            assert np.ptp(side, axis=2).max() == 0


def test_shrinking_halves_what_the_photographs_own_coding_left(photos):
    """The power of what JPEG at quality 90 does to a photograph is more than halved in a target shrunk by area."""
    clean = shrink_by_area(photos[2], 0.99)
    noise = np.asarray(code_jpeg(Image.fromarray(np.rint(clean * 255).astype(np.uint8)), 90), np.float32) / 255 - clean
    averaged = shrink_by_area(0.5 + noise, 0.5) - 0.5
    assert averaged.std() < 0.65 * noise.std()


def test_the_registry_names_its_entries_by_their_keys_and_gives_noise_its_sigma():
    assert all(name == task.name for name, task in TASKS.items())
    assert {task.name: task.sigma_255 for task in TASKS.values() if task.kind == PHOTOS} == {
        "denoise15": 15.0, "denoise25": 25.0, "denoise50": 50.0,
    }  # fmt: skip
    assert all(task.what and task.label for task in TASKS.values())
    assert len({task.label for task in TASKS.values()}) == len(TASKS)


def test_kinds_and_suffixes_come_from_the_registry():
    assert KINDS[:4] == (PHOTOS, "derain", "dehaze", "web")
    assert set(KINDS) == {task.kind for task in TASKS.values()}
    assert {name: INPUT_SUFFIXES[name] for name in ("derain", "dehaze", "web", "denoise15", "camera", "jpeg")} == {
        "derain": "_rainy", "dehaze": "_hazy", "web": "_web", "denoise15": "_noisy", "camera": "_noisy", "jpeg": "_jpeg",
    }  # fmt: skip
    assert PHOTOS not in INPUT_SUFFIXES


def test_a_task_of_ones_own_has_a_suffix_and_a_label_by_itself():
    task = Task("vignette", "vignette", lambda clean, rng: clean)
    assert (task.suffix, task.label, task.folder) == ("_vignette", "vignette", "vignette")


@pytest.mark.parametrize("name", sorted(TASKS))
def test_stored_pairs_of_every_task_are_found_again(name, tmp_path):
    (tmp_path / "photos").mkdir()
    with Image.open(training_photos()[3]) as photo:
        photo.convert("RGB").crop((200, 200, 300, 280)).save(tmp_path / "photos" / "p.png")
    pairs = synthesise(tmp_path / "photos", tmp_path / "data", name, count=2)
    task = TASKS[name]
    assert [pair.degraded.name for pair in pairs] == [f"p{task.suffix}.png", f"p-2{task.suffix}.png"]
    (found,) = find_sets(tmp_path / "data", kinds=[task.folder])
    assert (found.kind, found.name, len(found.pairs)) == (task.folder, "photos", 2)
    for pair in found.pairs:
        assert pair.degraded is not None
        assert read_pixels(pair.degraded).shape == read_pixels(pair.clean).shape
