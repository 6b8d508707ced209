"""The pilots of the recipe small: short dense trainings, one choice changed at a time, judged on the validation images.

Their table is results/evidence/pilots.json; `bench/evidence.py` trains them, about four minutes each on two CPU cores.
"""

from dataclasses import replace
from typing import Any

from mirl.recipe import NetworkConfig, PruneConfig, Recipe, TrainConfig, small, three_tasks

STEPS = 600
DEEP = NetworkConfig(
    width=12, blocks=(1, 2, 3, 4), refinement_blocks=1, heads=(1, 2, 4, 4), expansion=2.0, prompts=5,
    prompt_widths=(8, 16, 32), prompt_sizes=(16, 16, 8),
)  # fmt: skip


def pilot(network: NetworkConfig | None = None, rain: float = 3.0, haze: float = 3.0, **changes: Any) -> Recipe:
    """The recipe small, densely and for STEPS updates, with one thing changed."""
    recipe = small()
    train: TrainConfig = replace(recipe.train, steps=STEPS, warmup_steps=50, ema_decay=0.99, validate_every=0, **changes)
    return Recipe("pilot", network or recipe.network, train, PruneConfig(keep=1.0), three_tasks(rain, haze))


PILOTS = {
    "adamw-2e-3": pilot(optimizer="adamw", learning_rate=2e-3, rain=4.0, haze=2.0),
    "adamw-4e-3": pilot(optimizer="adamw", learning_rate=4e-3, rain=4.0, haze=2.0),
    "adamw-6e-3": pilot(optimizer="adamw", learning_rate=6e-3, rain=4.0, haze=2.0),
    "muon-2e-3": pilot(learning_rate=2e-3, rain=4.0, haze=2.0),
    "muon-4e-3": pilot(rain=4.0, haze=2.0),
    "muon-8e-3": pilot(learning_rate=8e-3, rain=4.0, haze=2.0),
    "small": pilot(),
    "deep": pilot(network=DEEP),
    "batch-4": pilot(batch=4),
}
