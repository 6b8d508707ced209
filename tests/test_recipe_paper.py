"""The published run and our clean one beside it: schedule, pruning set, partial reset, and what the audit says."""

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from conftest import MINI, mini_data
from mirl.cli import main
from mirl.cli.plan import describe_duration
from mirl.engine.engine import open_backend
from mirl.errors import MirlError
from mirl.layers import parameters
from mirl.lottery.controls import CONTROLS, control
from mirl.lottery.plan import plan_search, published_counts
from mirl.lottery.prune import plan_levels, prunable_parameters, reset_partially, warm_tensors
from mirl.lottery.run import RunFolder, hash_state, load_arrays, load_masks
from mirl.lottery.schedule import learning_rate
from mirl.lottery.search import search as search_in
from mirl.lottery.setting import make_setting, silent
from mirl.lottery.verify import verify
from mirl.recipe import (
    RECIPES,
    PruneConfig,
    Recipe,
    TrainConfig,
    paper,
    paper_published,
    recipe_from_dict,
    small_laboratory,
    to_dict,
)
from mirl.ticket import read_ticket


def search(recipe: Recipe, run: Path, **options):
    return search_in(recipe, run, mini_data(), device="cpu", **options)


@pytest.fixture(scope="module")
def published(mini_recipe: Recipe) -> Recipe:
    """MIR-L's choices on the network of the tests."""
    train = replace(
        mini_recipe.train, steps=8, warmup_steps=2, ema_decay=0.0, clip_norm=0.0, epochs=4, minimum_learning_rate=0.0
    )
    prune = replace(paper_published().prune, keep=0.4, fraction=0.4)
    return replace(mini_recipe, name="mini-published", train=train, prune=prune, tasks=mini_recipe.tasks[:1])


