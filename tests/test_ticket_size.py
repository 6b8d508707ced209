"""How few bytes a ticket takes, and that storing it in float16 costs no quality."""

import numpy as np
import pytest

from conftest import mini_weights
from mirl.data.bundled import held_out_photos
from mirl.degrade.noise import add_gaussian_noise
from mirl.engine.engine import open_backend, restore_pixels
from mirl.evaluate.metrics import psnr
from mirl.image import read_pixels
from mirl.layers import parameter_count, parameters
from mirl.lottery.prune import dense_masks, initial_scales, plan_levels, scores, shrink_masks
from mirl.recipe import NetworkConfig, Recipe, paper, small, tiny
from mirl.ticket import Ticket, encode_ticket, read_ticket


def incompressible_ticket(network: NetworkConfig, density: float) -> Ticket:
    """Normal weights under a mask drawn evenly from everywhere: no other ticket of this density deflates worse."""
    rng, weights, masks = np.random.default_rng(0), {}, {}
    total = parameter_count(network)
    prunable = sum(p.size for p in parameters(network) if p.prunable)
    keep = (density * total - (total - prunable)) / prunable
    for p in parameters(network):
        weights[p.name] = rng.standard_normal(p.shape, np.float32) * np.float32(0.05)
        if p.prunable:
            masks[p.name] = rng.random(p.shape, np.float32) < keep
            weights[p.name] *= masks[p.name]
    return Ticket(network, weights, masks)


@pytest.mark.parametrize("recipe", [small(), paper()], ids=lambda recipe: recipe.name)
def test_a_tenth_of_all_parameters_takes_at_most_eight_percent_of_the_dense_bytes(recipe: Recipe):
    ticket = incompressible_ticket(recipe.network, 0.1)
    assert ticket.density == pytest.approx(0.1, abs=1e-3)
    assert len(encode_ticket(ticket)) <= 0.08 * 4 * ticket.total


@pytest.mark.parametrize("gain", [3, 30])
def test_float16_costs_less_than_a_hundredth_of_a_decibel(gain: int):
    """`gain` multiplies what the network adds to the photo: untrained it adds little."""
    network, prune = tiny().network, tiny().prune
    weights = mini_weights(network=network)
    ranking = scores(weights, initial_scales(weights, network, prune), network, prune)
    masks = shrink_masks(dense_masks(network, prune), ranking, plan_levels(network, prune)[-1], prune)
    weights = {name: weight * masks[name] if name in masks else weight for name, weight in weights.items()}
    weights["output.weight"] *= gain
    ticket = Ticket(network, weights, masks)
    clean = read_pixels(held_out_photos()[0])[:256, :256]
    noisy = add_gaussian_noise(clean, np.random.default_rng(0), 25.0)
    full, half = (
        psnr(restore_pixels(open_backend(read_ticket(encode_ticket(ticket, values)), "auto", 1), noisy), clean)
        for values in ("float32", "float16")
    )
    assert abs(full - psnr(noisy, clean)) > 0.1  # the network does something
    assert full != half
    assert abs(full - half) < 0.01
