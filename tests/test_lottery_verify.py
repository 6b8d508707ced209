"""Each test forges a finished run the way a careful forger would and expects the audit to name file and tensor."""

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy

from conftest import MINI, make_ticket, mini_data
from mirl.layers import attention_macs_per_pixel
from mirl.lottery.controls import CONTROLS, control
from mirl.lottery.prune import plan_levels
from mirl.lottery.run import (
    BEFORE,
    NOTES,
    RunFolder,
    TrainingFolder,
    hash_state,
    load_arrays,
    load_masks,
    save_arrays,
    save_masks,
)
from mirl.lottery.search import search
from mirl.lottery.verify import verify
from mirl.recipe import Recipe
from mirl.ticket import describe_ticket, read_ticket, write_ticket

NAME = "latent.0.attention.qkv.weight"


@pytest.fixture(scope="module")
def recipe(mini_recipe: Recipe) -> Recipe:
    train = replace(mini_recipe.train, steps=3, warmup_steps=1)
    one_task = mini_recipe.tasks[:1]  # fewer validation pictures: the audit takes no less trouble
    return replace(mini_recipe, train=train, tasks=one_task, prune=replace(mini_recipe.prune, fraction=0.6))


@pytest.fixture(scope="module")
def run(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("verify") / "run"
    assert search(recipe, path, mini_data(), device="cpu").finished
    return path


@pytest.fixture(scope="module")
def late(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a rewind point after an update, and every control of it; one of them with the total budget."""
    path = tmp_path_factory.mktemp("verify") / "late"
    shorter = replace(recipe, rewind_step=1, prune=replace(recipe.prune, keep=0.5, fraction=0.3))
    search(shorter, path, mini_data(), device="cpu")
    for kind in CONTROLS:
        control(path, kind, device="cpu")
    control(path, "dense", device="cpu", budget="total")
    control(path, "shuffle", device="cpu", seed=2)
    return path


@pytest.fixture(scope="module")
def stopped(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run stopped in the middle of level 1."""
    path = tmp_path_factory.mktemp("verify") / "stopped"
    while not RunFolder(path).level(1).checkpoint.exists():
        search(recipe, path, mini_data(), device="cpu", time_limit_seconds=0)
    return path


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    return copied(run, tmp_path / "run")


@pytest.fixture
def late_copy(late: Path, tmp_path: Path) -> Path:
    return copied(late, tmp_path / "late")


def only(run: Path, kind: str) -> Path:
    """Take out every other control: auditing them would only take time."""
    for path in (run / "controls").iterdir():
        if path.name != kind:
            shutil.rmtree(path)
    return run


def found(path: Path) -> str:
    audit = verify(path)
    assert not audit.ok
    return " | ".join(audit.problems)


def edit(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def last_level(path: Path) -> TrainingFolder:
    recipe = RunFolder(path).recipe()
    return RunFolder(path).level(len(plan_levels(recipe.network, recipe.prune)) - 1)


def swap_one(file: Path, inside: Path | None = None) -> str:
    """Kill a living weight and revive a dead one of the same tensor (alive in `inside`); the count stays."""
    masks = load_masks(file)
    before = load_masks(inside) if inside else {n: np.ones_like(m) for n, m in masks.items()}
    name = next(n for n, m in masks.items() if m.any() and (before[n] & ~m).any())
    masks[name][tuple(np.argwhere(before[name] & ~masks[name])[-1])] = True
    masks[name][tuple(np.argwhere(masks[name])[0])] = False
    save_masks(file, masks)
    return name


def test_controls_have_the_work_or_the_updates_that_their_names_say(late: Path):
    run = RunFolder(late)
    tickets = [read_ticket(place.ticket) for place in (run.control("dense-macs"), last_level(late))]
    work, own = (
        describe_ticket(ticket, 0)["macs_per_pixel"] + attention_macs_per_pixel(ticket.network) for ticket in tickets
    )
    assert 0.5 * own < work <= own, "a dense network of as much work"
    total = run.control("dense-total")
    assert total.record()["steps"] == sum(level.record()["steps"] for level in run.finished_levels)


def test_honest_runs_pass_with_every_control(run: Path, late: Path, stopped: Path):
    for path, finished in ((run, True), (late, True), (stopped, False)):
        audit = verify(path)
        assert audit.problems == []
        assert audit.notes == []
        assert audit.finished == finished
    audit = verify(late)
    assert [row["control"] for row in audit.controls] == sorted([*CONTROLS, "dense-total", "shuffle-seed2"])
    assert all(row["start_exact"] and row["zeros_exact"] and row["hashes_match"] for row in audit.controls)
    rewound = {row["control"] for row in audit.controls if row.get("rewound")}
    others = {"reinit", "dense-small", "dense-macs", "finetune", "lr-rewind", "partial-reset"}
    assert rewound == {*CONTROLS, "dense-total", "shuffle-seed2"} - others
    assert {"ok", "finished", "levels", "controls", "problems", "notes"} == set(audit.to_json())


# 1. checkpoints


@pytest.mark.parametrize("prefix", ["weight/", "exp_avg/", "exp_avg_sq/", "average/"])
def test_an_altered_checkpoint_is_found(stopped: Path, tmp_path: Path, prefix: str):
    copy = copied(stopped, tmp_path / "run")
    level = RunFolder(copy).level(1)
    mask = load_masks(level.mask)[NAME]
    alive, dead = (tuple(int(i) for i in np.argwhere(m)[0]) for m in (mask, ~mask))
    arrays, metadata = load_arrays(level.checkpoint)

    def saved(change: Callable[[dict[str, np.ndarray]], Any], metadata: dict[str, str] | None) -> str:
        altered = {n: v.copy() for n, v in arrays.items()}
        change(altered)
        save_arrays(level.checkpoint, altered, metadata or {"hashes": json.dumps(hash_state(altered))})
        return found(copy)

    where = "level-01/checkpoint.safetensors"
    assert f"{where}: {prefix}{NAME} is not what was recorded" in saved(
        lambda a: np.add.at(a[prefix + NAME], alive, 1e-3), metadata
    )
    assert f"{where}: {prefix}{NAME}{list(dead)} is" in saved(lambda a: np.add.at(a[prefix + NAME], dead, 1e-20), None)
    assert f"{where}: {prefix}{NAME} is missing" in saved(lambda a: a.pop(prefix + NAME), None)
    assert f"{where}: {prefix}{NAME} is float32 (5,)" in saved(
        lambda a: a.update({prefix + NAME: np.zeros(5, np.float32)}), None
    )


def test_a_checkpoint_without_hashes_or_of_another_step_is_found(stopped: Path, tmp_path: Path):
    copy = copied(stopped, tmp_path / "run")
    file = RunFolder(copy).level(1).checkpoint
    arrays, _ = load_arrays(file)
    save_arrays(file, arrays, {"who": "me"})
    assert "level-01/checkpoint.safetensors" in found(copy)
    for name in ("step", f"step/{NAME}"):
        other = arrays | {name: arrays[name] + 7}
        save_arrays(file, other, {"hashes": json.dumps(hash_state(other))})
        assert "level-01/checkpoint.safetensors: its step" in found(copy)


def test_an_altered_final_weight_of_a_level_or_a_control_is_found(late_copy: Path):
    for place in (RunFolder(only(late_copy, "reinit")).level(1), RunFolder(late_copy).control("reinit")):
        weights = load_arrays(place.weights)[0]
        weights["embed.weight"][tuple(np.argwhere(weights["embed.weight"])[0])] *= np.float32(1.0001)
        save_arrays(place.weights, weights)
        where = place.weights.relative_to(late_copy)
        assert f"{where}: embed.weight is not what was recorded in {place.marker}" in found(late_copy)


def test_a_value_that_is_not_finite_is_found_even_with_its_hash(copy: Path):
    level = RunFolder(copy).level(1)
    weights = load_arrays(level.weights)[0]
    weights["output.weight"][tuple(np.argwhere(weights["output.weight"])[0])] = np.nan
    save_arrays(level.weights, weights)
    edit(level.path / "level.json", lambda record: record.update(hashes=hash_state(weights)))
    assert "level-01/weights.safetensors: output.weight holds values that are not finite" in found(copy)


# 2. what is missing


def test_a_deleted_file_never_makes_a_run_look_unfinished(run: Path, tmp_path: Path):
    files = [p.relative_to(run) for p in sorted(run.rglob("*")) if p.is_file() and p.name not in {".lock", *NOTES}]
    assert len(files) > 20
    for file in files:
        if file.name == "recipe.json":
            continue
        copy = copied(run, tmp_path / "run")
        (copy / file).unlink()
        assert str(file.parent if file.name == "level.json" else file) in found(copy), file


def test_a_missing_level_is_found_when_anything_later_is_there(copy: Path, late_copy: Path):
    shutil.rmtree(copy / "level-01")
    assert "level-01 is missing though level-02 is there" in found(copy)
    final = last_level(late_copy).path
    shutil.rmtree(final)
    (late_copy / "ticket.mirl").unlink()
    assert f"{final.name} is missing though controls/deeper is there" in found(late_copy)
    shutil.rmtree(late_copy / "controls")
    audit = verify(late_copy)
    assert audit.ok
    assert not audit.finished


def test_a_level_whose_training_has_only_begun_is_no_problem(copy: Path):
    final = last_level(copy)
    for file in final.path.iterdir():
        if file.name != "mask.safetensors":
            file.unlink()
    assert f"{final.path.name} has no level.json though ticket.mirl is there" in found(copy)
    (copy / "ticket.mirl").unlink()
    assert verify(copy).ok
    assert not verify(copy).finished


def test_a_run_without_rewind_point_is_unfinished_only_while_nothing_follows(copy: Path):
    (copy / "start.json").unlink()
    assert "start.json is missing though level-00 is there" in found(copy)
    for path in [*copy.glob("level-*")]:
        shutil.rmtree(path)
    (copy / "ticket.mirl").unlink()
    audit = verify(copy)
    assert audit.ok
    assert not audit.finished
    assert "rewind point" in audit.notes[0]


# 3. numbers


@pytest.mark.parametrize(
    "field", ["level", "density", "density_prunable", "kept", "total", "prunable", "emptied", "steps", "layers"]
)
def test_every_number_of_a_record_is_recomputed(copy: Path, field: str):
    def change(record: dict[str, Any]) -> None:
        if field == "layers":
            record["layers"][NAME] += 1e-9
        elif field == "emptied":
            record["emptied"].append(NAME)
        else:
            record[field] += 1

    edit(copy / "level-01" / "level.json", change)
    assert ("layers" if field == "layers" else f"level-01/level.json: {field} is") in found(copy)


def test_another_first_update_is_found(copy: Path):
    edit(copy / "level-01" / "rewound.json", lambda value: value.update(first_step=1))
    assert "level-01/rewound.json begins at update 1, the recipe at 0" in found(copy)


def test_a_log_with_a_line_left_out_or_a_loss_that_is_none_is_found(copy: Path):
    file = copy / "level-01" / "metrics.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(lines[1:]))
    assert "level-01/metrics.jsonl" in found(copy)
    file.write_text("\n".join([*lines[:-1], json.dumps({**json.loads(lines[-1]), "loss": float("nan")})]))
    assert "level-01/metrics.jsonl holds a loss that is not finite" in found(copy)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("scores", {"derain": {"psnr": 60.0, "input_psnr": 20.0}}, "claims other scores"),
        ("density", 0.01, "claims density"),
        ("level", 7, "claims level"),
        ("steps", 7, "claims steps"),
        ("tasks", ["web"], "claims the tasks"),
        ("recipe", None, "claims another recipe"),
    ],
)
def test_a_ticket_that_claims_something_else_is_found(copy: Path, field: str, value: Any, said: str):
    final = last_level(copy)
    ticket = read_ticket(final.ticket)
    if field == "recipe":
        value = {**ticket.provenance["recipe"], "seed": 5}
    write_ticket(replace(ticket, provenance={**ticket.provenance, field: value}), final.ticket)
    shutil.copy(final.ticket, copy / "ticket.mirl")
    assert f"{final.path.name}/ticket.mirl {said}" in found(copy)


def test_a_ticket_of_another_network_or_with_other_weights_is_found(copy: Path):
    file = copy / "level-01" / "ticket.mirl"
    ticket = read_ticket(file)
    write_ticket(make_ticket(replace(MINI, width=6, heads=(1, 2, 2, 2), prompt_widths=(4, 4, 4))), file)
    assert "level-01/ticket.mirl is of another network" in found(copy)
    weights = {n: w.copy() for n, w in ticket.weights.items()}
    weights[NAME][ticket.masks[NAME]] *= 1.0 + 2**-9  # four steps of float16
    write_ticket(replace(ticket, weights=weights), file)
    assert f"level-01/ticket.mirl: {NAME} is not the trained one" in found(copy)
    mask = ticket.masks[NAME].copy()
    mask[tuple(np.argwhere(~mask)[0])] = True
    write_ticket(replace(ticket, masks={**ticket.masks, NAME: mask}), file)
    assert f"level-01/ticket.mirl: {NAME}{np.argwhere(mask & ~ticket.masks[NAME])[0].tolist()} is not the mask" in found(
        copy
    )


def test_a_lone_ticket_must_be_of_the_recipe_it_claims(run: Path, tmp_path: Path):
    ticket, file = read_ticket(run / "ticket.mirl"), tmp_path / "t.mirl"
    recipe = ticket.provenance["recipe"]
    other = {**recipe, "network": {**recipe["network"], "prompts": 3}}
    write_ticket(replace(ticket, provenance={**ticket.provenance, "recipe": other}), file)
    assert "another network" in found(file)
    write_ticket(replace(ticket, provenance={**ticket.provenance, "tasks": ["web"]}), file)
    assert "claims the tasks" in found(file)
    write_ticket(replace(ticket, provenance={**ticket.provenance, "recipe": 3}), file)
    assert "t.mirl" in found(file)


# 4. masks


def test_a_mask_with_the_right_count_that_the_score_does_not_give_is_found(copy: Path):
    final, before = last_level(copy), RunFolder(copy).level(1)
    name = swap_one(final.mask, before.mask)
    problems = found(copy)
    assert f"{final.path.name}/mask.safetensors: {name}[" in problems
    assert "is not what the recipe's score keeps of the level before" in problems
    assert "alive again" not in problems
    assert "plan says" not in problems


# 5. the rewind point


def test_a_rewind_point_that_its_seed_does_not_give_is_found_even_with_new_hashes(copy: Path, monkeypatch):
    folder = RunFolder(copy)
    start = folder.load_start()
    start[NAME][0, 0] += np.float32(1e-6)
    folder.save_start(start)
    assert f"start.safetensors: {NAME} is not that of seed 0" in found(copy)
    given = importlib.import_module

    def without_torch(name: str) -> Any:
        if name == "torch":
            raise ImportError(name)
        return given(name)

    monkeypatch.setattr(importlib, "import_module", without_torch)
    audit = verify(copy)
    assert any("torch is not installed" in note for note in audit.notes)
    assert not any("seed" in problem for problem in audit.problems)


def test_a_late_rewind_point_that_was_not_trained_is_found(late_copy: Path):
    shutil.rmtree(late_copy / "controls")
    folder, raw = RunFolder(late_copy), late_copy / "before-rewind-point"
    start = folder.load_start()
    start[NAME] *= 2
    folder.save_start(start)
    assert f"start.safetensors: {NAME} is not that of before-rewind-point/weights.safetensors" in found(late_copy)
    edit(raw / "rewound.json", lambda value: value["tensors"].update({NAME: "0"}))
    assert f"before-rewind-point: state after the rewind: {NAME}" in found(late_copy)
    (raw / "weights.safetensors").unlink()
    assert "before-rewind-point/weights.safetensors is missing" in found(late_copy)


def test_the_audit_needs_no_torch(run: Path):
    code = (
        "import sys\nfrom pathlib import Path\nsys.modules['torch'] = None\n"
        "from mirl.lottery.verify import verify\naudit = verify(Path(sys.argv[1]))\n"
        "assert audit.ok and audit.finished and len(audit.notes) == 1, (audit.problems, audit.notes)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(run)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


# 6. controls


@pytest.mark.parametrize(
    "kind", ["finetune", "lr-rewind", "reinit", "partial-reset", "shuffle", "random", "oneshot", "deeper", "ticket"]
)
def test_a_control_with_other_masks_is_found(late_copy: Path, kind: str):
    place = RunFolder(late_copy).control(kind)
    swap_one(place.mask)
    only(late_copy, kind)
    assert any(f"controls/{kind}/mask.safetensors: " in p and "is not" in p for p in verify(late_copy).problems)


@pytest.mark.parametrize("kind", ["random", "shuffle"])
def test_a_random_control_that_is_the_ticket_itself_or_larger_is_found(late_copy: Path, kind: str):
    only(late_copy, kind)
    place = RunFolder(late_copy).control(kind)
    masks = load_masks(place.mask)
    masks[NAME][:] = True
    save_masks(place.mask, masks)
    assert f"controls/{kind}/mask.safetensors keeps" in found(late_copy)
    shutil.copy(last_level(late_copy).mask, place.mask)
    assert any(f"controls/{kind}/mask.safetensors: " in p and "is not" in p for p in verify(late_copy).problems)


def test_the_masks_of_another_seed_are_found(late_copy: Path):
    controls = late_copy / "controls"
    shutil.copy(controls / "shuffle" / "mask.safetensors", controls / "shuffle-seed2")
    assert "controls/shuffle-seed2/mask.safetensors: " in found(late_copy)


def test_a_small_dense_control_is_not_accused_where_the_tickets_mask_cannot_be_read(late_copy: Path):
    only(late_copy, "dense-small")
    last = last_level(late_copy)
    last.mask.write_bytes(b"no mask")
    RunFolder(late_copy).level(int(last.path.name[-2:]) - 1).weights.write_bytes(b"no weights to prune again")
    audit = verify(late_copy)
    assert not [problem for problem in audit.problems if "dense-small" in problem]
    assert "controls/dense-small was not checked: its size follows from the ticket's masks" in " ".join(audit.notes)


@pytest.mark.parametrize("kind", ["dense", "dense-small", "dense-macs"])
def test_a_dense_control_with_masks_is_found(late_copy: Path, kind: str):
    only(late_copy, kind)
    shutil.copy(last_level(late_copy).mask, RunFolder(late_copy).control(kind).mask)
    assert f"controls/{kind}/mask.safetensors: " in found(late_copy)


@pytest.mark.parametrize("kind", list(CONTROLS))
def test_a_control_that_began_elsewhere_is_found(late_copy: Path, kind: str):
    only(late_copy, kind)
    place = RunFolder(late_copy).control(kind)
    edit(place.rewound, lambda value: value["tensors"].update({"embed.weight": "0"}))
    audit = verify(late_copy)
    assert any(f"controls/{kind}: state after the rewind: embed.weight" in p for p in audit.problems)
    assert next(row for row in audit.controls if row["control"] == kind)["start_exact"] is False


def test_controls_begin_from_what_their_kind_says(late_copy: Path):
    """The hashes of another kind's beginning are honest hashes, but not this kind's."""
    folder = RunFolder(late_copy)
    for kind, other in (("partial-reset", "lr-rewind"), ("finetune", "partial-reset"), ("reinit", "lr-rewind")):
        shutil.copy(folder.control(kind).rewound, late_copy / "kept.json")
        shutil.copy(folder.control(other).rewound, folder.control(kind).rewound)
        assert f"controls/{kind}: state after the rewind" in found(late_copy), kind
        shutil.copy(late_copy / "kept.json", folder.control(kind).rewound)
    assert verify(late_copy).ok


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "shuffle"), ("seed", 4), ("budget", "total"), ("steps", 99), ("kept", 1)]
)
def test_a_control_record_that_says_something_else_is_found(late_copy: Path, field: str, value: Any):
    only(late_copy, "reinit")
    edit(late_copy / "controls" / "reinit" / "control.json", lambda record: record.update({field: value}))
    assert f"controls/reinit/control.json: {field} is" in found(late_copy)


