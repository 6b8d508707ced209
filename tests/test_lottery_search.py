import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import MINI, mini_data
from mirl.errors import MirlError
from mirl.layers import macs_per_pixel, parameter_count, parameters
from mirl.lottery.budget import budgeted, narrower
from mirl.lottery.controls import CONTROLS, control
from mirl.lottery.prune import plan_levels
from mirl.lottery.run import RunFolder, TrainingFolder, hash_state, load_arrays, load_masks, save_arrays
from mirl.lottery.schedule import learning_rate
from mirl.lottery.search import Progress
from mirl.lottery.search import search as search_in
from mirl.lottery.setting import stop_switch
from mirl.lottery.verify import verify
from mirl.recipe import NetworkConfig, Recipe, TaskShare, TrainConfig
from mirl.ticket import read_ticket


def search(recipe: Recipe, run: Path, device: str = "cpu", **options):
    return search_in(recipe, run, mini_data(), device=device, **options)


KEPT = ("mask.safetensors", "weights.safetensors", "metrics.jsonl", "rewound.json", "ticket.mirl")


@pytest.fixture(scope="module")
def run(mini_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("search") / "run"
    assert search(mini_recipe, path).finished
    return path


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", run, tmp_path / "run"], check=True)
    return tmp_path / "run"


def same_bytes(one: Path, other: Path) -> list[str]:
    """Names of the files that differ, of those that must not."""
    names = sorted(p.relative_to(one) for p in one.rglob("*") if p.name in KEPT or p.name == "start.safetensors")
    assert names == sorted(p.relative_to(other) for p in other.rglob("*") if p.name in KEPT or p.name == "start.safetensors")
    return [str(n) for n in names if (one / n).read_bytes() != (other / n).read_bytes()]


def test_a_search_ends_with_a_ticket_at_most_as_dense_as_asked(run: Path, mini_recipe: Recipe):
    ticket = read_ticket(run / "ticket.mirl")
    assert ticket.density <= mini_recipe.prune.keep < (ticket.kept + 1) / ticket.total
    assert ticket.provenance["level"] == len(plan_levels(MINI, mini_recipe.prune)) - 1
    assert ticket.tasks == ("denoise25", "derain", "dehaze")
    assert set(ticket.provenance["scores"]) == set(ticket.tasks)


def test_training_changes_the_weights_and_logs_every_interval(run: Path, mini_recipe: Recipe):
    folder = RunFolder(run)
    start, trained = folder.load_start(), load_arrays(folder.level(0).weights)[0]
    unmoved = [n for n in start if np.array_equal(start[n], trained[n])]
    assert unmoved == []
    lines = [json.loads(text) for text in folder.level(0).metrics.read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert all(np.isfinite(line["loss"]) and line["losses"] for line in lines)
    assert lines[0]["learning_rate"] == pytest.approx(learning_rate(mini_recipe.train, 1))


def test_the_same_recipe_gives_the_same_bytes(run: Path, mini_recipe: Recipe, tmp_path: Path):
    search(mini_recipe, tmp_path / "again")
    assert same_bytes(run, tmp_path / "again") == []
    search(replace(mini_recipe, seed=1), tmp_path / "other")
    assert "start.safetensors" in same_bytes(run, tmp_path / "other")


def test_a_search_stopped_anywhere_goes_on_to_the_same_bytes(run: Path, mini_recipe: Recipe, tmp_path: Path):
    path, stops = tmp_path / "stopped", 0
    while not search(mini_recipe, path, time_limit_seconds=0.0).finished:
        stops += 1
        assert verify(path).problems == []
    assert stops > 5
    assert same_bytes(run, path) == []


KILLED = """
import sys, time
from pathlib import Path
from conftest import MINI
import torch
from mirl.lottery.search import Progress, search
from mirl.recipe import recipe_from_dict
import json
recipe = recipe_from_dict(json.loads(sys.argv[2]))
told = []  # three lines of level 0, two of level 1, in the middle of which it waits to be killed, however slow the machine
search(recipe, Path(sys.argv[1]), Path(sys.argv[3]), device="cpu", checkpoint_seconds=0.0,
       progress=Progress(update=lambda *a: (told.append(print(a[0], flush=True)), len(told) == 5 and time.sleep(600))))
"""


def test_a_search_killed_with_9_goes_on_to_the_same_bytes(run: Path, mini_recipe: Recipe, tmp_path: Path):
    from mirl.recipe import to_dict

    path = tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path), json.dumps(to_dict(mini_recipe)), str(mini_data())],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )  # fmt: skip
    assert process.stdout is not None
    for _ in range(5):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert RunFolder(path).level(0).done
    assert not RunFolder(path).level(1).done
    assert RunFolder(path).level(1).checkpoint.exists()
    assert verify(path).ok
    assert not verify(path).finished
    assert search(mini_recipe, path).finished
    assert same_bytes(run, path) == []


