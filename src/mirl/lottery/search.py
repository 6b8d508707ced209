"""The lottery: train, prune the smallest weights, put the survivors back to their initial values, train again.

Lottery tickets: Frankle & Carbin 2019 (arXiv 1803.03635); late rewinding: Frankle et al. 2020 (arXiv 1912.05671);
for all-in-one restoration: MIR-L (arXiv 2510.14463), whose rewind left prompts and temperatures warm. Ours restores EVERY
tensor, unless the recipe asks for MIR-L's partial reset.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from mirl import __version__
from mirl.data.pairs import INPUT_SUFFIXES, fingerprint
from mirl.degrade.tasks import task_named
from mirl.errors import MirlError
from mirl.files import make_folder, write_bytes
from mirl.lottery.prune import (
    Masks,
    begin_after_reset,
    dense_masks,
    describe_masks,
    empty_layers,
    initial_scales,
    plan_levels,
    scores,
    shrink_masks,
)  # fmt: skip
from mirl.lottery.run import (
    BEFORE,
    Arrays,
    RunFolder,
    TrainingFolder,
    describe_difference,
    hash_state,
    load_arrays,
    load_masks,
    save_masks,
)
from mirl.lottery.schedule import level_updates
from mirl.lottery.setting import make_setting, shared, stop_switch
from mirl.lottery.state import arrays_of
from mirl.lottery.train import Listener, Setting, Stopped, train
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import KernelChoice, Recipe, network_from_dict, to_dict
from mirl.ticket import Ticket, write_ticket
from mirl.windows import TRAINED


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: `finished`, or stopped at a safe point in `level`, after `step` updates (0: before its first)."""

    run: Path
    finished: bool
    levels: int
    level: int
    step: int = 0


@dataclass(frozen=True)
class Progress:
    """Where the run stands: `describe` is told of a new level, `warn` of emptied layers, `update` of each log line."""

    describe: Callable[[str], None] = lambda text: None
    update: Listener = lambda step, steps, values: None
    warn: Callable[[str], None] = lambda text: None


def search(
    recipe: Recipe,
    run: Path,
    data: Path | None = None,
    *,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    time_limit_seconds: float | None = None,
    checkpoint_seconds: float = 60.0,
    progress: Progress | None = None,
    tensorboard: bool = False,
    skip_bad: bool = False,
    dense_from: Path | None = None,
    levels_now: int | None = None,
    kernels: KernelChoice = "auto",
) -> SearchResult:
    """Find a ticket: fill the run folder `run` level by level, or go on with what is there.

    `data` is a folder in MIR-L's layout, None the bundled photographs; `skip_bad` leaves out files that cannot be used.
    `dense_from` is a run whose recipe differs in `prune` alone: its dense level, which no pruning touches, is taken over.
    `kernels` are "native", our own for a CPU, "torch", or "auto": ours wherever they run; a run may change them on its way.
    Stops at a safe point after `time_limit_seconds`, when `levels_now` levels have ended, or on SIGINT or SIGTERM; the same
    call goes on. A kill -9 costs at most `checkpoint_seconds`. Under torchrun every process makes the same call: they share
    run folder and batch. Raises MirlError on bad data, on a run folder of another recipe, and on a non-finite loss.
    """
    if levels_now is not None and levels_now < 1:
        raise MirlError(f"--levels-now must be at least 1, found {levels_now}")
    folder, progress = RunFolder(Path(run)), progress or Progress()
    plan = plan_levels(recipe.network, recipe.prune)
    with folder.lock():
        described = name_data(data)
        folder.check(recipe, described)
        log_dir = str(folder.path / "tensorboard") if tensorboard else None
        with stop_switch(time_limit_seconds) as stop:
            setting = make_setting(
                recipe, data, device, stop, progress.update, devices=devices, nodes=nodes, log_dir=log_dir,
                skip_bad=skip_bad, checkpoint_seconds=checkpoint_seconds, kernels=kernels,
            )  # fmt: skip
            if unused := _unused_kinds(recipe, data):
                progress.warn(f"no task of the recipe takes what is in {', '.join(unused)}; --tasks names the tasks")
            source = None if dense_from is None else RunFolder(Path(dense_from))
            if source is not None:
                _require_same_training(recipe, described, source)
            fabric = setting.fabric
            if fabric.is_global_zero:
                folder.begin(recipe, described)  # only now: a run begins once its data could be read
                if source is not None and not folder.level(0).done:
                    _adopt_dense(recipe, folder, source)
            fabric.barrier()
            level = ended = 0
            try:
                start = _start(recipe, folder, setting)
                masks = dense_masks(recipe.network, recipe.prune)
                for level, keep in enumerate(plan):
                    place = folder.level(level)
                    if fabric.broadcast(place.done):
                        masks = shared(fabric, load_masks, place.mask)
                        continue
                    if ended == levels_now:
                        return SearchResult(folder.path, False, len(plan), level)
                    begin = start
                    if level and fabric.broadcast(place.checkpoint.exists()):
                        masks = shared(fabric, load_masks, place.mask)  # the checkpoint holds all else that it goes on from
                    elif level:
                        masks, begin = shared(fabric, _prune_and_reset, recipe, folder, level, masks, start, keep)
                        _report_empty(masks, progress)
                    density = describe_masks(recipe.network, recipe.prune, masks)["density"]
                    progress.describe(f"level {level} of {len(plan) - 1}, density {density:.1%}")
                    first, last = level_updates(recipe, level, len(plan))
                    run_training(recipe, place, begin, masks, setting, {"level": level}, first_step=first, last_step=last)
                    ended += 1
            except Stopped as stopped:
                return SearchResult(folder.path, False, len(plan), level, stopped.step)
        final = folder.level(len(plan) - 1)
        if fabric.is_global_zero and not folder.ticket.exists():
            write_ticket(_ticket(recipe, final, final.record()), folder.ticket)
    return SearchResult(folder.path, True, len(plan), len(plan) - 1)


