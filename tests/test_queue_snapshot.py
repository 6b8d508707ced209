"""The snapshot of the queue: what another machine goes on from."""

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conftest import mini_data
from mirl.lottery.controls import control
from mirl.lottery.run import RunFolder, load_arrays, load_masks
from mirl.lottery.search import search
from mirl.lottery.verify import verify
from mirl.recipe import Recipe

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import ledger
from freeze import Frozen
from halves import packed, rounded, unpacked
from jobs import Job, QueueError
from parcel import collect, pack
from places import Places, load, save
from snapshot import PRECISIONS, ROOM, restore, write
from standing import standing

MINI = Job("mini", "mirl search", 100)
BESIDE = Job("beside", "mirl control", 100, after="mini", run="mini", control="shuffle")


@pytest.fixture
def recipe(mini_recipe: Recipe) -> Recipe:
    return replace(mini_recipe, rewind_step=2)


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(tmp_path / "here")
    places.remember(Frozen(tmp_path / "frozen", "c0ffee"))
    ledger.append(places.log, "start", job="mini", stint="1", core_seconds=1, wall_seconds=1, patches=0, updates=0,
                  instructions="AVX2", processor="Some CPU")  # fmt: skip
    for used in (3600, 7200):
        ledger.append(places.log, "beat", job="mini", stint="1", core_seconds=used, wall_seconds=used, patches=0)
    return places


def advance(recipe: Recipe, run: Path, seconds: float | None = None, levels: int | None = None) -> bool:
    return search(recipe, run, mini_data(), device="cpu", time_limit_seconds=seconds, levels_now=levels).finished


