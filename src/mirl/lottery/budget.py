"""How long a control trains, which draw, how wide a small network may be; numpy only, so the audit can ask as well."""

from collections.abc import Callable
from dataclasses import replace
from math import gcd
from typing import Literal

import numpy as np

from mirl.errors import MirlError
from mirl.layers import Parameter, attention_macs_per_pixel, macs_per_pixel, parameter_count, parameters
from mirl.lottery.prune import Masks
from mirl.recipe import NetworkConfig, Recipe, with_steps

Budget = Literal["level", "total"]
SMALL_DENSE = ("dense-small", "dense-macs")  # controls that are another network
UNTRAINED = ("reinit", *SMALL_DENSE)  # they begin from new initial values, and get the updates before a rewind point too
DRAWN = (*UNTRAINED, "shuffle", "random")  # they begin from a draw, which a seed chooses
EXPANSION_STEP, MIN_EXPANSION, MAX_EXPANSION = 0.05, 0.5, 16.0


def budgeted(recipe: Recipe, kind: str, budget: Budget, levels: int) -> Recipe:
    """Return the recipe with the updates of one level, or ("total") of all `levels` trainings of the search together.

    The search takes the updates before a late rewind point once, and each level those after it. One-shot pruning has taken
    those of the dense level already, so the others are left to it. Raises MirlError when there are none.
    """
    if budget == "level":
        return recipe
    left = levels - 1 if kind == "oneshot" else levels
    if not left:
        raise MirlError("this search has one level alone, and one-shot pruning begins after it: no updates of it are left")
    return with_steps(recipe, recipe.rewind_step + (recipe.train.steps - recipe.rewind_step) * left)


def control_name(kind: str, seed: int, budget: Budget) -> str:
    """Return the folder of a control: KIND[-total][-seedN]."""
    return kind + ("-total" if budget == "total" else "") + (f"-seed{seed}" if seed else "")


def control_recipe(run: Recipe, kind: str, budget: Budget, levels: int, masks: Masks) -> Recipe:
    """Return the recipe of a control beside a run of `levels` levels whose ticket has these masks.

    Raises what `small_dense` and `budgeted` do.
    """
    recipe = replace(run, network=small_dense(run.network, kind, masks)) if kind in SMALL_DENSE else run
    return budgeted(recipe, kind, budget, levels)


def small_dense(network: NetworkConfig, kind: str, masks: Masks) -> NetworkConfig:
    """Return the dense network that stands beside the ticket with these masks.

    "dense-small" has at most as many parameters, "dense-macs" takes at most as many multiply-accumulates for each pixel:
    those with the weights that are kept, and those of attention, which has none to prune. Raises MirlError when no network
    of this depth is so small.
    """
    if kind == "dense-macs":
        kept = sum(p.uses_per_pixel * _kept(p, masks) for p in parameters(network))
        work = kept + attention_macs_per_pixel(network)
        return narrower(network, work, all_macs_per_pixel, "multiply-accumulates a pixel")
    return narrower(network, sum(_kept(p, masks) for p in parameters(network)))


def all_macs_per_pixel(network: NetworkConfig) -> float:
    """Multiply-accumulates for each input pixel when nothing is pruned, attention included."""
    return macs_per_pixel(network) + attention_macs_per_pixel(network)


def narrower(
    network: NetworkConfig,
    at_most: float,
    cost: Callable[[NetworkConfig], float] = parameter_count,
    unit: str = "parameters",
) -> NetworkConfig:
    """Return the widest network of the same depth that costs at most so much; heads shrink where they must divide.

    What is left goes to its feed-forward branches: they are widened as far as it reaches. Where none fits, the narrowest is
    taken with narrower branches too. Raises MirlError when even that costs more.
    """
    best: NetworkConfig | None = None
    narrowest: NetworkConfig | None = None
    for width in range(2, network.width + 1, 2):
        p1, p2, p3 = (max(1, round(p * width / network.width)) for p in network.prompt_widths)
        h1, h2, h3, h4 = network.heads
        h1, h2, h4 = gcd(h1, width), gcd(h2, 2 * width), gcd(h4, 8 * width)
        for channels in (4 * width, 2 * width + p1, 4 * width + p2, 8 * width + p3):
            h3 = gcd(h3, channels)
        candidate = replace(network, width=width, prompt_widths=(p1, p2, p3), heads=(h1, h2, h3, h4))
        narrowest = narrowest or replace(candidate, expansion=MIN_EXPANSION)
        if cost(candidate) <= at_most:
            best = candidate
    best = best or narrowest
    if best is None or cost(best) > at_most:
        raise MirlError(f"no network of this depth has at most {at_most:.10g} {unit}; keep more")
    while (at := best.expansion + EXPANSION_STEP) <= MAX_EXPANSION:
        more = replace(best, expansion=round(at, 2))
        if cost(more) > at_most:
            break
        best = more
    return best


def _kept(parameter: Parameter, masks: Masks) -> int:
    """How many values of a tensor masks keep; all of one that has none."""
    return int(np.count_nonzero(masks[parameter.name])) if parameter.name in masks else parameter.size
