"""How far a job is, read from its run folder with the mirl that trains it."""

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from jobs import Job
from mirl.lottery.prune import plan_levels
from mirl.lottery.run import BEFORE, RunFolder, TrainingFolder
from mirl.lottery.schedule import level_updates
from mirl.recipe import Recipe

UNIT = 64  # side in pixels of the patches that are counted


@dataclass(frozen=True)
class Training:
    """One training of a job: its folder, the updates from which to which it goes, and whether it has ended."""

    folder: TrainingFolder
    name: str
    first: int
    last: int
    ended: bool

    @property
    def done(self) -> int:
        """Updates made so far, by its log or its checkpoint."""
        if self.ended:
            return self.last - self.first
        return max(self.saved, min(logged_step(self.folder), self.last) - self.first)

    @property
    def saved(self) -> int:
        """Updates that a machine which vanishes now would leave."""
        if self.ended:
            return self.last - self.first
        return min(max(checkpoint_step(self.folder), self.first), self.last) - self.first


@dataclass(frozen=True)
class Standing:
    """Updates and patches (of 64x64 pixels) of a job so far and in all, those that are saved, and the training that runs."""

    training: str
    updates: int
    all_updates: int
    patches: float
    saved: int


def standing(job: Job, runs: Path) -> Standing:
    """Say how far a job is; zeros when its run folder is not there yet, or it is no training of mirl."""
    run = RunFolder(job.folder(runs))
    if not (run.path / "recipe.json").exists():
        return Standing("", 0, 0, 0.0, 0)
    recipe = run.recipe()
    per_update = recipe.train.batch * (recipe.train.patch / UNIT) ** 2
    parts = trainings(job, run, recipe, per_update)
    done = sum(part.done for part in parts)
    current = next((part for part in parts if part.done < part.last - part.first), parts[-1])
    saved = sum(part.saved for part in parts)
    return Standing(current.name, done, sum(part.last - part.first for part in parts), done * per_update, saved)


def trainings(job: Job, run: RunFolder, recipe: Recipe, per_update: float) -> list[Training]:
    """List what a job trains, in order: the way to the rewind point and the levels, or one control."""
    if job.control:
        place = run.control(job.control)
        return [Training(place, job.control, 0, round(job.patches / per_update), place.done)]
    levels, found = len(plan_levels(recipe.network, recipe.prune)), []
    if rewind := recipe.rewind_step:
        found.append(Training(TrainingFolder(run.path / BEFORE), "to the rewind point", 0, rewind, run.started))
    for level in range(levels):
        first, last = level_updates(recipe, level, levels)
        place = run.level(level)
        found.append(Training(place, f"level {level} of {levels - 1}", first, last, place.done))
    return found


def checkpoint_step(folder: TrainingFolder) -> int:
    """Updates that the checkpoint holds; 0 without one."""
    try:
        with safe_open(folder.checkpoint, "numpy") as file:
            return int(file.get_tensor("step")[0])
    except (OSError, SafetensorError):
        return 0


def logged_step(folder: TrainingFolder) -> int:
    """Updates at the last whole line of the metrics; 0 without one."""
    if not folder.metrics.exists():
        return 0
    with folder.metrics.open("rb") as file:
        file.seek(max(0, folder.metrics.stat().st_size - 8192))
        for text in reversed(file.read().splitlines()):
            try:
                return int(json.loads(text)["step"])
            except (ValueError, KeyError, TypeError):
                continue
    return 0