def test_sigterm_stops_at_a_safe_point(mini_recipe: Recipe, tmp_path: Path):
    told = []

    def on_update(step, steps, values):
        told.append(step)
        if len(told) == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    result = search(mini_recipe, tmp_path / "run", progress=Progress(update=on_update))
    assert not result.finished
    assert (result.level, result.step) == (0, 4)
    assert RunFolder(tmp_path / "run").level(0).checkpoint.exists()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_only_a_second_ctrl_c_interrupts():
    """torchrun and a scheduler both send SIGTERM: the second one must not break the way to the safe point."""
    before = signal.getsignal(signal.SIGINT)  # ignored where the tests run in the background of a shell
    with stop_switch(None) as stop:
        assert not stop()
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
            assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_run_goes_on_with_data_that_moved_but_not_with_others(copy: Path, mini_recipe: Recipe, tmp_path: Path):
    moved = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", mini_data(), moved], check=True)
    assert search_in(mini_recipe, copy, moved, device="cpu").finished
    next((moved / "denoise" / "MINI").iterdir()).unlink()
    with pytest.raises(MirlError, match="their files differ"):
        search_in(mini_recipe, copy, moved, device="cpu")


def test_two_searches_in_one_folder_are_refused(run: Path, mini_recipe: Recipe):
    with RunFolder(run).lock(), pytest.raises(MirlError, match="another mirl process"):
        search(mini_recipe, run)


def test_another_recipe_or_a_foreign_folder_is_refused(run: Path, mini_recipe: Recipe, tmp_path: Path):
    with pytest.raises(MirlError, match=r"seed: 0 there, 7 asked"):
        search(replace(mini_recipe, seed=7), run)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(MirlError, match="holds no run"):
        search(mini_recipe, tmp_path)
    with pytest.raises(MirlError, match="cannot make the folder"):
        search(mini_recipe, tmp_path / "letter.txt" / "run")


def test_a_device_that_is_not_there_is_refused(mini_recipe: Recipe, tmp_path: Path):
    if not torch.cuda.is_available():
        with pytest.raises(MirlError, match="none is found"):
            search(mini_recipe, tmp_path / "run", device="cuda")
    with pytest.raises(MirlError, match="unknown device"):
        search(mini_recipe, tmp_path / "run", device="toaster")


