"""The contract of every backend: any size, any values, any ticket gives what torch gives with every weight.

The reference is `network.promptir` itself, never a backend; the native engine is tried with every instruction set that this
processor runs.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import MINI, make_ticket
from contract import (
    EXAMPLES,
    Draft,
    Pixels,
    assert_agrees,
    conv3x3,
    drafts,
    emptied,
    loud,
    native_variants,
    natively,
    noise,
    on_every_backend,
    opened,
    promptir_conv3x3,
    reference,
)
from mirl.engine.tiles import cut_tiles, map_tiles
from mirl.engine.torch import TorchBackend
from mirl.layers import hidden_width, parameters
from mirl.recipe import tiny
from mirl.ticket import Ticket

SIZES = ((1, 1), (1, 9), (9, 1), (7, 3), (8, 8), (17, 23), (2, 129), (130, 15), (33, 300), (64, 16))
PRUNABLE = [p.name for p in parameters(MINI) if p.prunable]


@cache
def ticket_of(keep: float, network: str = "mini") -> Ticket:
    return loud(make_ticket(MINI if network == "mini" else tiny().network, keep))


@cache
def expected_of(ticket: Ticket, height: int, width: int) -> Pixels:
    return reference(ticket, noise(height, width))


@pytest.mark.parametrize("size", SIZES)
def test_the_reference_convolves_as_torch_does(size):
    """Depthwise convolutions are the only part of the network that the reference writes itself."""
    (height, width), generator = size, torch.Generator().manual_seed(0)
    x = torch.randn((2, height, width, 6), generator=generator, dtype=torch.float64)
    weight = torch.randn((6, 1, 3, 3), generator=generator, dtype=torch.float64)
    torch.testing.assert_close(conv3x3(x, weight, groups=6), promptir_conv3x3(x, weight, groups=6), rtol=0, atol=1e-13)


@on_every_backend
def test_any_size_agrees(kind):
    ticket = ticket_of(0.5)
    backend = opened(kind, ticket)
    for size in SIZES:
        assert_agrees(backend, noise(*size), expected_of(ticket, *size))


@on_every_backend
def test_wide_images_agree(kind):
    """The native engine sweeps them in strips of columns that fit the cache."""
    ticket = ticket_of(0.5, "tiny")
    for size in ((2, 1400), (9, 2701), (21, 2080)):
        assert_agrees(opened(kind, ticket), noise(*size), expected_of(ticket, *size))


@cache
def photograph(height: int, width: int) -> tuple[Ticket, Pixels]:
    ticket = ticket_of(0.2, "tiny")
    return ticket, reference(ticket, noise(height, width))


@on_every_backend
def test_the_size_of_a_test_photograph_agrees(kind):
    ticket, expected = photograph(321, 481)
    assert_agrees(opened(kind, ticket), noise(321, 481), expected)


@natively
def test_nearly_a_megapixel_agrees_natively(kind):
    ticket, expected = photograph(767, 1023)
    assert_agrees(opened(kind, ticket, 2), noise(767, 1023), expected)


@on_every_backend
def test_extreme_values_agree(kind):
    ticket = ticket_of(0.5)
    backend, rng = opened(kind, ticket), np.random.default_rng(0)
    spot = np.zeros((19, 37, 3), np.float32)
    spot[9, 20] = 1
    ramp = np.linspace(0, 1, 19 * 37 * 3, dtype=np.float32).reshape(spot.shape)
    for image in (spot, ramp, spot * 1e4, ramp * 1e-30, -ramp, rng.standard_normal(spot.shape, np.float32) * 1e4):
        assert_agrees(backend, image, reference(ticket, image))
    for value in (0, 1, 0.5, 1e-30, 1e4):
        image = np.full((19, 37, 3), value, np.float32)
        assert_agrees(backend, image, reference(ticket, image))


@on_every_backend
@pytest.mark.parametrize("network", ["mini", "tiny"])
def test_any_density_agrees(kind, network):
    for keep in (1.0, 0.5, 0.25, 0.1, 0.02, 0.0):
        ticket = ticket_of(keep, network)
        assert_agrees(opened(kind, ticket), noise(19, 40), expected_of(ticket, 19, 40))


@on_every_backend
def test_an_unpruned_ticket_without_masks_agrees(kind):
    ticket = emptied(ticket_of(1.0), {})
    assert not ticket.masks
    assert_agrees(opened(kind, ticket), noise(19, 40), expected_of(ticket_of(1.0), 19, 40))


@cache
def without_layer(name: str) -> tuple[Ticket, Pixels]:
    ticket = emptied(ticket_of(0.7), {name: ...})
    return ticket, reference(ticket, noise(9, 20))


@on_every_backend
def test_every_layer_may_be_empty(kind):
    for name in PRUNABLE if kind.startswith("native") else PRUNABLE[::6]:
        ticket, expected = without_layer(name)
        assert_agrees(opened(kind, ticket), noise(9, 20), expected)


@on_every_backend
def test_a_network_of_zeros_is_the_identity(kind):
    ticket = emptied(ticket_of(1.0), {p.name: ... for p in parameters(MINI)})
    pixels = noise(17, 23)
    np.testing.assert_array_equal(opened(kind, ticket).forward(pixels), pixels)


C, HIDDEN = 32, hidden_width(32, MINI.expansion)  # the latent: four heads of eight channels
HEAD = np.r_[8:16]
QKV, FILTERS, PROJECT = "attention.qkv", "attention.qkv_depthwise", "attention.project"
EXPAND, DEPTHWISE, OUT = "feed_forward.expand", "feed_forward.depthwise", "feed_forward.project"
SOME = np.r_[0, 3, 9, 17:23]  # channels of several heads
DEAD = {
    "query row": {QKV: SOME},
    "query filter": {FILTERS: SOME},
    "key row": {QKV: C + SOME},
    "key filter": {FILTERS: C + SOME},
    "value row": {QKV: 2 * C + SOME},
    "value filter": {FILTERS: 2 * C + SOME},
    "unused output": {PROJECT: np.s_[:, SOME]},
    "queries of a head": {QKV: HEAD},
    "keys of a head": {FILTERS: C + HEAD},
    "values of a head": {QKV: 2 * C + HEAD},
    "outputs of a head": {PROJECT: np.s_[:, HEAD]},
    "all but one key": {QKV: C + np.r_[1:8]},
    "all queries": {QKV: np.s_[:C]},
    "all keys": {QKV: np.s_[C : 2 * C]},
    "all values": {FILTERS: np.s_[2 * C :]},
    "gate row": {EXPAND: SOME},
    "gate filter": {DEPTHWISE: SOME},
    "content row": {EXPAND: HIDDEN + SOME},
    "content filter": {DEPTHWISE: HIDDEN + SOME},
    "column of the projection": {OUT: np.s_[:, SOME]},
    "all of the feed-forward": {DEPTHWISE: np.s_[:HIDDEN]},
    "one tap left in each filter": {FILTERS: np.s_[:, :, :, 1:], DEPTHWISE: np.s_[:, :, 1:, :]},
}  # fmt: skip


@cache
def with_dead(case: str, keep: float) -> tuple[Ticket, Pixels]:
    ticket = emptied(ticket_of(keep), {f"latent.0.{layer}.weight": index for layer, index in DEAD[case].items()})
    return ticket, reference(ticket, noise(24, 88))


@on_every_backend
@pytest.mark.parametrize("case", DEAD)
def test_dead_channels_change_nothing(kind, case):
    for keep in (1.0, 0.4):
        ticket, expected = with_dead(case, keep)
        backend = opened(kind, ticket)
        assert_agrees(backend, noise(24, 88), expected)
        if backend.name == "native" and case != "one tap left in each filter":
            assert backend.facts.removed > 0


@on_every_backend
@pytest.mark.parametrize("index", [..., np.s_[::2]], ids=["all", "half"])
@pytest.mark.parametrize("parts", [("weight",), ("bias",), ("weight", "bias")], ids=" and ".join)
def test_zero_gains_and_shifts_agree(kind, index, parts):
    ticket = emptied(ticket_of(0.6), {f"norm{i}.{part}": index for i in (1, 2) for part in parts})
    assert_agrees(opened(kind, ticket), noise(11, 35), reference(ticket, noise(11, 35)))


@pytest.mark.skipif(not native_variants(), reason="the native engine is not built")
@settings(max_examples=EXAMPLES, deadline=None)
@given(drafts, st.integers(1, 40), st.integers(1, 150), st.integers(1, 3))
def test_any_network_agrees_natively(draft, height, width, threads):
    check_draft(native_variants(), draft, height, width, threads)


@on_every_backend
@settings(max_examples=min(EXAMPLES, 5), deadline=None)
@given(drafts, st.integers(1, 40), st.integers(1, 60))
def test_any_network_agrees(kind, draft, height, width):
    check_draft((kind,), draft, height, width, 1)


def check_draft(kinds: Sequence[str], draft: Draft, height: int, width: int, threads: int) -> None:
    ticket, pixels = draft.ticket(), noise(height, width, draft.seed)
    expected = reference(ticket, pixels)
    rounding = float(np.abs(reference(ticket, pixels, torch.float32) - expected).max())
    for kind in kinds:
        assert_agrees(opened(kind, ticket, threads), pixels, expected, rounding)


@on_every_backend
def test_statistics_of_the_image_itself_change_nothing(kind):
    backend, pixels = opened(kind, ticket_of(0.5)), noise(24, 35)
    alone = backend.forward(pixels)
    with backend.shared_statistics([pixels], lambda done: None):
        np.testing.assert_allclose(backend.forward(pixels), alone, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(backend.forward(pixels), alone)  # outside of the context nothing stays


@on_every_backend
def test_tiles_that_share_statistics_agree_with_the_dense_ones(kind):
    ticket = ticket_of(0.5)
    pixels = noise(50, 90) * np.linspace(0, 1, 90, dtype=np.float32)[:, None]
    results, told = [], []
    for backend in (opened(kind, ticket), TorchBackend(ticket, 1)):
        told.clear()
        with backend.shared_statistics(cut_tiles(pixels, (32, 41), 9), told.append):
            results.append(map_tiles(backend.forward, pixels, (32, 41), 9))
        assert told == list(range(1, len(told) + 1))
        assert len(told) == 6
    apart = map_tiles(TorchBackend(ticket, 1).forward, pixels, (32, 41), 9)
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4)
    assert np.abs(results[0] - apart).max() > 0.1  # sharing makes a difference