def test_a_control_of_another_recipe_or_network_or_name_is_found(late_copy: Path):
    controls = late_copy / "controls"
    file = controls / "dense" / "control.json"
    edit(file, lambda record: record["recipe"]["train"].update(learning_rate=0.5))
    assert "controls/dense/control.json was trained with another recipe" in found(late_copy)
    edit(controls / "dense-small" / "control.json", lambda record: record["recipe"]["network"].update(prompts=3))
    assert "controls/dense-small/control.json was trained with another recipe" in found(late_copy)
    (controls / "shuffle-seed2").rename(controls / "shuffle-total-seed2")
    assert "controls/shuffle-total-seed2/control.json: budget is 'level'" in found(late_copy)
    (controls / "dense-total").rename(controls / "dense-seed3")
    assert "controls/dense-seed3 is no control that mirl knows: nothing of dense is drawn" in found(late_copy)
    (controls / "shuffle").rename(controls / "magic")
    assert "controls/magic is no control" in found(late_copy)


def test_fine_tuning_at_another_rate_is_found(late_copy: Path):
    shutil.copy(late_copy / "controls/lr-rewind/metrics.jsonl", late_copy / "controls/finetune/metrics.jsonl")
    assert "controls/finetune/metrics.jsonl: update 2 was taken at a rate of" in found(late_copy)