def run_training(
    recipe: Recipe, place: TrainingFolder, start: Arrays, masks: Masks, setting: Setting, record: dict[str, Any],
    **options: Any,
) -> dict[str, Any]:  # fmt: skip
    """Train one level or control into `place`, write its ticket and, last, its record; returns the record."""
    began = time.monotonic()
    timing = _Seconds(place)
    try:
        weights, validation = train(recipe, place, start, masks, setting, **options)
    finally:
        if setting.fabric.is_global_zero:
            timing.add(time.monotonic() - began)
    record = {
        **record,
        **describe_masks(recipe.network, recipe.prune, masks),
        "validation": validation,
        "seconds": timing.total,
    }
    record["steps"] = (options.get("last_step") or recipe.train.steps) - options.get("first_step", 0)
    record["recipe"], record["hashes"] = to_dict(recipe), hash_state(weights)
    if setting.fabric.is_global_zero:
        write_ticket(_ticket(recipe, place, record), place.ticket)
        place.finish(record)
    setting.fabric.barrier()
    return record


def _start(recipe: Recipe, folder: RunFolder, setting: Setting) -> Arrays:
    """Return the rewind point, made when it is not there: initial values, or those after `rewind_step` updates."""
    if setting.fabric.broadcast(folder.started):
        return shared(setting.fabric, folder.load_start)
    network = PromptIR(recipe.network)
    initialise(network, torch.Generator().manual_seed(recipe.seed))
    state = arrays_of(network)
    if recipe.rewind_step:
        place = TrainingFolder(folder.path / BEFORE)
        raw = replace(recipe, train=replace(recipe.train, ema_decay=0.0))
        state, _ = train(raw, place, state, {}, setting, last_step=recipe.rewind_step)
        place.checkpoint.unlink(missing_ok=True)
    if setting.fabric.is_global_zero:
        folder.save_start(state)
    return shared(setting.fabric, folder.load_start)


