"""What a winning ticket must beat: the same recipe and budget with one thing changed, each in one short function.

A control takes the run and returns what a training starts from. Sources: re-initialisation, Frankle & Carbin 2019
(arXiv 1803.03635); shuffled and random masks, Su et al. 2020 (arXiv 2009.11094) and Frankle et al. 2021 (arXiv 2009.08576);
fine-tuning and learning-rate rewinding, Renda et al. 2020 (arXiv 2003.02389); partial reset, MIR-L's own code.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mirl.errors import MirlError
from mirl.lottery.budget import DRAWN, UNTRAINED, Budget, control_name, control_recipe, small_dense
from mirl.lottery.prune import (
    Masks,
    begin_after_reset,
    deeper_count,
    dense_masks,
    initial_scales,
    plan_levels,
    random_masks,
    reset_partially,
    scores,
    shrink_masks,
    shuffled_masks,
)
from mirl.lottery.run import Arrays, RunFolder, describe_difference, load_arrays, load_masks
from mirl.lottery.search import Progress, SearchResult, name_data, run_training
from mirl.lottery.setting import make_setting, stop_switch
from mirl.lottery.state import arrays_of
from mirl.lottery.train import Stopped
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import Recipe, recipe_from_dict


@dataclass(frozen=True)
class Control:
    """Where one control training begins."""

    start: Arrays
    masks: Masks
    constant_rate: bool = False


@dataclass(frozen=True)
class FinishedRun:
    """A run whose search has ended, with the files that controls begin from."""

    folder: RunFolder
    recipe: Recipe
    last_level: int

    def rewind_point(self) -> Arrays:
        """What the dense level began from."""
        return self.folder.load_start()

    def start(self, pruned_from: int | None = None) -> Arrays:
        """What a level pruned from that level (of the ticket, when left out) begins from: the rewind point, or after a
        partial reset what the recipe says.
        """
        start, level = self.rewind_point(), max(self.last_level - 1, 0) if pruned_from is None else pruned_from
        if self.recipe.prune.reset == "full" or not self.last_level:
            return start
        return begin_after_reset(self.recipe.prune.reset, self.recipe.network, start, self.weights(level))

    def masks(self) -> Masks:
        """The ticket's masks."""
        return load_masks(self.folder.level(self.last_level).mask)

    def control_recipe(self, kind: str, budget: Budget) -> Recipe:
        """The recipe of a control of this run."""
        return control_recipe(self.recipe, kind, budget, self.last_level + 1, self.masks())

    def weights(self, level: int) -> Arrays:
        """Trained weights of a level."""
        return load_arrays(self.folder.level(level).weights)[0]


def reinit(run: FinishedRun, seed: int) -> Control:
    """The ticket's masks on new initial values: does the structure alone win?"""
    network = PromptIR(run.recipe.network)
    initialise(network, torch.Generator().manual_seed(run.recipe.seed + 1_000_003 * (seed + 1)))
    return Control(arrays_of(network), run.masks())


def shuffle(run: FinishedRun, seed: int) -> Control:
    """Each mask permuted inside its tensor: the densities of the layers stay, the places are random."""
    return Control(run.start(), shuffled_masks(run.masks(), run.recipe.seed, seed))


def random(run: FinishedRun, seed: int) -> Control:
    """As many weights as the ticket keeps, drawn uniformly from all prunable ones: neither places nor layer densities."""
    return Control(run.start(), random_masks(run.masks(), run.recipe.prune, run.recipe.seed, seed))


def oneshot(run: FinishedRun, seed: int) -> Control:
    """Dense training, then all pruning at once, then the rewind: is the patience of many levels needed?"""
    prune, scales = run.recipe.prune, initial_scales(run.rewind_point(), run.recipe.network, run.recipe.prune)
    ranking = scores(run.weights(0), scales, run.recipe.network, prune)
    keep = plan_levels(run.recipe.network, prune)[-1]
    return Control(run.start(0), shrink_masks(dense_masks(run.recipe.network, prune), ranking, keep, prune))


def deeper(run: FinishedRun, seed: int) -> Control:
    """One level further: the ticket's weights pruned to half its density, then the rewind."""
    network, prune = run.recipe.network, run.recipe.prune
    ranking = scores(run.weights(run.last_level), initial_scales(run.rewind_point(), network, prune), network, prune)
    keep = deeper_count(network, prune)
    return Control(run.start(run.last_level), shrink_masks(run.masks(), ranking, keep, prune))


def ticket(run: FinishedRun, seed: int) -> Control:
    """The ticket itself, from where it began; with the total budget, what more training makes of it."""
    return Control(run.start(), run.masks())


def dense(run: FinishedRun, seed: int) -> Control:
    """The dense network from the rewind point; with the total budget, what the search's updates buy without pruning."""
    return Control(run.rewind_point(), {})


def dense_small(run: FinishedRun, seed: int) -> Control:
    """A narrower dense network with at most the ticket's number of parameters."""
    return _small_dense(run, "dense-small", seed)


def dense_macs(run: FinishedRun, seed: int) -> Control:
    """A narrower dense network with at most the ticket's multiply-accumulates: does sparsity pay at equal work?

    Attention, which nothing prunes, counts on both sides.
    """
    return _small_dense(run, "dense-macs", seed)


