"""What the tests of the backends share: the backends, torch as the reference, networks and tickets to compare on."""

import os
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray

from conftest import make_ticket
from mirl.engine.engine import BACKENDS, Backend, open_backend
from mirl.layers import parameters
from mirl.network import promptir
from mirl.network.promptir import conv3x3 as promptir_conv3x3
from mirl.network.promptir import network_of
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

Pixels = NDArray[np.float32]
EXAMPLES = int(os.environ.get("MIRL_TEST_EXAMPLES", "25"))  # fewer under the sanitizers, which are slow
TOLERANCE = {"native": 2e-5, "onnx": 1e-4, "torch": 1e-4}  # of the largest value, at least of 1


def _missing(name: str) -> str | None:
    """Say what the backend `name` lacks here."""
    modules = {"native": ("mirl.engine._native",), "onnx": (BACKENDS["onnx"].module, "onnxruntime"), "torch": ()}[name]
    absent = [module for module in modules if find_spec(module) is None]
    return f"{' and '.join(absent)} not installed" if absent else None


@cache
def native_variants() -> tuple[str, ...]:
    """Instruction sets of the native engine that this processor runs, as names for `opened`."""
    if _missing("native"):
        return ()
    from mirl.engine.sparse import variants

    return tuple(f"native-{variant}" for variant in variants())


natively = pytest.mark.parametrize(
    "kind", native_variants() or [pytest.param("native", marks=pytest.mark.skip("not built"))]
)
on_every_backend = pytest.mark.parametrize(
    "kind",
    [
        *native_variants(),
        *(
            pytest.param(name, marks=pytest.mark.skipif(bool(_missing(name)), reason=_missing(name) or ""))
            for name in ("onnx", "torch")
        ),
    ],
)


def opened(kind: str, ticket: Ticket, threads: int = 1) -> Backend:
    """Open the backend `kind` anew: onnx, torch, or native with an instruction set, such as native-avx2."""
    fresh = replace(ticket)  # backends are kept for each ticket
    name, _, variant = kind.partition("-")
    if not variant:
        return open_backend(fresh, name, threads)
    from mirl.engine.sparse import choose_variant, variants

    choose_variant(variant)
    try:
        return open_backend(fresh, name, threads)
    finally:
        choose_variant(variants()[0])


def conv3x3(x: torch.Tensor, weight: torch.Tensor, groups: int = 1) -> torch.Tensor:
    """Convolve as the network does; the depthwise ones as nine products, as torch takes ten times as long in float64."""
    if groups == 1 or x.dtype != torch.float64:
        return promptir_conv3x3(x, weight, groups)
    (height, width), padded = x.shape[1:3], torch.nn.functional.pad(x, (0, 0, 1, 1, 1, 1))
    total = torch.zeros_like(x)
    for row, column in product(range(3), range(3)):
        total.addcmul_(padded[:, row : row + height, column : column + width], weight[:, 0, row, column])
    return total


def reference(ticket: Ticket, pixels: Pixels, precision: torch.dtype = torch.float64) -> Pixels:
    """What the network of the ticket gives in torch, with every weight and nothing compacted."""
    with torch.inference_mode(), patch.object(promptir, "conv3x3", conv3x3):
        image = torch.from_numpy(pixels.copy()).permute(2, 0, 1).unsqueeze(0)
        return network_of(ticket).to(precision)(image.to(precision))[0].permute(1, 2, 0).float().contiguous().numpy()


def assert_agrees(backend: Backend, pixels: Pixels, expected: Pixels, rounding: float = 0.0) -> None:
    """Check shape, type and values of a forward, and that the input is left as it was.

    `rounding` is what float32 costs torch: no backend can do much better where the network itself magnifies errors, such
    as a LayerNorm over two channels that are nearly equal.
    """
    before = pixels.copy()
    restored = backend.forward(pixels)
    assert (restored.shape, restored.dtype) == (pixels.shape, np.float32)
    np.testing.assert_array_equal(pixels, before)
    tolerance = TOLERANCE[backend.name] * max(1, np.abs(expected).max())
    np.testing.assert_allclose(restored, expected, rtol=0, atol=max(tolerance, 10 * rounding))


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    """Return an image of evenly distributed pixels."""
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def loud(ticket: Ticket) -> Ticket:
    """Return the ticket with weights so large that every layer shows in the output: features keep their size on the way."""
    weights = {name: weight.copy() for name, weight in ticket.weights.items()}
    for p in parameters(ticket.network):
        if p.kind in ("conv", "pointwise", "depthwise"):
            gain = np.sqrt(np.square(weights[p.name]).sum() / p.shape[0])
            weights[p.name] /= gain or 1
        elif p.kind == "temperature":
            weights[p.name] *= 2  # attention far from even
    return replace(ticket, weights=weights)


def emptied(ticket: Ticket, places: dict[str, Any]) -> Ticket:
    """Return the ticket without masks, zero at an index of every tensor whose name ends so: {"norm1.weight": np.s_[::2]}."""
    weights = {name: weight.copy() for name, weight in ticket.weights.items()}
    for end, index in places.items():
        names = [name for name in weights if name.endswith(end)]
        assert names, end
        for name in names:
            weights[name][index] = 0
    return replace(ticket, weights=weights, masks={})


@st.composite
def networks(draw: st.DrawFn) -> NetworkConfig:
    """Draw small networks of all kinds: widths, heads, blocks, prompts, expansions."""
    width = draw(st.sampled_from((2, 4, 6, 8, 10, 12, 18)))
    divisors = {n: [d for d in range(1, 9) if (n * width) % d == 0] for n in (1, 2, 4, 8)}
    heads = tuple(draw(st.sampled_from(divisors[n])) for n in (1, 2, 2, 8))
    one = st.integers(1, 2)
    return NetworkConfig(
        width=width,
        blocks=draw(st.tuples(one, one, one, one)),
        refinement_blocks=draw(st.integers(1, 3)),
        heads=heads,
        expansion=draw(st.sampled_from((0.5, 1.0, 2.0, 2.66, 3.3))),
        prompts=draw(st.integers(1, 6)),
        prompt_widths=tuple(heads[2] * draw(st.integers(1, 4)) for _ in range(3)),
        prompt_sizes=draw(st.tuples(*[st.integers(1, 9)] * 3)),
    )


@dataclass(frozen=True)
class Draft:
    """A random ticket in a few words: density, and the share of channels and tensors that die."""

    network: NetworkConfig
    keep: float
    dead: float
    seed: int

    def ticket(self) -> Ticket:
        """Make it: emptied layers, dead channels, zero gains."""
        ticket, rng = make_ticket(self.network, self.keep, self.seed), np.random.default_rng(self.seed)
        weights = {name: weight.copy() for name, weight in ticket.weights.items()}
        for name, weight in weights.items():
            if ".norm" in name or "attention" in name or "feed_forward" in name:
                weight[rng.random(len(weight)) < self.dead] = 0
            if weight.ndim == 2:
                weight[:, rng.random(weight.shape[1]) < self.dead] = 0
            if rng.random() < self.dead / 10:
                weight[...] = 0
        return loud(replace(ticket, weights=weights, masks={}))


drafts = st.builds(
    Draft,
    networks(),
    st.sampled_from((0.0, 0.02, 0.1, 0.25, 0.5, 0.8, 1.0)),
    st.sampled_from((0.0, 0.3, 0.9)),
    st.integers(0, 1000),
)
