"""Learning rates of pruned tensors: the factors, the groups, and that an update really moves by them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mirl.lottery.prune import dense_masks
from mirl.lottery.rates import grouped, rate_factors
from mirl.lottery.train import make_optimizer
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import Recipe, tiny

LATENT, NORM = "latent.0.attention.qkv.weight", "latent.0.norm1.weight"


def thinned(density: float) -> dict[str, np.ndarray]:
    masks = dense_masks(tiny().network, tiny().prune)
    flat = masks[LATENT].reshape(-1)
    flat[round(density * flat.size) :] = False
    return masks


@pytest.mark.parametrize(
    ("density", "exponent", "factor"),
    [(1.0, 1.0, 1.0), (0.25, 1.0, 4.0), (0.25, 0.5, 2.0), (0.25, 0.0, 1.0), (0.11, 0.5, 2 * 2**0.5), (0.02, 0.5, 2**3)],
)
def test_factors_are_powers_of_the_density_to_half_an_octave(density: float, exponent: float, factor: float):
    mask = np.arange(10_000) < density * 10_000
    assert rate_factors({"one": mask}, exponent) == {"one": pytest.approx(factor)}
    assert abs(np.log2(factor) + exponent * np.log2(density)) <= 0.5  # what the table says


def test_an_empty_tensor_has_no_factor():
    assert rate_factors({"one": np.zeros(4, bool)}, 0.5) == {"one": 1.0}


def test_every_parameter_is_in_one_group_of_its_factor():
    network = PromptIR(tiny().network)
    factors = rate_factors(thinned(0.25), 0.5)
    groups = grouped(network.named_parameters(), 0.01, factors)
    assert [group["factor"] for group in groups] == [1.0, 2.0]
    assert [group["lr"] for group in groups] == [0.01, 0.02]
    assert [p.shape for p in groups[1]["params"]] == [network.get_parameter(LATENT).shape]
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_thinned_tensor_moves_by_its_factor_and_no_other_does(optimizer: str):
    def moved(exponent: float) -> dict[str, torch.Tensor]:
        recipe: Recipe = replace(
            tiny(), prune=replace(tiny().prune, rate_exponent=exponent),
            train=replace(tiny().train, optimizer=optimizer, weight_decay=0.0),
        )  # fmt: skip
        network = PromptIR(recipe.network)
        initialise(network, torch.Generator().manual_seed(0))
        before = {name: p.detach().clone() for name, p in network.named_parameters()}
        optimiser = make_optimizer(network, recipe, thinned(0.25))
        generator = torch.Generator().manual_seed(1)
        for p in network.parameters():
            p.grad = torch.randn(p.shape, generator=generator)
        optimiser.step()
        return {name: p.detach() - before[name] for name, p in network.named_parameters()}

    plain, scaled = moved(0.0), moved(0.5)
    assert plain[LATENT].abs().max() > 0
    torch.testing.assert_close(scaled[LATENT], 2 * plain[LATENT], rtol=1e-3, atol=1e-6)
    assert all(torch.equal(plain[name], scaled[name]) for name in plain if name != LATENT)
