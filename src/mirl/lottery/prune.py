"""Which weights survive: score x scope x count, numpy only.

The three are separate: a score ranks single weights, a scope says against which others, a count is exact (ties are broken
by position). Iterative magnitude pruning: Frankle & Carbin 2019 (arXiv 1803.03635); global and layer-wise variants and the
output layer at half the rate: MIR-L (arXiv 2510.14463, section 3).
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.layers import Parameter, parameters
from mirl.recipe import NetworkConfig, PruneConfig, Reset

Masks = dict[str, NDArray[np.bool_]]
Weights = Mapping[str, NDArray[np.float32]]
OUTPUT_LAYER = "output.weight"
MAX_LEVELS = 1000


def prunable_parameters(network: NetworkConfig, prune: PruneConfig) -> tuple[Parameter, ...]:
    """List the tensors that `prune` may thin: convolution, linear and prompt weights, less what its options exempt.

    By name, as MIR-L's code chooses: whatever is called a weight, so LayerNorm scales too, and no prompts.
    """
    by_name = prune.prunable == "name"
    return tuple(
        p
        for p in parameters(network)
        if (p.called_weight if by_name else p.prunable)
        and (prune.prompts or p.kind != "prompt")
        and (prune.depthwise or p.kind != "depthwise")
    )


def warm_tensors(network: NetworkConfig) -> frozenset[str]:
    """Name what a partial reset never puts back: prompts and attention temperatures, as in MIR-L's code."""
    return frozenset(p.name for p in parameters(network) if p.kind in ("prompt", "temperature"))


def reset_partially(start: Weights, trained: Weights, network: NetworkConfig) -> dict[str, NDArray[np.float32]]:
    """Return the rewind point with the trained values of `warm_tensors` in it."""
    warm = warm_tensors(network)
    return {name: trained[name] if name in warm else value for name, value in start.items()}


def begin_after_reset(
    reset: Reset, network: NetworkConfig, start: Weights, trained: Weights
) -> dict[str, NDArray[np.float32]]:
    """Return what a level begins from, before its masks: the rewind point, warm tensors excepted, or the trained weights."""
    if reset == "none":
        return dict(trained)
    return reset_partially(start, trained, network) if reset == "partial" else dict(start)


def dense_masks(network: NetworkConfig, prune: PruneConfig) -> Masks:
    """Return masks that keep everything, for exactly the prunable tensors."""
    return {p.name: np.ones(p.shape, bool) for p in prunable_parameters(network, prune)}


def plan_levels(network: NetworkConfig, prune: PruneConfig) -> list[int]:
    """Return how many prunable weights each level keeps; entry 0 is the dense network.

    Every level removes `prune.fraction` of the survivors; the last one lands exactly on the largest count with
    density at most `prune.keep` over ALL trainable parameters. Raises MirlError when what is never pruned, or
    what `prune.min_layer_density` protects, is more than that.
    """
    total = sum(p.size for p in parameters(network))
    prunable = sum(p.size for p in prunable_parameters(network, prune))
    target = math.floor(prune.keep * total + 1e-9) - (total - prunable)
    if target < 1:
        raise MirlError(
            f"density {prune.keep} cannot be reached: {total - prunable} of {total} parameters are never pruned "
            f"({(total - prunable) / total:.2%}); expected --keep above that"
        )
    floor = sum(math.ceil(prune.min_layer_density * p.size) for p in prunable_parameters(network, prune))
    if floor > target:
        raise MirlError(
            f"--min-layer-density {prune.min_layer_density} protects {floor} weights, more than the {target} to keep; "
            "lower it or raise --keep"
        )
    counts = [prunable]
    while counts[-1] > target:
        counts.append(max(target, min(counts[-1] - 1, round(counts[-1] * (1 - prune.fraction)))))
        if len(counts) > MAX_LEVELS:
            raise MirlError(
                f"--fraction {prune.fraction} needs more than {MAX_LEVELS} levels to reach {prune.keep}; raise it"
            )
    return counts


def deeper_count(network: NetworkConfig, prune: PruneConfig) -> int:
    """Return how many prunable weights are left at half the density of `prune.keep`. Raises what plan_levels does."""
    return plan_levels(network, replace(prune, keep=prune.keep / 2))[-1]