def _small_dense(run: FinishedRun, kind: str, seed: int) -> Control:
    network = PromptIR(small_dense(run.recipe.network, kind, run.masks()))
    initialise(network, torch.Generator().manual_seed(run.recipe.seed + seed))
    return Control(arrays_of(network), {})


def finetune(run: FinishedRun, seed: int) -> Control:
    """The ticket's masks on the weights that were pruned, trained on at the schedule's last rate (Renda et al.)."""
    if not run.recipe.train.minimum_learning_rate:
        raise MirlError("this recipe's schedule ends at a rate of 0, with which finetune learns nothing; take lr-rewind")
    return Control(run.weights(max(run.last_level - 1, 0)), run.masks(), constant_rate=True)


def lr_rewind(run: FinishedRun, seed: int) -> Control:
    """The ticket's masks on the weights that were pruned, with the whole schedule again: only the rate is rewound."""
    return Control(run.weights(max(run.last_level - 1, 0)), run.masks())


def partial_reset(run: FinishedRun, seed: int) -> Control:
    """MIR-L's own reset: prompts and temperatures stay warm, all other tensors go back.

    MIR-L resets so at every round; here the rounds before are the search's own, and only the last rewind is partial.
    """
    trained = run.weights(max(run.last_level - 1, 0))
    return Control(reset_partially(run.rewind_point(), trained, run.recipe.network), run.masks())


CONTROLS: dict[str, Callable[[FinishedRun, int], Control]] = {
    "reinit": reinit,
    "shuffle": shuffle,
    "random": random,
    "oneshot": oneshot,
    "deeper": deeper,
    "ticket": ticket,
    "dense": dense,
    "dense-small": dense_small,
    "dense-macs": dense_macs,
    "finetune": finetune,
    "lr-rewind": lr_rewind,
    "partial-reset": partial_reset,
}


def control(
    run: Path, kind: str, data: Path | None = None, *, seed: int = 0, budget: Budget = "level", device: str = "auto",
    time_limit_seconds: float | None = None, progress: Progress | None = None, tensorboard: bool = False,
    skip_bad: bool = False,
) -> SearchResult:  # fmt: skip
    """Train one control beside a finished run, into RUN/controls/KIND[-total][-seedN], or go on with it.

    `budget` "level" is the updates of one level; "total" those of the whole search, dense training included. `data`
    defaults to where the run's own lay; another place must hold the same files. `seed` chooses the draw of the controls that
    begin from one (DRAWN). Raises MirlError for an unknown kind, a seed of another kind, a run that has not ended, other
    data than the run's, or a control that is there and was trained with another recipe.
    """
    if kind not in CONTROLS:
        raise MirlError(f"unknown control {kind!r}; expected one of {', '.join(CONTROLS)}")
    if not 0 <= seed < 2**31:
        raise MirlError(f"--seed must lie in [0, 2^31), found {seed}")
    if seed and kind not in DRAWN:
        raise MirlError(
            f"nothing of the control {kind} is drawn, so --seed {seed} would change nothing; leave it out, or search with "
            f"another seed (seeds choose {', '.join(DRAWN)})"
        )
    finished, progress = finished_run(run), progress or Progress()
    stored = finished.folder.data()
    source = data or (Path(stored["folder"]) if stored["folder"] else None)
    if name_data(source)["fingerprint"] != stored["fingerprint"]:
        raise MirlError(f"{source} does not hold the data that {run} was trained on; a control takes the same; give --data")
    with finished.folder.lock():
        recipe, name = finished.control_recipe(kind, budget), control_name(kind, seed, budget)
        place = finished.folder.control(name)
        if place.done:
            if difference := describe_difference(recipe_from_dict(place.record()["recipe"]), recipe):
                raise MirlError(
                    f"{place.path} was trained with another recipe ({difference}); move it away to train it anew"
                )
            return SearchResult(place.path, True, 1, 0)
        begin = CONTROLS[kind](finished, seed)
        log_dir = str(finished.folder.path / "tensorboard") if tensorboard else None
        progress.describe(f"control {name}")
        record: dict[str, Any] = {"kind": kind, "seed": seed, "budget": budget}
        with stop_switch(time_limit_seconds) as stop:
            setting = make_setting(recipe, source, device, stop, progress.update, log_dir=log_dir, skip_bad=skip_bad)
            try:
                first_step = 0 if kind in UNTRAINED else recipe.rewind_step
                run_training(recipe, place, begin.start, begin.masks, setting, record, first_step=first_step,
                             constant_rate=begin.constant_rate)  # fmt: skip
            except Stopped as stopped:
                return SearchResult(place.path, False, 1, 0, stopped.step)
    return SearchResult(place.path, True, 1, 0)


def finished_run(run: Path) -> FinishedRun:
    """Open a run whose search has ended. Raises MirlError when it has not."""
    folder = RunFolder(Path(run))
    recipe = folder.recipe()
    last = len(plan_levels(recipe.network, recipe.prune)) - 1
    if not folder.level(last).done:
        raise MirlError(
            f"{run}: the search has not ended (level {last} is not done); run `mirl search` with the same options first"
        )
    return FinishedRun(folder, recipe, last)