@pytest.fixture(scope="module")
def run(published: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "run"
    assert search(published, path).finished
    return path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


# the recipes


def test_the_published_run_is_fifteen_rounds_of_twenty_percent_of_what_is_called_a_weight():
    recipe = paper_published()
    plan = plan_levels(recipe.network, recipe.prune)
    assert len(plan) - 1 == 15
    assert plan[0] == 33_199_064 - 215_296
    assert all(b == round(0.8 * a) for a, b in pairwise(plan))
    assert plan[-1] + 17_359 + 2_375_680 + 160 == 3_553_713


def test_the_recipes_share_network_data_and_budget_and_differ_in_the_named_choices_alone():
    ours, theirs = to_dict(paper()), to_dict(paper_published())
    assert all(ours[key] == theirs[key] for key in ("network", "tasks", "seed", "rewind_step"))
    different = {key for key in ours["train"] if ours["train"][key] != theirs["train"][key]}
    assert different == {"minimum_learning_rate", "clip_norm", "epochs"}
    assert theirs["train"]["steps"] == 120 * 17_803
    assert theirs["train"]["warmup_steps"] == 15 * 17_803
    assert theirs["prune"] | {"keep": 0} == ours["prune"] | {
        "keep": 0, "normalise": "none", "prunable": "name", "reset": "partial",
    }  # fmt: skip


def test_each_published_choice_is_an_option_of_its_own(monkeypatch: pytest.MonkeyPatch):
    made: list[Recipe] = []
    monkeypatch.setattr("mirl.cli.plan.print_plan", lambda recipe, *where: made.append(recipe))
    words = "search --recipe paper --prunable name --normalise none --reset partial --epochs 120"
    words += f" --minimum-learning-rate 0 --clip-norm 0 --keep {paper_published().prune.keep} --dry-run"
    assert main(words.split()) == 0
    assert made == [replace(paper_published(), name="paper")]


def test_a_recipe_stored_before_these_options_means_what_it_meant():
    stored = to_dict(small_laboratory())
    for part, names in {"train": ("epochs", "real_share"), "prune": ("prunable", "reset")}.items():
        for name in names:
            del stored[part][name]
    assert recipe_from_dict(stored) == small_laboratory()
    assert (small_laboratory().train.epochs, small_laboratory().train.real_share) == (0, 0.5)
    assert (small_laboratory().prune.prunable, small_laboratory().prune.reset) == ("kind", "full")


@pytest.mark.parametrize(
    "make", [lambda: TrainConfig(steps=1, epochs=-1), lambda: TrainConfig(steps=1, real_share=1.5),
             lambda: TrainConfig(steps=1, minimum_learning_rate=-1e-6)],
)  # fmt: skip
def test_impossible_values_are_refused(make):
    with pytest.raises(MirlError, match="found"):
        make()


# the schedule


def test_the_published_rate_is_constant_in_an_epoch_zero_in_the_first_and_cosine_after_the_warm_up():
    train = paper_published().train
    epochs = [learning_rate(train, epoch * 17_803) for epoch in range(120)]
    assert epochs == [learning_rate(train, epoch * 17_803 + 17_802) for epoch in range(120)]
    warmup = [2e-4 * epoch / 14 for epoch in range(15)]
    cosine = [1e-4 * (1 + np.cos(np.pi * (epoch - 15) / 105)) for epoch in range(15, 120)]
    assert epochs == pytest.approx(warmup + cosine, abs=1e-12)
    assert epochs[0] == 0


def test_nothing_is_learned_in_the_epoch_of_rate_zero(published: Recipe, tmp_path: Path):
    first = replace(published, train=replace(published.train, warmup_steps=8), prune=replace(published.prune, keep=1.0))
    search(first, tmp_path / "run")
    lines = [json.loads(text) for text in RunFolder(tmp_path / "run").level(0).metrics.read_text().splitlines()]
    assert [line["learning_rate"] for line in lines] == pytest.approx([0, 2e-3 / 3, 4e-3 / 3, 2e-3])
    search(first, tmp_path / "stopped", time_limit_seconds=0)
    saved, _ = load_arrays(RunFolder(tmp_path / "stopped").level(0).checkpoint)
    start = RunFolder(tmp_path / "stopped").load_start()
    assert all(np.array_equal(saved[f"weight/{name}"], value) for name, value in start.items())


# the pruning set


def test_by_name_layer_norms_are_pruned_and_prompts_are_not():
    names = {p.name for p in prunable_parameters(MINI, PruneConfig(prunable="name"))}
    assert names == {p.name for p in parameters(MINI) if "weight" in p.name}
    assert "latent.0.norm1.weight" in names
    assert "prompt1.values" not in names


def test_a_ticket_with_pruned_layer_norms_comes_back_and_every_backend_gives_the_same(run: Path, published: Recipe):
    ticket = read_ticket(run / "ticket.mirl")
    assert {p.name for p in parameters(MINI) if p.kind == "norm" and p.called_weight} <= set(ticket.masks)
    pruned = {name: mask.copy() for name, mask in ticket.masks.items()}
    weights = {name: value.copy() for name, value in ticket.weights.items()}
    for name in ("encoder1.0.norm1.weight", "latent.0.norm2.weight"):
        pruned[name][1:3] = False
        weights[name][1:3] = 0
    ticket = replace(ticket, masks=pruned, weights=weights)
    image = np.random.default_rng(0).random((24, 32, 3), np.float32)
    outputs = [open_backend(ticket, name, threads=1).forward(image) for name in ("torch", "onnx", "native")]
    assert all(np.abs(outputs[0] - other).max() < 2e-5 for other in outputs[1:])


# the partial reset


def test_a_partial_reset_leaves_prompts_and_temperatures_warm_and_puts_all_else_back(run: Path, published: Recipe):
    folder, warm = RunFolder(run), warm_tensors(MINI)
    assert {name.rsplit(".", 1)[-1] for name in warm} == {"values", "temperature"}
    start = folder.load_start()
    levels = len(plan_levels(published.network, published.prune))
    assert levels > 2
    for level in range(1, levels):
        before, masks = load_arrays(folder.level(level - 1).weights)[0], load_masks(folder.level(level).mask)
        assert not warm & set(masks)
        assert all(not np.array_equal(before[name], start[name]) for name in warm)
        begin = {name: before[name] if name in warm else value for name, value in start.items()}
        begin |= {name: np.where(mask, begin[name], np.float32(0)) for name, mask in masks.items()}
        assert json.loads(folder.level(level).rewound.read_text())["tensors"] == hash_state(begin)


def test_such_a_run_verifies_as_exactly_what_it_claims(run: Path):
    audit = verify(run)
    assert audit.problems == []
    assert all(row["rewound"] and row["zeros_exact"] and row["nested"] for row in audit.levels)
    warm = len(warm_tensors(MINI))
    assert len(audit.notes) == 1
    assert audit.notes[0].startswith(f"partial reset, as the recipe says: {warm} tensors")


def claim(run: Path, **prune: object) -> None:
    """Say in the run's recipe that it pruned otherwise than it did."""
    value = json.loads((run / "recipe.json").read_text())
    value["recipe"]["prune"] |= prune
    (run / "recipe.json").write_text(json.dumps(value))


def test_a_partial_reset_cannot_pass_for_a_full_one_nor_the_other_way_round(copy: Path, published: Recipe, tmp_path: Path):
    claim(copy, reset="full")
    problems = verify(copy).problems
    state = "level-01: state after the rewind: prompt1.values is not what was recorded in rewound.json (hash differs)"
    assert state in problems
    full = replace(published, prune=replace(published.prune, reset="full"))
    search(full, tmp_path / "full")
    assert verify(tmp_path / "full").problems == []
    claim(tmp_path / "full", reset="partial")
    assert state in verify(tmp_path / "full").problems


def test_a_warm_tensor_that_is_not_the_one_of_the_level_before_is_found(copy: Path):
    file = RunFolder(copy).level(1).rewound
    written = json.loads(file.read_text())
    warm = sorted(warm_tensors(MINI))[0]
    written["tensors"][warm] = hash_state(RunFolder(copy).load_start())[warm]
    file.write_text(json.dumps(written))
    assert any(f"level-01: state after the rewind: {warm}" in problem for problem in verify(copy).problems)


def test_a_stopped_run_goes_on_to_the_same_bytes(run: Path, published: Recipe, tmp_path: Path):
    while not search(published, tmp_path / "run", time_limit_seconds=0).finished:
        assert verify(tmp_path / "run").problems == []
    assert (tmp_path / "run" / "ticket.mirl").read_bytes() == (run / "ticket.mirl").read_bytes()


def test_controls_of_such_a_run_begin_as_its_levels_do(copy: Path, published: Recipe):
    with pytest.raises(MirlError, match="take lr-rewind"):
        control(copy, "finetune", mini_data(), device="cpu")
    for kind in set(CONTROLS) - {"finetune"}:
        assert control(copy, kind, mini_data(), device="cpu").finished, kind
    audit = verify(copy)
    assert audit.problems == []
    assert {row["control"] for row in audit.controls} == set(CONTROLS) - {"finetune"}
    folder, last = RunFolder(copy), len(plan_levels(published.network, published.prune)) - 1
    begun = {kind: json.loads(folder.control(kind).rewound.read_text())["tensors"]["prompt1.values"]
             for kind in ("shuffle", "oneshot", "deeper", "dense", "partial-reset")}  # fmt: skip
    trained = {level: hash_state(load_arrays(folder.level(level).weights)[0])["prompt1.values"] for level in range(last + 1)}
    point = hash_state(folder.load_start())["prompt1.values"]
    assert begun == {"shuffle": trained[last - 1], "partial-reset": trained[last - 1], "oneshot": trained[0],
                     "deeper": trained[last], "dense": point}  # fmt: skip


def test_resetting_partially_takes_only_the_warm_tensors():
    start = {p.name: np.zeros(p.shape, np.float32) for p in parameters(MINI)}
    trained = {p.name: np.ones(p.shape, np.float32) for p in parameters(MINI)}
    taken = {name for name, value in reset_partially(start, trained, MINI).items() if value.all()}
    assert taken == warm_tensors(MINI)


# the command line


def typed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("recipe", "levels"), [("paper", 12), ("paper-published", 16)])
def test_a_dry_run_prints_the_exact_plan_and_writes_nothing(recipe: str, levels: int, capsys, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    out = typed(capsys, "search", "--recipe", recipe, "--dry-run", "--batch", 1, "--patch", 8, "--device", "cpu")
    plan = plan_search(RECIPES[recipe]())
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert [int(row[0]) for row in rows] == list(range(levels))
    assert [int(row[1].replace(",", "")) for row in rows] == [count.left for count in plan.levels]
    assert [int(row[3].replace(",", "")) for row in rows] == [count.survivors for count in plan.levels]
    assert {row[5] for row in rows} == {"2,136,360"}
    assert f"updates: {levels} x 2,136,360 = {levels * 2_136_360:,}" in out
    assert "15 rounds of 20% leave 1,168,088 of 33,199,064 weights (3.52%) and all 2,393,199 other values: " in out
    assert "3,561,287 of 35,592,263 parameters, 10.01%" in out
    assert "215,296 of its weights are in 6 layers that forward never uses" in out
    assert "1,160,514 of 32,983,768 weights (3.52%)" in out
    assert "3,553,713 of 35,376,967 parameters, 10.05%" in out
    seconds = float(out.partition("time: ")[2].split()[0])
    assert 0 < seconds < 600
    assert f"for all {levels} levels" in out
    assert list(tmp_path.iterdir()) == []


def test_a_plan_that_cannot_be_is_an_error_before_anything_is_measured(capsys):
    assert main(["search", "--recipe", "paper-published", "--dry-run", "--keep", "0.05"]) == 1
    assert "never pruned" in capsys.readouterr().err


def test_only_the_published_network_has_the_published_counts():
    assert published_counts(MINI) is None
    counts = published_counts(paper().network)
    assert counts is not None
    assert counts[1] == plan_search(paper_published()).levels[-1]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(59, "59.0 seconds"), (200, "3.3 minutes"), (9000, "2.5 hours"), (86400 * 700, "700.0 days")],
)
def test_durations_are_said_in_their_largest_unit(seconds: float, text: str):
    assert describe_duration(seconds) == text