def initial_scales(start: Weights, network: NetworkConfig, prune: PruneConfig) -> dict[str, float]:
    """Return what |w| of each prunable tensor is divided by, from the root mean squares (RMS) at the rewind point.

    Prompts start in [0, 1] (RMS 0.58), convolutions at RMS 0.01 to 0.3: by raw magnitude ("none", the paper's) no prompt
    would ever go. "initial-rms": the tensor's own RMS. "prompts": for prompts their RMS over that of all other prunable
    weights, for these 1. A tensor that starts at zero counts as RMS 1.
    """
    chosen = prunable_parameters(network, prune)
    squares = {p.name: float(np.square(start[p.name], dtype=np.float64).sum()) for p in chosen}
    own = {p.name: math.sqrt(squares[p.name] / p.size) or 1.0 for p in chosen}
    if prune.normalise == "initial-rms":
        return own
    if prune.normalise == "none":
        return dict.fromkeys(own, 1.0)
    others = [p for p in chosen if p.kind != "prompt"]
    common = math.sqrt(sum(squares[p.name] for p in others) / max(sum(p.size for p in others), 1)) or 1.0
    return {p.name: own[p.name] / common if p.kind == "prompt" else 1.0 for p in chosen}


def scores(
    weights: Weights, scales: Mapping[str, float], network: NetworkConfig, prune: PruneConfig
) -> dict[str, NDArray[np.float32]]:
    """Rank single weights: larger survives.

    "magnitude": |w| over the tensor's initial scale. "macs": that, over the square root of how often the weight is used for
    each input pixel: a weight at full resolution must be 8 times as large as one at 1/8 to stay. With w^2 for what a weight
    matters (LeCun, Denker & Solla 1990, equal curvatures) this is the order of w^2 / cost, the greedy one of a knapsack
    (Aflalo et al. 2020, arXiv 2002.08258). At the same count it never costs more than magnitude: it trades a weight only for
    one that is at most as dear. What is used once an image (prompts) counts as at 1/8. Uses are equal within a tensor, so in
    the scope "layer" both scores keep the same weights.

    `prune.cost_exponent` goes between: w^2 over cost to that power, for magnitude and lamp; "macs" is magnitude with 1.

    "lamp": w^2 over the sum of the squares of its tensor that are not smaller (Lee et al. 2021, arXiv 2010.07611): what
    pruning the weight costs its layer, with all smaller ones gone. It asks no scale, and empties no layer.
    """
    exponent, result = 1.0 if prune.score == "macs" else prune.cost_exponent, {}
    for p in prunable_parameters(network, prune):
        cost = max(p.uses_per_pixel, 1 / 64) ** exponent
        if prune.score == "lamp":
            score = _lamp(weights[p.name]) / np.float32(cost)
        else:
            score = np.abs(weights[p.name]) / np.float32(scales[p.name]) / np.float32(math.sqrt(cost))
        result[p.name] = score.astype(np.float32)
    return result


def _lamp(weight: NDArray[np.float32]) -> NDArray[np.float32]:
    """Score one tensor; pruned weights are 0 and score 0."""
    squares = np.square(weight.reshape(-1), dtype=np.float64)
    order = np.argsort(squares, kind="stable")
    result = np.empty_like(squares)
    above = np.cumsum(squares[order][::-1])[::-1]
    result[order] = np.divide(squares[order], above, out=np.zeros_like(above), where=above > 0)
    return result.reshape(weight.shape).astype(np.float32)


def shrink_masks(masks: Masks, score: Mapping[str, NDArray[np.float32]], keep: int, prune: PruneConfig) -> Masks:
    """Return masks inside `masks` that keep exactly `keep` weights, the best by `score` in the scope of `prune`.

    `prune.min_layer_density` of each tensor is never taken. Raises MirlError when that leaves no way to reach `keep`.
    """
    alive = {name: int(np.count_nonzero(mask)) for name, mask in masks.items()}
    if keep > sum(alive.values()):
        raise MirlError(f"cannot keep {keep} weights, only {sum(alive.values())} are left; pruning never revives a weight")
    floors = {name: min(alive[name], math.ceil(prune.min_layer_density * mask.size)) for name, mask in masks.items()}
    if sum(floors.values()) > keep:
        raise MirlError(
            f"--min-layer-density {prune.min_layer_density} protects {sum(floors.values())} weights, more than the {keep} "
            "to keep; lower it or raise --keep"
        )
    if prune.scope == "layer":
        quotas = _layer_quotas(alive, floors, keep)
        return {name: _best(masks[name], score[name], quotas[name]) for name in masks}
    protected = {name: _best(masks[name], score[name], floors[name]) for name in masks}
    pooled = np.concatenate([score[name].reshape(-1) for name in masks])
    taken = np.concatenate([protected[name].reshape(-1) for name in masks])
    open_ = np.concatenate([masks[name].reshape(-1) for name in masks]) & ~taken
    kept = taken | _best(open_, pooled, keep - int(np.count_nonzero(taken)))
    result, position = {}, 0
    for name, mask in masks.items():
        result[name] = kept[position : position + mask.size].reshape(mask.shape)
        position += mask.size
    return result


