"""The learning rate of every update; no torch, so the audit can ask as well."""

import math

from mirl.recipe import TrainConfig


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