@pytest.mark.parametrize("place", [BEFORE, "level-01", "controls/partial-reset"])
def test_a_training_at_another_rate_than_its_schedule_is_found(late_copy: Path, place: str):
    file = late_copy / place / "metrics.jsonl"
    lines = [json.loads(text) for text in file.read_text().splitlines()]
    last = [line for line in lines if "loss" in line][-1]
    last["learning_rate"] *= 1.001
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert f"{place}/metrics.jsonl: update {last['step']} was taken at a rate of" in found(late_copy)


def test_a_control_that_has_not_ended_is_noted_and_its_files_are_audited(late_copy: Path):
    only(late_copy, "random")
    place = RunFolder(late_copy).control("random")
    (place.path / "control.json").unlink()
    audit = verify(late_copy)
    assert audit.ok
    assert audit.notes == ["controls/random has not ended"]
    mask = load_masks(place.mask)[NAME]
    weights = load_arrays(place.weights)[0]
    weights[NAME][tuple(np.argwhere(~mask)[0])] = 1
    save_arrays(place.weights, weights)
    assert f"controls/random/weights.safetensors: {NAME}" in found(late_copy)


# 7. mixed-up files


def strange_files(folder: Path, like: Path) -> list[Path]:
    """Files in the place of `like` that no audit must stumble over: noise, other tensors, other types, other JSON."""
    ticket = make_ticket(replace(MINI, prompts=3))
    write_ticket(ticket, folder / "other.mirl")
    contents = {
        ".json": {
            "list": b"[]",
            "object": b'{"tensors": 3, "hashes": [1], "layers": 2, "recipe": [], "first_step": {}}',
            "deep": b"[" * 100_000,
        },
        ".jsonl": {"lines": b'{"loss": "x", "step": []}\n3\n'},
        ".safetensors": {
            "other": safetensors.numpy.save(dict(ticket.weights)),
            "double": safetensors.numpy.save({NAME: np.zeros(3)}, {"shapes": "[]", "hashes": "{"}),
            "shapes": safetensors.numpy.save({NAME: np.zeros(3, np.uint8)}, {"shapes": f'{{"{NAME}": [4, 6]}}'}),
        },
        ".mirl": {"ticket": (folder / "other.mirl").read_bytes()},
    }[like.suffix]
    for name, content in {**contents, "empty": b"", "noise": b"\xff\x00{[" * 9}.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in (*contents, "empty", "noise")]