def test_a_loss_that_is_not_finite_names_step_and_task_and_keeps_the_last_good_state(
    mini_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from mirl.data.patches import Batch, PatchStream

    whole = PatchStream.batch

    def poisoned(self, step, count, rank=0, world=1, patch=None):
        batch = whole(self, step, count, rank, world, patch)
        if step >= 3:
            batch.clean[batch.task == 1] = float("nan")
        return Batch(batch.degraded, batch.clean, batch.task)

    monkeypatch.setattr(PatchStream, "batch", poisoned)
    with pytest.raises(MirlError, match=r"became nan at update 4 on derain"):
        search(mini_recipe, tmp_path / "run", checkpoint_seconds=0.0)
    saved, _ = load_arrays(RunFolder(tmp_path / "run").level(0).checkpoint)
    assert saved["step"] == 3
    assert all(np.isfinite(v).all() for v in saved.values())


def test_an_emptied_layer_is_reported(mini_recipe: Recipe, tmp_path: Path):
    heard = []
    lopsided = replace(mini_recipe, prune=replace(mini_recipe.prune, keep=0.2, fraction=0.9, normalise="none"))
    search(lopsided, tmp_path / "run", progress=Progress(warn=heard.append))
    emptied = RunFolder(tmp_path / "run").level(1).record()["emptied"]
    assert bool(heard) == bool(emptied)
    assert heard
    assert emptied[0] in heard[0]
    heard.clear()
    kept = replace(lopsided, prune=replace(lopsided.prune, min_layer_density=0.01))
    search(kept, tmp_path / "kept", progress=Progress(warn=heard.append))
    assert heard == []


def test_a_gradient_that_is_not_finite_is_named_and_never_saved(mini_recipe: Recipe, tmp_path: Path, monkeypatch):
    from mirl.lottery.state import TrainState

    whole = TrainState.mask_gradients

    def poisoned(self):
        whole(self)
        if self.step == 2:
            self.parameters["embed.weight"].grad[0, 0, 0, 0] = float("inf")

    monkeypatch.setattr(TrainState, "mask_gradients", poisoned)
    with pytest.raises(MirlError, match=r"the gradient became .* at update 3, with"):
        search(mini_recipe, tmp_path / "run", checkpoint_seconds=0.0)
    saved, _ = load_arrays(RunFolder(tmp_path / "run").level(0).checkpoint)
    assert saved["step"] == 2
    assert all(np.isfinite(v).all() for v in saved.values())


def test_an_altered_checkpoint_is_not_trained_on(mini_recipe: Recipe, tmp_path: Path):
    search(mini_recipe, tmp_path / "run", time_limit_seconds=0.0)
    file = RunFolder(tmp_path / "run").level(0).checkpoint
    arrays, metadata = load_arrays(file)
    arrays["weight/embed.weight"][0, 0, 0, 0] += 1
    save_arrays(file, arrays, metadata)
    with pytest.raises(MirlError, match="was altered"):
        search(mini_recipe, tmp_path / "run")


def test_a_stop_says_after_how_many_updates(mini_recipe: Recipe, tmp_path: Path):
    assert search(mini_recipe, tmp_path / "run", time_limit_seconds=0.0).step == 1
    assert search(mini_recipe, tmp_path / "run", time_limit_seconds=0.0).step == 2


def test_rewinding_late_starts_every_level_from_the_weights_at_that_step(mini_recipe: Recipe, tmp_path: Path):
    late = replace(mini_recipe, rewind_step=2)
    search(late, tmp_path / "late")
    search(mini_recipe, tmp_path / "zero", time_limit_seconds=0)
    first, other = (RunFolder(tmp_path / n).load_start() for n in ("late", "zero"))
    assert all(not np.array_equal(first[n], other[n]) for n in first)
    assert verify(tmp_path / "late").ok
    record = RunFolder(tmp_path / "late").level(1).record()
    assert record["steps"] == mini_recipe.train.steps - 2


def test_the_learning_rate_warms_up_never_from_zero_and_falls_to_the_minimum():
    config = TrainConfig(steps=100, warmup_steps=10, learning_rate=1e-3, minimum_learning_rate=1e-5)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(1e-4)
    assert rates[9] == rates[10] == pytest.approx(1e-3)
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(1e-5)
    assert rates[55] == pytest.approx((1e-3 + 1e-5) / 2)


def test_an_option_of_training_changes_the_result(run: Path, mini_recipe: Recipe, tmp_path: Path):
    base = mini_recipe.train
    for name, train in {
        "ema": replace(base, ema_decay=0.0),
        "clip": replace(base, clip_norm=1e-3),
        "decay": replace(base, weight_decay=1.0),
        "clean": replace(base, clean_share=0.9),
        "bf16": replace(base, precision="bf16-mixed"),
    }.items():
        search(replace(mini_recipe, train=train), tmp_path / name, time_limit_seconds=None)
        assert "level-00/weights.safetensors" in same_bytes(run, tmp_path / name), name
        assert verify(tmp_path / name).ok
    louder = (TaskShare("denoise25", loss=3.0), *mini_recipe.tasks[1:])
    search(replace(mini_recipe, tasks=louder), tmp_path / "loss")
    assert "level-00/weights.safetensors" in same_bytes(run, tmp_path / "loss")


def test_compiling_trains_the_same_network(run: Path, mini_recipe: Recipe, tmp_path: Path, monkeypatch):
    calls = []

    def compile_eagerly(network, **options):
        calls.append(1)
        return compile_with(network, backend="eager")

    compile_with = torch.compile
    monkeypatch.setattr(torch, "compile", compile_eagerly)
    one_training = replace(
        mini_recipe,
        train=replace(mini_recipe.train, compile=True),
        prune=replace(mini_recipe.prune, keep=1.0),
    )
    search(one_training, tmp_path / "compiled")
    assert calls
    compiled, eager = (load_arrays(RunFolder(p).level(0).weights)[0] for p in (tmp_path / "compiled", run))
    assert set(compiled) == set(eager)
    assert all(np.allclose(compiled[n], eager[n], atol=1e-5) for n in eager)


def test_validation_during_training_is_logged(mini_recipe: Recipe, tmp_path: Path):
    search(replace(mini_recipe, train=replace(mini_recipe.train, validate_every=3)), tmp_path / "run")
    lines = [json.loads(t) for t in RunFolder(tmp_path / "run").level(0).metrics.read_text().splitlines()]
    found = [line for line in lines if "validation" in line]
    assert [line["step"] for line in found] == [3]
    assert set(found[0]["validation"]) == {"denoise25", "derain", "dehaze"}


def test_tensorboard_gets_the_same_numbers(mini_recipe: Recipe, tmp_path: Path):
    search(replace(mini_recipe, prune=replace(mini_recipe.prune, keep=1.0)), tmp_path / "run", tensorboard=True)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "run" / "tensorboard" / "level-00"))
    events.Reload()
    lines = [json.loads(t) for t in RunFolder(tmp_path / "run").level(0).metrics.read_text().splitlines()]
    assert [e.value for e in events.Scalars("loss")] == pytest.approx([line["loss"] for line in lines])