def test_levels_now_ends_after_a_level_and_the_same_call_goes_on_to_the_same_bytes(
    run: Path, published: Recipe, tmp_path: Path
):
    levels = len(plan_levels(published.network, published.prune))
    for level in range(1, levels):
        result = search(published, tmp_path / "run", levels_now=1)
        assert (result.finished, result.level, result.step) == (False, level, 0)
        assert RunFolder(tmp_path / "run").level(level - 1).done
        assert not RunFolder(tmp_path / "run").level(level).path.exists()
        assert verify(tmp_path / "run").problems == []
    assert search(published, tmp_path / "run", levels_now=1).finished
    assert (tmp_path / "run" / "ticket.mirl").read_bytes() == (run / "ticket.mirl").read_bytes()
    with pytest.raises(MirlError, match="--levels-now must be at least 1, found 0"):
        search(published, tmp_path / "run", levels_now=0)


def test_levels_now_is_said_to_have_ended_a_level_and_succeeds(capsys, tmp_path: Path):
    words = ["search", "--steps", 1, "--batch", 1, "--patch", 8, "--fraction", 0.95, "--tasks", "derain"]
    words += ["--device", "cpu"]
    words += ["--data", mini_data(), "--out", tmp_path / "run", "--levels-now", 1]
    assert "level 0 of 1 has ended; the same command goes on" in typed(capsys, *words)
    assert "ticket: " in typed(capsys, *words)


def test_a_level_of_the_network_as_published_trains_and_passes_the_audit(capsys, tmp_path: Path):
    """All 35,376,967 parameters, 2 GB of memory; on small photographs, as validation takes them whole."""
    words = ["search", "--recipe", "paper-published", "--steps", 2, "--batch", 1, "--patch", 16, "--tasks", "derain"]
    words += ["--device", "cpu", "--data", mini_data(), "--levels-now", 1, "--out", tmp_path / "run"]
    assert "level 0 of 15 has ended; the same command goes on" in typed(capsys, *words)
    assert "ok so far: the search has not ended" in typed(capsys, "verify", tmp_path / "run")
    place = RunFolder(tmp_path / "run").level(0)
    assert read_ticket(place.ticket).kept == 35_376_967
    start, trained = RunFolder(tmp_path / "run").load_start(), load_arrays(place.weights)[0]
    assert [name for name in start if np.array_equal(start[name], trained[name])] == []


def test_the_share_of_real_pairs_reaches_the_stream(mini_recipe: Recipe):
    for share in (0.0, 1.0):
        recipe = replace(mini_recipe, train=replace(mini_recipe.train, real_share=share))
        assert make_setting(recipe, mini_data(), "cpu", lambda: False, silent).stream.real_share == share
