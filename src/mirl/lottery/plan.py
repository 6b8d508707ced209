"""What a search will do, before it does it: levels, densities, updates; and MIR-L's way of counting beside ours."""

from dataclasses import dataclass

from mirl.layers import parameter_count
from mirl.lottery.prune import plan_levels, prunable_parameters
from mirl.lottery.schedule import level_updates
from mirl.network.foreign import UNUSED
from mirl.recipe import NetworkConfig, PruneConfig, Recipe

PUBLISHED_ROUNDS, PUBLISHED_FRACTION = 15, 0.2


@dataclass(frozen=True)
class Count:
    """Weights that are ranked, what is left of them, values that nothing prunes, and what that makes of all parameters."""

    weights: int
    left: int
    others: int

    @property
    def parameters(self) -> int:
        """All trainable values."""
        return self.weights + self.others

    @property
    def survivors(self) -> int:
        """All values that are left."""
        return self.left + self.others

    @property
    def density(self) -> float:
        """Survivors over all parameters."""
        return self.survivors / self.parameters


@dataclass(frozen=True)
class Plan:
    """A search in numbers: the count and the updates of each level, level 0 being dense, and all updates."""

    levels: tuple[Count, ...]
    updates_of_level: tuple[int, ...]
    updates: int


def plan_search(recipe: Recipe) -> Plan:
    """Count what a search of `recipe` keeps and trains, exactly. Raises MirlError where its density cannot be reached."""
    kept = plan_levels(recipe.network, recipe.prune)
    others = parameter_count(recipe.network) - kept[0]
    spans = [level_updates(recipe, level, len(kept)) for level in range(len(kept))]
    each = tuple(last - first for first, last in spans)
    return Plan(tuple(Count(kept[0], left, others) for left in kept), each, sum(each) + recipe.rewind_step)


def published_counts(network: NetworkConfig) -> tuple[Count, Count] | None:
    """Return 15 rounds of 20 % of what is called a weight, with the six unused layers (MIR-L's count) and without them.

    None for a network of another shape than the published one. Unused weights are never trained, so they stay at their
    initial values and compete in MIR-L's ranking: how many of the survivors are theirs depends on the training.
    """
    if network != NetworkConfig():
        return None
    weights = sum(p.size for p in prunable_parameters(network, PruneConfig(prunable="name")))
    others = parameter_count(network) - weights
    return _after_rounds(weights + sum(UNUSED.values()), others), _after_rounds(weights, others)


def _after_rounds(weights: int, others: int) -> Count:
    left = weights
    for _ in range(PUBLISHED_ROUNDS):
        left = round(left * (1 - PUBLISHED_FRACTION))
    return Count(weights, left, others)