# verify


def test_a_finished_run_passes_the_audit_and_so_does_its_ticket(run: Path, mini_recipe: Recipe):
    audit = verify(run)
    assert audit.ok
    assert audit.finished
    assert [row["level"] for row in audit.levels] == list(range(len(plan_levels(MINI, mini_recipe.prune))))
    assert all(row["rewound"] and row["nested"] and row["zeros_exact"] and row["counts_exact"] for row in audit.levels)
    assert verify(run / "ticket.mirl").ok


def first_pruned(folder: TrainingFolder, name: str) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(~load_masks(folder.mask)[name])[0])


def test_one_changed_value_in_any_file_is_found_and_named(copy: Path):
    folder, name = RunFolder(copy), "latent.0.attention.qkv.weight"
    level = folder.level(1)
    weights, _ = load_arrays(level.weights)
    original = {n: v.copy() for n, v in weights.items()}
    alive = tuple(int(i) for i in np.argwhere(load_masks(level.mask)[name])[0])
    weights[name][alive] += 1e-6
    save_arrays(level.weights, weights)
    problems = verify(copy).problems
    assert any(f"level-01/weights.safetensors: {name} is not what was recorded" in p for p in problems)
    dead = first_pruned(level, name)
    original[name][dead] = 1e-20
    save_arrays(level.weights, original)
    problems = verify(copy).problems
    assert any(f"level-01/weights.safetensors: {name}{list(dead)} is" in p and "pruned" in p for p in problems)


