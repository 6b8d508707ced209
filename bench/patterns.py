"""Tickets with known patterns of zeros at initial weights, for benches and tests of engines: where zeros lie decides speed.

Nothing is trained. LayerNorms get random weights and biases, so that folding them is exercised as a trained ticket does.
"""

import re
from dataclasses import replace

import numpy as np
import torch

from mirl.layers import parameters
from mirl.lottery.prune import OUTPUT_LAYER, Masks, dense_masks, scores, shrink_masks
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import NetworkConfig, PruneConfig, small_laboratory
from mirl.ticket import Ticket

NETWORKS = {"paper": NetworkConfig(), "small": small_laboratory().network}
PATTERNS = ("dense", "global-90", "layer-90-depthwise-dense", "layer-90")
_LAYER = PruneConfig(scope="layer", normalise="none")


def initial_weights(network: NetworkConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Return initial weights; LayerNorm weights 1 + 0.1 n and biases 0.1 n, n standard normal."""
    module = PromptIR(network)
    initialise(module, torch.Generator().manual_seed(seed))
    weights = {name: value.detach().numpy().copy() for name, value in module.named_parameters()}
    rng = np.random.default_rng(seed)
    for p in parameters(network):
        if p.kind == "norm":
            noise = rng.standard_normal(p.shape, dtype=np.float32) * np.float32(0.1)
            weights[p.name] = noise + np.float32(p.name.endswith("weight"))
    return weights


def make_ticket(network: NetworkConfig, pattern: str, seed: int = 0) -> Ticket:
    """Return the ticket of a pattern: one of `PATTERNS`, or layer-N for N percent of each tensor pruned.

    - dense: no mask.
    - layer-N: by magnitude in each convolution, linear map and prompt; the output convolution at half the rate (MIR-L).
    - layer-N-depthwise-dense: the same, depthwise filters kept whole.
    - global-N: by raw magnitude over all convolutions and linear maps together. Prompts, which start far above the others,
      and the output convolution, without which the network is the identity, as in layer-N.

    Raises ValueError for another name.
    """
    match = re.fullmatch(r"(layer|global)-(\d\d)(-depthwise-dense)?", pattern)
    if pattern != "dense" and not match:
        raise ValueError(f"unknown pattern {pattern!r}")
    weights, masks = initial_weights(network, seed), {}
    if match:
        prune, keep = replace(_LAYER, depthwise=not match[3]), 1 - int(match[2]) / 100
        masks = _pruned(network, weights, prune, keep)
        if match[1] == "global":
            wide = _pruned(network, weights, replace(prune, scope="global", prompts=False), keep)
            masks |= {name: mask for name, mask in wide.items() if name != OUTPUT_LAYER}
    for name, mask in masks.items():
        weights[name][~mask] = 0
    return Ticket(network, weights, masks, {"tasks": [], "pattern": pattern, "seed": seed})


def _pruned(network: NetworkConfig, weights: dict[str, np.ndarray], prune: PruneConfig, keep: float) -> Masks:
    masks = dense_masks(network, prune)
    score = scores(weights, dict.fromkeys(masks, 1.0), network, prune)
    return shrink_masks(masks, score, round(keep * sum(mask.size for mask in masks.values())), prune)