def elsewhere(places: Places, tmp_path: Path, *jobs: Job) -> Places:
    """Write a snapshot and take it over where nothing is yet."""
    there = Places(tmp_path / "there")
    write(jobs, places, tmp_path / "snapshots", force=True)
    assert restore(jobs, there, tmp_path / "snapshots") == [job.name for job in jobs]
    return there


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal in half precision; what is pruned is exactly 0 in both."""
    return bool(np.allclose(found, expected, rtol=2**-11, atol=2**-24) and np.array_equal(found == 0, expected == 0))


@pytest.mark.parametrize(
    ("calls", "where", "updates"),
    [
        ([(0.0, None)], "to the rewind point", 1),
        ([(None, 1), (0.0, None)], "level 1 of 2", 7),
        ([(None, 1)], "level 1 of 2", 6),
    ],
    ids=["before the rewind point", "in a level", "between two levels"],
)
def test_another_machine_goes_on_from_a_snapshot_to_the_end(
    places: Places, tmp_path: Path, recipe: Recipe, calls: list[tuple[float | None, int | None]], where: str, updates: int
):
    here = RunFolder(places.runs / "mini")
    for seconds, levels in calls:
        assert not advance(recipe, here.path, seconds, levels)
    there_places = elsewhere(places, tmp_path, MINI)
    there, at = RunFolder(there_places.runs / "mini"), standing(MINI, there_places.runs)
    assert (at.training, at.updates, at.saved, at.all_updates) == (where, updates, updates, 14)
    for file in here.path.rglob("checkpoint.safetensors"):
        expected, found = load_arrays(file)[0], load_arrays(there.path / file.relative_to(here.path))[0]
        assert expected.keys() == found.keys()
        average = recipe.train.ema_decay and "before" not in str(file)
        for key, values in found.items():
            kind, _, name = key.partition("/")
            if kind in ("weight", "average"):
                assert near(values, expected[f"average/{name}" if average else key])
            elif name:
                assert values.shape == expected[key].shape
                assert not values.any(), "moments and their counts begin anew"
            else:
                assert np.array_equal(values, expected[key])
    for level in (0, 1):
        if here.level(level).mask.exists():
            mask, same = load_masks(there.level(level).mask), load_masks(here.level(level).mask)
            assert all(np.array_equal(values, same[name]) for name, values in mask.items())
    assert advance(recipe, there.path)
    last = verify(there.ticket)
    assert last.ok, last.problems
    masks = [load_masks(there.level(level).mask) for level in (0, 1, 2)]
    for larger, smaller in pairwise(masks):
        assert all(not (smaller[name] & ~larger[name]).any() for name in smaller)
    lines = ledger.read(there_places.log)
    told = next(line for line in lines if line["event"] == "from-snapshot")
    assert (told["job"], told["updates"], told["commit"]) == ("mini", updates, "c0ffee")
    account = ledger.account(lines, "mini")
    assert account is not None
    assert account.core_seconds == {"AVX2": 7200.0}, "the hours spent elsewhere count on"
    assert len([line for line in lines if line["event"] == "beat"]) == 1


def test_gradual_pruning_goes_on_from_a_snapshot_in_the_middle_of_its_ramp(
    places: Places, tmp_path: Path, mini_recipe: Recipe
):
    prune = replace(mini_recipe.prune, reset="none", ramp=0.5)
    recipe = replace(mini_recipe, train=replace(mini_recipe.train, steps=8), prune=prune)
    run = places.runs / "mini"
    for seconds, levels in ((None, 2), (0.0, None)):
        assert not advance(recipe, run, seconds, levels)
    there = elsewhere(places, tmp_path, MINI)
    at = standing(MINI, there.runs)
    assert (at.training, at.saved, at.all_updates) == ("level 2 of 2", 8 + 2 + 1, 8 + 8)
    assert advance(recipe, there.runs / "mini")
    assert standing(MINI, there.runs).saved == 16


def test_a_control_and_the_finished_run_that_it_needs_go_on_elsewhere(places: Places, tmp_path: Path, recipe: Recipe):
    assert advance(recipe, places.runs / "mini")
    ledger.append(places.log, "end", job="mini", stint="1", core_seconds=7300, wall_seconds=9000, patches=0, reason="done")
    assert not control(places.runs / "mini", "shuffle", device="cpu", time_limit_seconds=0).finished
    there = elsewhere(places, tmp_path, MINI, BESIDE)
    assert standing(BESIDE, there.runs).saved == standing(BESIDE, places.runs).saved > 0
    assert control(there.runs / "mini", "shuffle", device="cpu").finished
    here = load_masks(RunFolder(places.runs / "mini").control("shuffle").mask)
    found = load_masks(RunFolder(there.runs / "mini").control("shuffle").mask)
    assert all(np.array_equal(values, here[name]) for name, values in found.items())


def test_a_machine_that_is_further_keeps_what_it_has_and_one_that_is_not_moves_it_aside(
    places: Places, tmp_path: Path, recipe: Recipe
):
    advance(recipe, places.runs / "mini", 0.0)
    there = elsewhere(places, tmp_path, MINI)
    assert restore((MINI,), there, tmp_path / "snapshots") == [], "as far as the snapshot"
    advance(recipe, places.runs / "mini", 0.0)
    write((MINI,), places, tmp_path / "snapshots", force=True)
    assert restore((MINI,), places, tmp_path / "snapshots") == []
    assert restore((MINI,), there, tmp_path / "snapshots") == ["mini"]
    assert standing(MINI, there.runs).saved == 3
    assert len(list(there.runs.glob(".mini-*"))) == 1
    assert restore((MINI,), there, tmp_path / "nowhere") == []


def test_a_snapshot_says_what_it_holds_replaces_the_last_and_comes_every_three_hours(
    places: Places, tmp_path: Path, recipe: Recipe
):
    folder = tmp_path / "snapshots"
    with pytest.raises(QueueError, match=r"nothing in .* has begun"):
        write((MINI,), places, folder)
    advance(recipe, places.runs / "mini", 0.0)
    folder.mkdir()
    (folder / "older.tar.xz").write_bytes(b"of a job that is gone")
    assert "mini; 0." in write((MINI,), places, folder)
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "log.jsonl", "mini.tar.xz", "snapshot.json"]
    text = (folder / "README.md").read_text()
    assert "commit `c0ffee`" in text
    assert "| mini | was killed | to the rewind point | 1 of 14 | 0 of 100 | 2.00 |" in text
    with pytest.raises(QueueError, match=r"0\.0 hours old"):
        write((MINI,), places, folder)
    write((MINI,), places, folder, force=True)
    save(folder / "snapshot.json", load(folder / "snapshot.json") | {"time": "2026-01-01T00:00:00Z"})
    write((MINI,), places, folder)


def test_a_snapshot_keeps_to_its_size_with_fewer_bits_or_is_refused(places: Places, tmp_path: Path, recipe: Recipe):
    advance(recipe, places.runs / "mini", 0.0)
    folder = tmp_path / "snapshots"
    write((MINI,), places, folder)
    beside = sum(file.stat().st_size for file in folder.iterdir() if file.suffix != ".xz")
    source = collect(MINI, places.runs)
    sizes = [len(pack(source, bits)) for bits in PRECISIONS]
    assert sizes == sorted(sizes, reverse=True)
    for bits, size in zip(PRECISIONS, sizes, strict=True):
        write((MINI,), places, folder, force=True, limit=size + ROOM + beside)
        assert load(folder / "snapshot.json")["mantissa_bits"] == bits
        assert sum(file.stat().st_size for file in folder.iterdir()) <= size + ROOM + beside
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(QueueError, match=r"takes mini 0\.\d MB at 4 bits of mantissa; expected"):
        write((MINI,), places, folder, force=True, limit=sizes[-1])
    assert before == {file.name: file.read_bytes() for file in folder.iterdir()}, "the last one stays"


@pytest.mark.parametrize("bits", PRECISIONS)
def test_rounding_costs_at_most_half_of_the_last_bit_and_leaves_zeros(bits: int):
    rng = np.random.default_rng(0)
    tensors = {"a": rng.normal(0, 0.1, (7, 5, 3)).astype(np.float32), "b": rng.normal(0, 3, 11).astype(np.float32)}
    tensors["a"][rng.random((7, 5, 3)) < 0.9] = 0
    arrays, shapes = packed(tensors, bits)
    found = unpacked(arrays, shapes)
    assert found.keys() == tensors.keys()
    for name, values in tensors.items():
        assert np.array_equal(found[name] == 0, values == 0)
        assert np.allclose(found[name], values, rtol=2.0 ** -(bits + 1) + 2.0**-11, atol=0)
    half = tensors["b"].astype(np.float16)
    assert not (rounded(half, bits).view(np.uint16) & ((1 << (10 - bits)) - 1)).any()
