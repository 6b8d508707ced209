"""Muon: the orthogonalised step, against torch's own, and which weights take it."""

import copy

import pytest
import torch
from torch import nn

from mirl.lottery.muon import Muon, mixes_channels, orthogonalise
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import tiny


class Matrix(nn.Module):
    """One layer as torch's Muon takes it, one as only ours does."""

    def __init__(self, rows: int, columns: int):
        super().__init__()
        self.inside = nn.Linear(columns, rows, bias=False)
        self.scale = nn.Parameter(torch.ones(columns))


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 16, 40), (3, 40, 16), (2, 1, 30)])
def test_singular_values_come_near_one(shape: tuple[int, ...]):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 100
    before, after = torch.linalg.svd(matrices, full_matrices=False), orthogonalise(matrices)
    values = torch.linalg.svdvals(after)
    assert after.shape == matrices.shape
    assert values.max() < 1.3
    assert values.median() > 0.6
    along = torch.einsum("nrk,nrc,nkc->nk", before.U, after, before.Vh)
    assert torch.allclose(along.sort(dim=-1).values, values.sort(dim=-1).values, atol=1e-3)  # the directions stay


def test_a_matrix_of_zeros_stays_zero():
    assert torch.equal(orthogonalise(torch.zeros(2, 4, 6)), torch.zeros(2, 4, 6))


@pytest.mark.parametrize("shape", [(24, 40), (40, 24)])
def test_steps_are_those_of_torch(shape: tuple[int, int]):
    torch.manual_seed(3)
    ours, theirs = Matrix(*shape), None
    theirs = copy.deepcopy(ours)
    mine = Muon(ours, lr=0.02, weight_decay=0.1)
    muon = torch.optim.Muon([theirs.inside.weight], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW([theirs.scale], lr=0.02, weight_decay=0.1)
    began = ours.inside.weight.detach().clone()
    for _ in range(4):
        gradient, other = torch.randn(shape), torch.randn(shape[1])
        for network in (ours, theirs):
            network.inside.weight.grad, network.scale.grad = gradient.clone(), other.clone()
        for optimizer in (mine, muon, adamw):
            optimizer.step()
    moved = (ours.inside.weight - began).norm()
    assert (ours.inside.weight - theirs.inside.weight).norm() < 0.02 * moved  # torch's iterates in bfloat16
    assert torch.allclose(ours.scale, theirs.scale, atol=1e-7)
    assert torch.equal(ours.inside.weight.grad, gradient)  # the caller's gradients are left alone


def test_a_convolution_steps_as_the_matrix_it_is():
    torch.manual_seed(4)
    one, other = Matrix(8, 54), Matrix(8, 54)
    one.inside.weight = nn.Parameter(other.inside.weight.detach().reshape(8, 6, 3, 3).clone())
    one.inside.weight.grad = torch.randn(8, 6, 3, 3)
    other.inside.weight.grad = one.inside.weight.grad.reshape(8, 54)
    for module in (one, other):
        assert mixes_channels("inside.weight", module.inside.weight)
        Muon(module, lr=0.1, weight_decay=0.0).step()
    assert torch.equal(one.inside.weight.reshape(8, 54), other.inside.weight)


def test_which_weights_are_matrices():
    network = PromptIR(tiny().network)
    taken = {name for name, parameter in network.named_parameters() if mixes_channels(name, parameter)}
    assert {"latent.0.attention.qkv.weight", "down1.weight", "prompt1.conv.weight", "fuse3.weight"} <= taken
    left = {name for name, _ in network.named_parameters()} - taken
    for word in ("embed.", "output.", "temperature", "norm1", "depthwise", ".values", ".select."):
        assert any(word in name for name in left), word
        assert not any(word in name for name in taken), word


def test_a_masked_gradient_keeps_the_momentum_exactly_zero_there():
    network = PromptIR(tiny().network)
    initialise(network, torch.Generator().manual_seed(0))
    optimizer = Muon(network, lr=0.01, weight_decay=0.01)
    weight = network.get_parameter("latent.0.attention.qkv.weight")
    mask = (torch.rand(weight.shape, generator=torch.Generator().manual_seed(0)) < 0.1).float()
    for _ in range(2):
        for parameter in network.parameters():
            parameter.grad = torch.randn_like(parameter)
        weight.grad.mul_(mask)
        optimizer.step()
    assert torch.equal(optimizer.state[weight]["exp_avg"] * (1 - mask), torch.zeros_like(weight))
    assert set(optimizer.state[weight]) == {"step", "exp_avg", "exp_avg_sq"}  # what a checkpoint holds