@pytest.mark.parametrize("place", ["level-01", "controls/reinit", "before-rewind-point", "."])
def test_a_strange_file_is_a_problem_that_names_it(late: Path, tmp_path: Path, place: str):
    copy = copied(late, tmp_path / "run")
    only(copy, place.removeprefix("controls/"))
    (tmp_path / "strange").mkdir()
    names = {*NOTES, ".lock", "recipe.json"}
    files = [p for p in sorted((copy / place).iterdir()) if p.is_file() and p.name not in names]
    assert len(files) >= 3
    for file in files:
        honest = file.read_bytes()
        for strange in strange_files(tmp_path / "strange", file):
            shutil.copy(strange, file)
            assert str(file.relative_to(copy)) in found(copy), (file, strange)
        file.unlink()
        file.mkdir()
        assert str(file.relative_to(copy)) in found(copy), file
        file.rmdir()
        file.write_bytes(honest)
    assert verify(copy).ok


def test_a_strange_checkpoint_is_a_problem_that_names_it(stopped: Path, tmp_path: Path):
    copy = copied(stopped, tmp_path / "run")
    (tmp_path / "strange").mkdir()
    file = RunFolder(copy).level(1).checkpoint
    for strange in strange_files(tmp_path / "strange", file):
        shutil.copy(strange, file)
        assert "level-01/checkpoint.safetensors" in found(copy)
