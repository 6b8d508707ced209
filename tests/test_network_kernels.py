"""The training kernels against PyTorch: blocks and convolutions of odd shapes, the whole network, searches."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mirl.errors import MirlError
from mirl.lottery.run import RunFolder
from mirl.lottery.search import search
from mirl.lottery.verify import verify
from mirl.network import kernels as module
from mirl.network.kernels import BFLOAT16, Kernels, find_kernels, variants
from mirl.network.promptir import Block, Conv3x3, PromptIR, initialise, use_kernels
from mirl.recipe import Recipe, small, tiny

CPU = torch.device("cpu")
TOLERANCE = {name: 3e-2 if name == BFLOAT16 else 1e-5 for name in ("avx512", "avx2", "baseline", BFLOAT16)}
"""Largest distance from float64, relative to the length of a tensor; a bfloat16 has 8 binary digits."""


@pytest.fixture(params=variants() or ["none"])
def kernels(request: pytest.FixtureRequest) -> Kernels:
    assert request.param != "none", "the kernels are not compiled"
    return Kernels(request.param)


@pytest.fixture(autouse=True)
def _memory_of_no_numbers() -> object:
    """Fresh memory holds NaN: what reads a value that nobody wrote shows."""
    module._local.__dict__.clear()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)
    module._local.__dict__.clear()


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.detach().double() - expected.detach()).norm() / expected.detach().norm().clamp_min(1e-12))


def flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([tensor.flatten() for tensor in tensors])


def drawn(layer: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(3)
    for name, parameter in layer.named_parameters():
        low, high = (0.5, 3.0) if "temperature" in name else (-0.3, 0.3)
        nn.init.uniform_(parameter, low, high, generator=generator)
    return layer


SHAPES = (
    # images, height, width, channels, heads, expansion
    (2, 8, 8, 24, 1, 2.0),
    (1, 6, 10, 48, 2, 2.0),
    (2, 13, 5, 40, 2, 2.66),  # strips that do not divide the height, widths that are no multiples of 16
    (1, 3, 70, 112, 4, 2.0),
    (2, 8, 8, 96, 4, 2.0),
    (1, 2, 130, 8, 1, 1.0),
    (1, 9, 1, 16, 2, 2.0),
    (1, 1, 2, 14, 7, 2.0),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_block_and_its_gradients_are_those_of_float64(
    kernels: Kernels, shape: tuple[int, int, int, int, int, float]
) -> None:
    images, height, width, channels, heads, expansion = shape
    block, reference = (drawn(Block(channels, heads, expansion)) for _ in range(2))
    reference.double()
    use_kernels(block, kernels)
    generator = torch.Generator().manual_seed(1)
    x, gradient = (torch.randn(images, height, width, channels, generator=generator) for _ in range(2))
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = block(mine), reference(theirs)
    y.backward(gradient)
    expected.backward(gradient.double())
    limit = TOLERANCE[kernels.variant] * (3 if height * width < 4 else 1)  # few pixels: no errors that cancel
    assert distance(y - x, expected - theirs) < limit
    assert distance(mine.grad, theirs.grad) < limit
    pairs = {n: (p.grad, q.grad) for (n, p), q in zip(block.named_parameters(), reference.parameters(), strict=True)}
    if kernels.variant == BFLOAT16:  # sums whose terms cancel, such as a temperature's, lose digits: all of them together
        assert distance(flat(found for found, _ in pairs.values()), flat(wanted for _, wanted in pairs.values())) < limit
    else:
        assert {name: d for name, (found, wanted) in pairs.items() if (d := distance(found, wanted)) >= limit} == {}


@pytest.mark.parametrize(
    ("images", "height", "width", "inputs", "outputs"),
    [(2, 8, 8, 24, 12), (1, 5, 70, 3, 24), (1, 20, 20, 48, 3), (2, 5, 3, 96, 48), (1, 1, 1, 5, 7)],
)
def test_a_convolution_and_its_gradients_are_those_of_float64(
    kernels: Kernels, images: int, height: int, width: int, inputs: int, outputs: int
) -> None:
    layer, reference = (drawn(Conv3x3(inputs, outputs)) for _ in range(2))
    reference.double()
    use_kernels(layer, kernels)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(images, height, width, inputs, generator=generator)
    gradient = torch.randn(images, outputs, height, width, generator=generator).permute(0, 2, 3, 1)  # not contiguous
    mine, theirs = x.clone().requires_grad_(), x.double().requires_grad_()
    y, expected = layer(mine), reference(theirs)
    y.backward(gradient)
    expected.backward(gradient.double())
    for found, wanted in ((y, expected), (mine.grad, theirs.grad), (layer.weight.grad, reference.weight.grad)):
        assert distance(found, wanted) < TOLERANCE[kernels.variant]
    layer.zero_grad()
    layer(x).backward(gradient)  # an image wants no gradient
    assert distance(layer.weight.grad, reference.weight.grad) < TOLERANCE[kernels.variant]


def test_dead_units_are_passed_over_and_nothing_changes(kernels: Kernels) -> None:
    """The output and every gradient of a surviving weight are those of the whole layer; no unit is left out that matters."""
    block = drawn(Block(16, 1, 2.0))
    generator = torch.Generator().manual_seed(5)
    masks = {
        f"feed_forward.{leaf}.weight": torch.rand(weight.shape, generator=generator) < share
        for leaf, weight, share in (
            ("expand", block.feed_forward.expand.weight, 0.1),
            ("depthwise", block.feed_forward.depthwise.weight, 0.2),
            ("project", block.feed_forward.project.weight, 0.1),
        )
    }
    parameters = dict(block.named_parameters())
    with torch.no_grad():
        for name, mask in masks.items():
            parameters[name].mul_(mask)
    x = torch.randn(1, 9, 11, 16, generator=generator)
    found = []
    for given in ({}, {f"part.{name}": mask for name, mask in masks.items()}):
        use_kernels(nn.ModuleDict({"part": block}), kernels, given)
        block.zero_grad()
        y = block(x)
        y.square().sum().backward()
        found.append((y.detach(), {n: p.grad * masks.get(n, True) for n, p in parameters.items()}))
    assert block.units is not None
    assert 0 < len(block.units) < 28
    (y, grads), (compact, others) = found
    assert distance(compact, y.double()) < TOLERANCE[kernels.variant]
    for name, grad in grads.items():
        assert distance(others[name], grad.double()) < TOLERANCE[kernels.variant], name
    needed = (others["feed_forward.project.weight"] != 0).any(0)
    assert set(needed.nonzero()[:, 0].tolist()) <= set(block.units.tolist())


def gradients(network: PromptIR, image: Tensor, bfloat16: bool) -> dict[str, Tensor]:
    network.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        restored = network(image)
    (restored.float() - image).abs().mean().backward()
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def test_a_step_of_the_network_agrees_with_pytorch(kernels: Kernels) -> None:
    network = PromptIR(replace(small().network, width=16, blocks=(1, 1, 1, 1)))
    initialise(network, torch.Generator().manual_seed(0))
    image = torch.rand(2, 3, 24, 40, generator=torch.Generator().manual_seed(1))
    low = kernels.variant == BFLOAT16
    torch_gradients = gradients(network, image, False)
    rough = gradients(network, image, True)
    use_kernels(network, kernels)
    mine = gradients(network, image, low)
    assert mine.keys() == torch_gradients.keys() == dict(network.named_parameters()).keys()
    total = flat(torch_gradients.values()).double()
    error = distance(flat(mine.values()), total)
    if not low:
        assert error < 1e-4
        assert all(distance(mine[name], g.double()) < 1e-4 for name, g in torch_gradients.items())
    else:  # not worse than autocast, whose features are bfloat16 as well
        assert error < distance(flat(rough.values()), total)


@pytest.fixture
def short() -> Recipe:
    recipe = tiny()
    train = replace(recipe.train, steps=4, warmup_steps=1, batch=4, patch=32, log_every=1, validate_every=0)
    return replace(recipe, train=train, prune=replace(recipe.prune, keep=0.2))


def said(run: Path) -> dict[str, str]:
    return json.loads(RunFolder(run).level(0).kernels.read_text())


def test_a_search_with_our_kernels_is_verified_and_repeats_byte_by_byte(tmp_path: Path, short: Recipe) -> None:
    compiled = replace(short, train=replace(short.train, compile=True))
    with pytest.raises(MirlError, match="leave out one of the two"):
        search(compiled, tmp_path / "compiled", device="cpu", kernels="native")
    for name in ("first", "second"):
        assert search(short, tmp_path / name, device="cpu", kernels="native").finished
    assert verify(tmp_path / "first").ok
    first, second = (RunFolder(tmp_path / name) for name in ("first", "second"))
    assert first.ticket.read_bytes() == second.ticket.read_bytes()
    assert said(tmp_path / "first") == {"0": variants()[0]}


def test_a_run_may_go_on_with_other_kernels_and_says_from_which_update(
    tmp_path: Path, short: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def stop_at_third(*_: object) -> bool:
        asked.append(None)
        return len(asked) == 3

    with monkeypatch.context() as patch:
        patch.setattr("mirl.lottery.search.stop_switch", lambda _: __import__("contextlib").nullcontext(stop_at_third))
        assert search(short, tmp_path / "run", device="cpu", kernels="torch").step == 3
    assert search(short, tmp_path / "run", device="cpu", kernels="native").finished
    assert said(tmp_path / "run") == {"0": "torch", "3": variants()[0]}
    assert verify(tmp_path / "run").ok


def test_kernels_that_cannot_be_had_are_refused_by_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_kernels("torch", "32-true", CPU) is None
    assert find_kernels("auto", "32-true", CPU) == Kernels(variants()[0])
    with pytest.raises(MirlError, match="expected auto, native or torch"):
        find_kernels("ours", "32-true", CPU)  # type: ignore[arg-type]
    with pytest.raises(MirlError, match="run on a CPU, found the device cuda, or --kernels torch"):
        find_kernels("native", "32-true", torch.device("cuda"))
    monkeypatch.setattr(module, "variants", lambda: ["avx2", "baseline"])
    with pytest.raises(MirlError, match="multiplies no bfloat16 in hardware; use --precision 32-true"):
        find_kernels("native", "bf16-mixed", CPU)
    assert find_kernels("auto", "bf16-mixed", CPU) is None
    monkeypatch.setattr(module, "variants", lambda: [])
    with pytest.raises(MirlError, match="not compiled; install a C compiler"):
        find_kernels("native", "32-true", CPU)
    with pytest.raises(MirlError, match=r"x is torch\.float64, on cpu; expected contiguous float32"):
        module._Job("convolution", "baseline").give(x=torch.zeros(2, dtype=torch.float64))