def _require_same_training(recipe: Recipe, described: dict[str, str], source: RunFolder) -> None:
    """Raise MirlError unless `source` has finished a dense level that differs from this recipe's in `prune` alone."""
    theirs = replace(source.recipe(), prune=recipe.prune)
    if difference := describe_difference(theirs, recipe):
        raise MirlError(f"{source.path} is no run to take the dense level from: {difference}; only how it prunes may differ")
    if source.data()["fingerprint"] != described["fingerprint"]:
        raise MirlError(f"{source.path} was trained on other data; its dense level cannot be taken")
    if not source.level(0).done:
        raise MirlError(f"{source.path} has not finished its dense level yet; let it go on first")


def _adopt_dense(recipe: Recipe, folder: RunFolder, source: RunFolder) -> None:
    """Copy rewind point and dense level of a run that `_require_same_training` let pass."""
    place, dense = folder.level(0), source.level(0)
    place.checkpoint.unlink(missing_ok=True)
    if recipe.rewind_step:
        shutil.copytree(source.path / BEFORE, folder.path / BEFORE, dirs_exist_ok=True)
    folder.save_start(source.load_start())
    make_folder(place.path)
    for name in ("rewound", "metrics", "weights"):
        shutil.copyfile(getattr(dense, name), getattr(place, name))
    masks = dense_masks(recipe.network, recipe.prune)
    save_masks(place.mask, masks)
    record = dense.record() | describe_masks(recipe.network, recipe.prune, masks) | {"recipe": to_dict(recipe)}
    write_ticket(_ticket(recipe, place, record), place.ticket)
    place.finish(record)


def _prune_and_reset(
    recipe: Recipe, folder: RunFolder, level: int, masks: Masks, start: Arrays, keep: int
) -> tuple[Masks, Arrays]:  # fmt: skip
    """Choose the survivors of the level before, and say what they go back to, as the recipe's reset has it."""
    trained = load_arrays(folder.level(level - 1).weights)[0]
    scales = initial_scales(start, recipe.network, recipe.prune)
    masks = shrink_masks(masks, scores(trained, scales, recipe.network, recipe.prune), keep, recipe.prune)
    return masks, begin_after_reset(recipe.prune.reset, recipe.network, start, trained)


def _unused_kinds(recipe: Recipe, data: Path | None) -> list[str]:
    """Name the folders of pairs that no task of the recipe reads."""
    wanted = {task_named(share.task).kind for share in recipe.tasks}
    return [] if data is None else [kind for kind in INPUT_SUFFIXES if kind not in wanted and (data / kind).is_dir()]


def _report_empty(masks: Masks, progress: Progress) -> None:
    """Say which tensors pruning has emptied: nothing passes through their layer any more."""
    if names := empty_layers(masks):
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        progress.warn(f"nothing is left of {', '.join(names[:3])}{more}; --min-layer-density prevents that")


def _ticket(recipe: Recipe, place: TrainingFolder, record: dict[str, Any]) -> Ticket:
    """Make the ticket of a finished training, with where it comes from."""
    provenance = {
        "mirl": __version__,
        "recipe": record["recipe"],
        "tasks": [share.task for share in recipe.tasks],
        "scores": record["validation"],
    } | {key: record[key] for key in ("level", "kind", "density", "steps") if key in record}
    network = network_from_dict(record["recipe"]["network"])
    return Ticket(network, load_arrays(place.weights)[0], load_masks(place.mask), provenance, TRAINED)


def name_data(data: Path | None) -> dict[str, str]:
    """Say which data a run takes: where they lie, and what they are, so that a run can be moved to another machine."""
    return {"folder": "" if data is None else str(data.resolve()), "fingerprint": "" if data is None else fingerprint(data)}


class _Seconds:
    """The training time of a level over all its interruptions, kept beside the metrics, which hold no clock."""

    def __init__(self, place: TrainingFolder):
        self.file = place.path / "seconds.txt"
        self.total = float(self.file.read_text()) if self.file.exists() and place.checkpoint.exists() else 0.0

    def add(self, seconds: float) -> None:
        self.total += seconds
        if self.file.parent.exists():
            write_bytes(self.file, f"{self.total:.3f}\n".encode())
