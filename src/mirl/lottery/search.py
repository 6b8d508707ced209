"""The lottery: train, prune the smallest weights, put the survivors back to their initial values, train again.

Lottery tickets: Frankle & Carbin 2019 (arXiv 1803.03635); late rewinding: Frankle et al. 2020 (arXiv 1912.05671);
for all-in-one restoration: MIR-L (arXiv 2510.14463), whose rewind left prompts and temperatures warm. Ours restores EVERY
tensor.
"""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning_fabric import Fabric

from mirl import __version__
from mirl.data.pairs import INPUT_SUFFIXES, fingerprint
from mirl.data.patches import load_training_data, validation_examples
from mirl.degrade.tasks import task_named
from mirl.engine.memory import keep_large_blocks
from mirl.errors import MirlError
from mirl.files import make_folder, write_bytes
from mirl.lottery.prune import (
    Masks,
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
from mirl.lottery.state import arrays_of
from mirl.lottery.train import Listener, Setting, Stopped, train
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import Recipe, network_from_dict, to_dict
from mirl.ticket import Ticket, write_ticket


@dataclass(frozen=True)
class SearchResult:
    """How a search ended: `finished`, or stopped at a safe point in `level` after `step` updates of it."""

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
) -> SearchResult:
    """Find a ticket: fill the run folder `run` level by level, or go on with what is there.

    `data` is a folder in MIR-L's layout, None the bundled photographs; `skip_bad` leaves out files that cannot be used.
    `dense_from` is a run whose recipe differs in `prune` alone: its dense level, which no pruning touches, is taken over.
    Stops at a safe point after `time_limit_seconds` or on SIGINT or SIGTERM; the same call goes on. A kill -9 costs at most
    `checkpoint_seconds`. Raises MirlError on bad data, on a run folder of another recipe, and on a non-finite loss.
    """
    folder, progress = RunFolder(Path(run)), progress or Progress()
    plan = plan_levels(recipe.network, recipe.prune)
    with folder.lock():
        described = name_data(data)
        folder.check(recipe, described)
        log_dir = str(folder.path / "tensorboard") if tensorboard else None
        with stop_switch(time_limit_seconds) as stop:
            setting = make_setting(
                recipe, data, device, stop, progress.update, devices=devices, nodes=nodes, log_dir=log_dir,
                skip_bad=skip_bad, checkpoint_seconds=checkpoint_seconds,
            )  # fmt: skip
            if unused := _unused_kinds(recipe, data):
                progress.warn(f"no task of the recipe takes what is in {', '.join(unused)}; --tasks names the tasks")
            source = None if dense_from is None else RunFolder(Path(dense_from))
            if source is not None:
                _require_same_training(recipe, described, source)
            folder.begin(recipe, described)  # only now: a run begins once its data could be read
            if source is not None and not folder.level(0).done:
                _adopt_dense(recipe, folder, source)
            level = 0
            try:
                start = _start(recipe, folder, setting)
                masks = dense_masks(recipe.network, recipe.prune)
                for level, keep in enumerate(plan):
                    place = folder.level(level)
                    if place.done:
                        masks = load_masks(place.mask)
                        continue
                    if level:
                        masks = _prune(recipe, folder, level, masks, start, keep)
                        _report_empty(masks, progress)
                    density = describe_masks(recipe.network, recipe.prune, masks)["density"]
                    progress.describe(f"level {level} of {len(plan) - 1}, density {density:.1%}")
                    run_training(recipe, place, start, masks, setting, {"level": level}, first_step=recipe.rewind_step)
            except Stopped as stopped:
                return SearchResult(folder.path, False, len(plan), level, stopped.step)
        final = folder.level(len(plan) - 1)
        if not folder.ticket.exists():
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


def make_setting(
    recipe: Recipe, data: Path | None, device: str, stop: Callable[[], bool], listener: Listener, *,
    devices: int = 1, nodes: int = 1,
    log_dir: str | None = None, skip_bad: bool = False,
    checkpoint_seconds: float = 60.0,
) -> Setting:  # fmt: skip
    """Open device and data for trainings of `recipe`; raises MirlError for a device that is not there."""
    keep_large_blocks()
    if device not in ("auto", "cpu", "cuda"):
        raise MirlError(f"unknown device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise MirlError("device cuda was asked for and none is found; use --device cpu")
    if devices < 1 or nodes < 1:
        raise MirlError(f"devices and nodes must be at least 1, found {devices} and {nodes}")
    if device == "cuda" and devices > torch.cuda.device_count():
        raise MirlError(f"{devices} devices were asked for and {torch.cuda.device_count()} found; lower --devices")
    fabric = Fabric(accelerator="gpu" if device == "cuda" else device, devices=devices, num_nodes=nodes,
                    precision=recipe.train.precision)  # fmt: skip
    fabric.launch()
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    stream = load_training_data(data, recipe.tasks, recipe.train.patch, recipe.seed, fabric.device,
                                clean_share=recipe.train.clean_share, skip_bad=skip_bad)  # fmt: skip
    examples = validation_examples(data, [share.task for share in recipe.tasks], skip_bad=skip_bad)
    return Setting(fabric, stream, examples, stop, listener, checkpoint_seconds, log_dir)


@contextmanager
def stop_switch(time_limit_seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Give a function that turns true at the time limit or once SIGINT or SIGTERM came; a second signal interrupts."""
    deadline = None if time_limit_seconds is None else time.monotonic() + time_limit_seconds
    asked = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    previous: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
    except ValueError:
        pass  # not in the main thread: signals are the caller's
    try:
        yield lambda: asked or (deadline is not None and time.monotonic() > deadline)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _start(recipe: Recipe, folder: RunFolder, setting: Setting) -> Arrays:
    """Return the rewind point, made when it is not there: initial values, or those after `rewind_step` updates."""
    if setting.fabric.broadcast(folder.started):
        return folder.load_start()
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
    setting.fabric.barrier()
    return folder.load_start()


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


def _prune(recipe: Recipe, folder: RunFolder, level: int, masks: Masks, start: Arrays, keep: int) -> Masks:
    """Choose the survivors of the level before."""
    trained = load_arrays(folder.level(level - 1).weights)[0]
    scales = initial_scales(start, recipe.network, recipe.prune)
    return shrink_masks(masks, scores(trained, scales, recipe.network, recipe.prune), keep, recipe.prune)


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
    return Ticket(network, load_arrays(place.weights)[0], load_masks(place.mask), provenance)


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
