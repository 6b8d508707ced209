"""The learning rate of every update; no torch, so the audit can ask as well."""

import math

from mirl.errors import MirlError
from mirl.recipe import Recipe, TrainConfig


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of update `step` (0-based): linear to `learning_rate` over the warm-up, then cosine to the minimum.

    MIR-L's schedule (arXiv 2510.14463, section 3), by updates and never 0. With `config.epochs` as its code has it: by
    epochs, and 0 in the first one of the warm-up.
    """
    if config.epochs:
        at, whole = step * config.epochs // config.steps, config.epochs
        warmup = round(config.warmup_steps * whole / config.steps)
        risen = at / max(warmup - 1, 1)
    else:
        at, whole, warmup = step, config.steps, config.warmup_steps
        risen = (at + 1) / max(warmup, 1)
    if at < warmup:
        return config.learning_rate * risen
    progress = (at - warmup) / max(whole - warmup, 1)
    return config.minimum_learning_rate + (config.learning_rate - config.minimum_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * progress)
    )


def level_updates(recipe: Recipe, level: int, levels: int) -> tuple[int, int]:
    """Return the first update of a level and the one after its last, both 0-based, of `levels` in all.

    Every level takes those after the rewind point; with `reset="none"` the levels after the dense one share one schedule.
    """
    steps = recipe.train.steps
    if recipe.prune.reset != "none" or level == 0:
        return recipe.rewind_step, steps
    ramp = round(recipe.prune.ramp * steps)
    edges = [ramp * k // (levels - 1) for k in range(levels - 1)] + [steps]
    if edges[level] <= edges[level - 1]:
        raise MirlError(
            f"{steps} updates are too few for {levels - 1} levels in a ramp of {recipe.prune.ramp}; train longer"
        )
    return edges[level - 1], edges[level]
