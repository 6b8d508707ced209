"""How long a control trains and how wide a small network may be; numpy only, so the audit can ask as well."""

from dataclasses import replace
from math import gcd
from typing import Literal

from mirl.errors import MirlError
from mirl.layers import parameter_count
from mirl.recipe import NetworkConfig, Recipe, with_steps

Budget = Literal["level", "total"]


def budgeted(recipe: Recipe, budget: Budget, levels: int) -> Recipe:
    """Return the recipe with the updates of one level, or ("total") of all `levels` trainings of the search together.

    The search takes the updates before a late rewind point once, and each level those after it.
    """
    if budget == "level":
        return recipe
    return with_steps(recipe, recipe.rewind_step + (recipe.train.steps - recipe.rewind_step) * levels)


def control_name(kind: str, seed: int, budget: Budget) -> str:
    """Return the folder of a control: KIND[-total][-seedN]."""
    return kind + ("-total" if budget == "total" else "") + (f"-seed{seed}" if seed else "")


def narrower(network: NetworkConfig, parameters_at_most: int) -> NetworkConfig:
    """Return the widest network of the same depth with at most so many parameters; heads shrink where they must divide."""
    best = None
    for width in range(2, network.width + 1, 2):
        p1, p2, p3 = (max(1, round(p * width / network.width)) for p in network.prompt_widths)
        h1, h2, h3, h4 = network.heads
        h1, h2, h4 = gcd(h1, width), gcd(h2, 2 * width), gcd(h4, 8 * width)
        for channels in (4 * width, 2 * width + p1, 4 * width + p2, 8 * width + p3):
            h3 = gcd(h3, channels)
        candidate = replace(network, width=width, prompt_widths=(p1, p2, p3), heads=(h1, h2, h3, h4))
        if parameter_count(candidate) <= parameters_at_most:
            best = candidate
    if best is None:
        raise MirlError(f"no network of this depth has at most {parameters_at_most} parameters; keep more")
    return best
