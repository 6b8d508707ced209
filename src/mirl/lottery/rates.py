"""Learning rates of pruned tensors: what has fewer inputs left takes longer steps.

In the usual parametrisation a sparse layer learns too slowly: with a share d of its weights, a step of the same size changes
its output less. SμPar (Dey, Bergsma & Hestness 2024, arXiv 2405.15743) gives each weight 1 / d of the dense rate; the
power of 1 / d is the recipe's, `PruneConfig.rate_exponent` (1: SμPar's, 0: none).
"""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from mirl.lottery.prune import Masks

PER_OCTAVE = 2  # factors are rounded to half octaves, so that few groups of parameters remain


def rate_factors(masks: Masks, exponent: float) -> dict[str, float]:
    """Return what the learning rate of each masked tensor is multiplied by: about density^-exponent; 1 where all is gone."""
    result = {}
    for name, mask in masks.items():
        density = float(mask.mean()) or 1.0
        result[name] = 2.0 ** (round(-exponent * math.log2(density) * PER_OCTAVE) / PER_OCTAVE)
    return result


def grouped(named: Iterable[tuple[str, Tensor]], lr: float, factors: Mapping[str, float] | None) -> list[dict[str, Any]]:
    """Return groups of parameters for an optimizer, one for each factor, with their rate "lr" and their "factor"."""
    groups: dict[float, list[Tensor]] = {}
    for name, parameter in named:
        groups.setdefault((factors or {}).get(name, 1.0), []).append(parameter)
    return [{"params": groups[factor], "lr": lr * factor, "factor": factor} for factor in sorted(groups)]
