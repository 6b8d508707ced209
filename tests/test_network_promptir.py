import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import MINI, make_ticket, mini_weights
from mirl.errors import MirlError
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameter_count, parameters
from mirl.network.promptir import PromptIR, initialise, network_of
from mirl.recipe import NetworkConfig, paper, small, tiny

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))
from train import PlainPromptIR


def make(config: NetworkConfig = MINI, seed: int = 0) -> PromptIR:
    network = PromptIR(config)
    initialise(network, torch.Generator().manual_seed(seed))
    return network


def test_paper_has_the_published_count_less_the_unused_layers():
    assert parameter_count(paper().network) == 35_592_263 - 215_296 == 35_376_967


def test_paper_has_the_published_cost():
    per_pixel = macs_per_pixel(paper().network) + attention_macs_per_pixel(paper().network)
    assert per_pixel * 256 * 256 / 1e9 == pytest.approx(172.7, abs=0.05)


@pytest.mark.parametrize("config", [MINI, tiny().network, small().network, paper().network])
def test_the_list_of_layers_is_the_network(config: NetworkConfig):
    with torch.device("meta"):
        network = PromptIR(config)
    assert {n: tuple(p.shape) for n, p in network.named_parameters()} == {p.name: p.shape for p in parameters(config)}


def test_every_parameter_gets_a_gradient():
    network = make(tiny().network)
    network(torch.rand(2, 3, 24, 40)).square().mean().backward()
    idle = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert idle == []


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40))
def test_any_size_comes_out_at_the_same_size_and_finite(h: int, w: int):
    with torch.no_grad():
        out = make()(torch.rand(1, 3, h, w))
    assert out.shape == (1, 3, h, w)
    assert bool(out.isfinite().all())


def test_padding_is_a_reflection_of_the_image():
    network, image = make(), torch.rand(1, 3, 11, 14)
    rows = [*range(11), 9, 8, 7, 6, 5]
    columns = [*range(14), 12, 11]
    with torch.no_grad():
        padded = network(image[:, :, rows][:, :, :, columns])[:, :, :11, :14]
        assert torch.equal(network(image), padded)


@pytest.mark.parametrize("config", [MINI, replace(MINI, width=6, heads=(1, 1, 2, 2), prompts=3, expansion=2.66)])
@pytest.mark.parametrize("size", [(16, 24), (64, 64)])
def test_the_fast_formulation_equals_the_plain_one(config: NetworkConfig, size: tuple[int, int]):
    network, image = make(config), torch.rand(2, 3, *size)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "norm" in name or "temperature" in name:
                value.add_(torch.randn_like(value) * 0.2)
        assert float((network(image) - PlainPromptIR(network)(image)).abs().max()) < 2e-5


def test_bf16_stays_near_fp32():
    network, image = make(tiny().network), torch.rand(1, 3, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(image).float()
    with torch.no_grad():
        assert float((half - network(image)).abs().max()) < 0.05


def test_initial_values_depend_on_the_seed_alone():
    torch.rand(3)
    first, again, other = mini_weights(1), mini_weights(1), mini_weights(2)
    assert all(np.array_equal(first[n], again[n]) for n in first)
    assert any(not np.array_equal(first[n], other[n]) for n in first)


def test_initial_values_have_the_documented_ranges():
    weights = mini_weights(network=tiny().network)
    assert weights["prompt1.values"].min() >= 0
    assert 0.95 < weights["prompt1.values"].max() <= 1
    assert np.all(weights["latent.0.attention.temperature"] == 1)
    assert np.all(weights["latent.0.norm1.weight"] == 1)
    assert np.all(weights["latent.0.norm1.bias"] == 0)
    qkv = weights["latent.0.attention.qkv.weight"]
    assert np.abs(qkv).max() <= 1 / np.sqrt(qkv.shape[1])
    assert np.abs(qkv).max() > 0.95 / np.sqrt(qkv.shape[1])


def test_the_network_of_a_ticket_holds_the_tickets_weights():
    ticket = make_ticket()
    network = network_of(ticket)
    assert not network.training
    assert all(np.array_equal(p.detach().numpy(), ticket.weights[n]) for n, p in network.named_parameters())


@pytest.mark.parametrize("wrong", [{"width": 5}, {"heads": (3, 1, 1, 1)}, {"width": 0}, {"prompt_widths": (3, 3, 3)}])
def test_a_shape_that_cannot_be_built_is_refused(wrong: dict):
    with pytest.raises(MirlError, match=r"even|heads|between"):
        replace(MINI, **wrong)