def empty_layers(masks: Masks) -> list[str]:
    """Name the tensors of which nothing is left: their layer passes no signal any more."""
    return [name for name, mask in masks.items() if not mask.any()]


def describe_masks(network: NetworkConfig, prune: PruneConfig, masks: Masks) -> dict[str, Any]:
    """Counts and densities of a level, as level.json and the report want them."""
    total = sum(p.size for p in parameters(network))
    prunable = sum(p.size for p in prunable_parameters(network, prune))
    kept = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    if not masks:  # a dense control: nothing is masked, so everything prunable is there
        kept = prunable
    return {
        "density": (total - prunable + kept) / total,
        "density_prunable": kept / prunable,
        "kept": total - prunable + kept,
        "total": total,
        "prunable": prunable,
        "layers": {name: float(mask.mean()) for name, mask in masks.items()},
        "emptied": empty_layers(masks),
    }


def _best(mask: NDArray[np.bool_], score: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """Keep the `count` highest scores inside `mask`; equal scores go by position, so the count is always exact."""
    inside = np.flatnonzero(mask)
    result = np.zeros(mask.size, bool)
    if count >= inside.size:
        result[inside] = True
    elif count > 0:
        values = score.reshape(-1)[inside]
        threshold = np.partition(values, inside.size - count)[inside.size - count]
        above = values > threshold
        ties = np.flatnonzero(values == threshold)[: count - int(np.count_nonzero(above))]
        result[inside[above]] = True
        result[inside[ties]] = True
    return result.reshape(mask.shape)


def _layer_quotas(alive: Mapping[str, int], floors: Mapping[str, int], keep: int) -> dict[str, int]:
    """Share `keep` so that every tensor loses the same fraction, the output layer half of it; largest remainders round."""
    weight = {name: count * (0.5 if name == OUTPUT_LAYER else 1.0) for name, count in alive.items()}
    fraction = (sum(alive.values()) - keep) / max(sum(weight.values()), 1e-9)
    exact = {name: max(alive[name] - fraction * weight[name], 0.0) for name in alive}
    quotas = {name: max(math.floor(exact[name]), floors[name]) for name in alive}
    order = sorted(alive, key=lambda name: (-(exact[name] - math.floor(exact[name])), name))
    while (missing := keep - sum(quotas.values())) != 0:  # at most a few passes: rounding, and floors above the quota
        step = 1 if missing > 0 else -1
        open_ = [n for n in order if (quotas[n] < alive[n] if step > 0 else quotas[n] > floors[n])]
        for name in open_[: abs(missing)]:
            quotas[name] += step
    return quotas


def shuffled_masks(masks: Masks, seed: int, control_seed: int) -> Masks:
    """Return each mask permuted inside its tensor: densities stay, places change (Frankle et al. 2021, arXiv 2009.08576).

    `seed` is the recipe's, `control_seed` chooses among the draws of a run.
    """
    rng = _control_generator(seed, control_seed)
    return {name: rng.permutation(mask.reshape(-1)).reshape(mask.shape) for name, mask in sorted(masks.items())}


def random_masks(masks: Masks, prune: PruneConfig, seed: int, control_seed: int) -> Masks:
    """Return masks that keep as many weights as `masks`, drawn uniformly from all of them."""
    rng = _control_generator(seed, control_seed)
    chance = {name: rng.random(mask.shape, np.float32) for name, mask in sorted(masks.items())}
    keep = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    everything = {name: np.ones_like(mask) for name, mask in masks.items()}
    return shrink_masks(everything, chance, keep, replace(prune, scope="global", min_layer_density=0.0))


def _control_generator(seed: int, control_seed: int) -> np.random.Generator:
    """Random numbers of a control, apart from those of the search."""
    return np.random.default_rng([seed, control_seed, 0xC0])
