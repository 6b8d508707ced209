"""The pilots of the recipe small: short trainings, a choice or two changed at a time, judged on the validation images.

The dense ones choose network, optimizer and rate. The sparse ones prune a dense network to a tenth at once and train that
again, each in another way of choosing what stays, of learning with it, or of where to begin. Their table is
results/evidence/pilots.json; `bench/evidence.py` trains them, two to three minutes each on two CPU cores.
"""

from dataclasses import replace
from typing import Any

from mirl.recipe import NetworkConfig, PruneConfig, Recipe, TrainConfig, small_laboratory, three_tasks

STEPS = 400
LESS_RAIN = three_tasks(rain=1.5, haze=2.5)  # the shares of the tasks before `small` had more rain
BASE = "muon-4e-3"  # the dense network that the sparse pilots prune
DEEP = NetworkConfig(
    width=12, blocks=(1, 2, 3, 4), refinement_blocks=1, heads=(1, 2, 4, 4), expansion=2.0, prompts=5,
    prompt_widths=(8, 16, 32), prompt_sizes=(16, 16, 8),
)  # fmt: skip


def dense(network: NetworkConfig | None = None, **changes: Any) -> Recipe:
    """The recipe small with less rain, densely and for STEPS updates, with one thing changed."""
    recipe = small_laboratory()
    train: TrainConfig = replace(recipe.train, steps=STEPS, warmup_steps=50, ema_decay=0.99, validate_every=0, **changes)
    return Recipe("pilot", network or recipe.network, train, PruneConfig(keep=1.0), LESS_RAIN)


def sparse(rewind_step: int = 0, **changes: Any) -> Recipe:
    """The recipe of BASE, then a tenth of it for STEPS updates, pruned and trained in the way that `changes` say."""
    return replace(PILOTS[BASE], prune=PruneConfig(keep=0.10, fraction=0.95, **changes), rewind_step=rewind_step)


PILOTS = {
    "adamw-2e-3": dense(optimizer="adamw", learning_rate=2e-3),
    "adamw-4e-3": dense(optimizer="adamw", learning_rate=4e-3),
    "muon-2e-3": dense(learning_rate=2e-3),
    BASE: dense(),
    "muon-8e-3": dense(learning_rate=8e-3),
    "deep": dense(network=DEEP),
    "batch-4": dense(batch=4),
}
PILOTS |= {
    "magnitude": sparse(normalise="prompts", min_layer_density=0.02),
    "layer": sparse(scope="layer"),
    "lamp": sparse(score="lamp"),
    "lamp-rate-0.5": sparse(score="lamp", rate_exponent=0.5),
    "lamp-rate-1": sparse(score="lamp", rate_exponent=1.0),
    "lamp-late": sparse(score="lamp", rate_exponent=0.5, rewind_step=STEPS // 5),
}