def test_a_changed_rewind_point_is_found(copy: Path):
    start = RunFolder(copy).load_start()
    start["prompt2.values"][0, 0, 0, 0] += 0.5
    save_arrays(RunFolder(copy).start, start)
    problems = verify(copy).problems
    assert any("start.safetensors: prompt2.values" in p for p in problems)
    assert any("level-01: state after the rewind: prompt2.values" in p for p in problems) or any(
        "level-00: state after the rewind: prompt2.values" in p for p in problems
    )


def test_a_warm_prompt_or_temperature_is_found(mini_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MIR-L's own mistake: some tensors stay trained when the next level begins."""
    import mirl.lottery.search as module

    honest = module.run_training

    def forgetful(recipe, place, start, masks, setting, record, **options):
        if record.get("level") == 1:
            trained = load_arrays(place.path.parent / "level-00" / "weights.safetensors")[0]
            start = {n: trained[n] if n.endswith("temperature") else v for n, v in start.items()}
        return honest(recipe, place, start, masks, setting, record, **options)

    monkeypatch.setattr(module, "run_training", forgetful)
    search(mini_recipe, tmp_path / "run")
    audit = verify(tmp_path / "run")
    assert not audit.ok
    assert [row["rewound"] for row in audit.levels] == [True, False, *([True] * (len(audit.levels) - 2))]
    assert all("temperature" in p for p in audit.problems)


def test_a_revived_weight_a_wrong_count_and_a_swapped_ticket_are_found(copy: Path):
    from mirl.lottery.run import save_masks

    folder = RunFolder(copy)
    masks = load_masks(folder.level(2).mask)
    dead = first_pruned(folder.level(1), "embed.weight")
    masks["embed.weight"][dead] = True
    save_masks(folder.level(2).mask, masks)
    (copy / "ticket.mirl").write_bytes((copy / "level-00" / "ticket.mirl").read_bytes())
    problems = " | ".join(verify(copy).problems)
    assert f"level-02/mask.safetensors: embed.weight{list(dead)} is alive again" in problems
    assert "the recipe's plan says" in problems
    assert "ticket.mirl is not the ticket of level" in problems


def test_an_altered_recipe_or_record_is_found(copy: Path):
    record = json.loads((copy / "level-01" / "level.json").read_text())
    record["recipe"]["train"]["learning_rate"] = 0.5
    record["kept"] += 1
    (copy / "level-01" / "level.json").write_text(json.dumps(record))
    problems = " | ".join(verify(copy).problems)
    assert "trained with another recipe" in problems
    assert "parameters, level.json says" in problems


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(MirlError, match=r"recipe\.json is missing"):
        verify(tmp_path)
    with pytest.raises(MirlError, match="cannot read the ticket"):
        verify(tmp_path / "nothing")


# controls


@pytest.fixture(scope="module")
def controlled(run: Path) -> dict[str, TrainingFolder]:
    return {kind: TrainingFolder(control(run, kind).run, "control.json") for kind in CONTROLS}


def test_controls_keep_the_tickets_count_and_pass_the_audit(run: Path, controlled: dict[str, TrainingFolder]):
    audit = verify(run)
    assert audit.problems == []
    assert len(audit.controls) == len(CONTROLS)
    kept = read_ticket(run / "ticket.mirl").kept
    for kind, place in controlled.items():
        ticket = read_ticket(place.ticket)
        assert ticket.provenance["kind"] == kind
        if kind in ("dense", "dense-macs"):
            assert ticket.kept == ticket.total
        elif kind == "dense-small":
            assert ticket.kept == ticket.total <= kept
        elif kind == "deeper":
            assert ticket.density <= RunFolder(run).recipe().prune.keep / 2 < (ticket.kept + 1) / ticket.total
        else:
            assert ticket.kept == kept


def begun(place: TrainingFolder) -> dict[str, str]:
    return json.loads(place.rewound.read_text())["tensors"]


def test_each_control_changes_what_its_name_says_and_nothing_else(run: Path, controlled: dict[str, TrainingFolder]):
    level = RunFolder(run).level(len(plan_levels(MINI, RunFolder(run).recipe().prune)) - 1)
    masks, ticket_start = load_masks(level.mask), begun(level)
    own = {kind: load_masks(place.mask) for kind, place in controlled.items()}
    kinds = {p.name: p.kind for p in parameters(MINI)}

    def equal_masks(kind: str) -> bool:
        return all(np.array_equal(masks[n], own[kind][n]) for n in masks)

    for kind in ("reinit", "finetune", "lr-rewind", "partial-reset", "ticket"):
        assert equal_masks(kind), kind
    assert hash_state(load_arrays(controlled["ticket"].weights)[0]) == hash_state(load_arrays(level.weights)[0])
    for kind in ("shuffle", "random", "oneshot", "deeper"):
        assert not equal_masks(kind), kind
    assert all(not np.any(own["deeper"][n] & ~m) for n, m in masks.items())
    assert all(own["shuffle"][n].sum() == m.sum() for n, m in masks.items())
    assert any(own["random"][n].sum() != m.sum() for n, m in masks.items())
    changed = {n for n, h in begun(controlled["partial-reset"]).items() if h != ticket_start[n]}
    assert changed
    assert {kinds[n] for n in changed} == {"prompt", "temperature"}
    changed = {n for n, h in begun(controlled["reinit"]).items() if h != ticket_start[n]}
    assert {p.name for p in parameters(MINI) if p.prunable} <= changed
    assert begun(controlled["finetune"]) == begun(controlled["lr-rewind"])
    rates = {k: {json.loads(t)["learning_rate"] for t in controlled[k].metrics.read_text().splitlines()}
             for k in ("finetune", "lr-rewind")}  # fmt: skip
    assert rates["finetune"] == {RunFolder(run).recipe().train.minimum_learning_rate}
    assert max(rates["lr-rewind"]) > min(rates["finetune"])


def test_the_total_budget_and_another_seed_make_other_controls(run: Path, mini_recipe: Recipe):
    levels = len(plan_levels(MINI, mini_recipe.prune))
    total = TrainingFolder(control(run, "oneshot", budget="total").run, "control.json")
    assert total.path.name == "oneshot-total"
    assert total.record()["steps"] == mini_recipe.train.steps * (levels - 1), "the dense level is one of the search's"
    longer = TrainingFolder(control(run, "shuffle", budget="total").run, "control.json")
    assert longer.record()["steps"] == mini_recipe.train.steps * levels
    seeded = TrainingFolder(control(run, "shuffle", seed=3).run, "control.json")
    first = RunFolder(run).control("shuffle")
    assert seeded.mask.read_bytes() != first.mask.read_bytes()
    assert verify(run).ok


def test_a_control_goes_on_after_a_stop_and_refuses_an_unfinished_run(mini_recipe: Recipe, copy: Path, tmp_path: Path):
    fresh = control(copy, "random")
    whole = (fresh.run / "weights.safetensors").read_bytes()
    subprocess.run(["rm", "-r", fresh.run], check=True)
    stops = 0
    while not control(copy, "random", time_limit_seconds=0.0).finished:
        stops += 1
    assert stops > 2
    assert (fresh.run / "weights.safetensors").read_bytes() == whole
    search(mini_recipe, tmp_path / "half", time_limit_seconds=0)
    with pytest.raises(MirlError, match="has not ended"):
        control(tmp_path / "half", "reinit")
    with pytest.raises(MirlError, match="unknown control"):
        control(copy, "magic")
    with pytest.raises(MirlError, match="nothing of the control deeper is drawn, so --seed 3 would change nothing"):
        control(copy, "deeper", seed=3)
    with pytest.raises(MirlError, match="does not hold the data"):
        control(copy, "reinit", tmp_path)
    moved = tmp_path / "elsewhere"
    subprocess.run(["cp", "-r", mini_data(), moved], check=True)
    assert control(copy, "dense", moved).finished
    dense = json.loads((copy / "controls" / "dense" / "control.json").read_text())
    dense["recipe"]["train"]["steps"] += 1
    (copy / "controls" / "dense" / "control.json").write_text(json.dumps(dense))
    with pytest.raises(MirlError, match=r"dense was trained with another recipe \(train.steps: 7 there, 6 asked\)"):
        control(copy, "dense")


def test_one_shot_pruning_has_no_updates_left_of_a_search_that_prunes_nothing(mini_recipe: Recipe):
    with pytest.raises(MirlError, match="no updates of it are left"):
        budgeted(mini_recipe, "oneshot", "total", 1)
    assert budgeted(mini_recipe, "oneshot", "level", 1) == mini_recipe


@pytest.mark.parametrize("cost", [parameter_count, macs_per_pixel])
def test_narrower_is_the_widest_that_fits_and_fills_what_it_may_have(cost: Callable[[NetworkConfig], float]):
    from mirl.recipe import small_laboratory

    network = small_laboratory().network
    fitted = narrower(network, cost(network) / 10, cost)
    assert fitted.blocks == network.blocks
    assert 0.095 * cost(network) < cost(fitted) <= cost(network) / 10
    wider = narrower(network, cost(network) / 3, cost)
    assert wider.width > fitted.width
    assert 0.32 * cost(network) < cost(wider) <= cost(network) / 3
    assert narrower(network, cost(network), cost) == network
    least = replace(fitted, width=2, heads=(1, 2, 2, 8), prompt_widths=(2, 2, 4), expansion=0.5)
    thin = narrower(network, cost(least), cost)
    assert (thin.width, thin.expansion) == (2, 0.5), "where the narrowest does not fit, its branches are narrower too"
    with pytest.raises(MirlError, match="no network of this depth has at most"):
        narrower(network, cost(least) - 1, cost)
    with pytest.raises(MirlError, match="keep more"):
        narrower(network, 10)


def test_a_search_may_take_its_dense_level_from_a_run_that_prunes_otherwise(run: Path, mini_recipe: Recipe, tmp_path: Path):
    by_cost = replace(mini_recipe, prune=replace(mini_recipe.prune, score="macs", depthwise=False))
    assert search(by_cost, tmp_path / "macs", dense_from=run).finished
    assert search(by_cost, tmp_path / "alone").finished
    assert same_bytes(tmp_path / "macs", tmp_path / "alone") == []
    audit = verify(tmp_path / "macs")
    assert audit.ok, audit.problems
    assert audit.finished
    with pytest.raises(MirlError, match="seed"):
        search(replace(by_cost, seed=1), tmp_path / "seed", dense_from=run)
    with pytest.raises(MirlError, match=r"recipe\.json"):
        search(by_cost, tmp_path / "nothing", dense_from=tmp_path)


def test_no_clock_reaches_the_metrics(run: Path):
    keys = {k for t in RunFolder(run).level(0).metrics.read_text().splitlines() for k in json.loads(t)}
    assert keys == {"step", "loss", "learning_rate", "losses"}


def test_pairs_that_no_task_reads_are_named(mini_recipe: Recipe, tmp_path: Path):
    data, heard = tmp_path / "data", []
    subprocess.run(["cp", "-r", mini_data(), data], check=True)
    for side, name in (("input", "a_web.png"), ("target", "a_gt.png")):
        (data / "web" / "S" / side).mkdir(parents=True)
        Image.new("RGB", (24, 24)).save(data / "web" / "S" / side / name)
    search_in(mini_recipe, tmp_path / "a", data, device="cpu", time_limit_seconds=0, progress=Progress(warn=heard.append))
    assert len(heard) == 1
    assert "web" in heard[0]
