"""Muon, the optimizer of matrices, for the weights that mix channels; AdamW for all other parameters.

Muon (K. Jordan, "Muon: an optimizer for hidden layers in neural networks", 2024) steps along the orthogonalised momentum, so
that all directions of a matrix learn equally fast. Its step is scaled to the size of AdamW's (Liu et al. 2025,
arXiv 2502.16982, equation 4), so both share one learning rate. `torch.optim.Muon` takes matrices alone, one at a time; here
convolutions are matrices too (outputs x inputs * 9), and those of one shape are orthogonalised together.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from mirl.lottery.rates import grouped

MOMENTUM = 0.95
ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from Jordan 2024
LARGE = 96  # rows from which bfloat16 pays: smaller products are over before their operands are converted
ADAM_RMS = 0.2  # what AdamW's steps measure, from Liu et al. 2025


def orthogonalise(matrices: Tensor, products: torch.dtype = torch.float32) -> Tensor:
    """Bring the singular values of each matrix, float32 (n, rows, columns), near 1 by Newton-Schulz iterations.

    `products` is the type in which matrices of at least LARGE rows and columns are multiplied; bfloat16 is Jordan's choice.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-7)
    if x.shape[-2] >= LARGE:
        x = x.to(products)
    for _ in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    x = x.to(matrices.dtype)
    return x.mT if tall else x


def mixes_channels(name: str, parameter: Tensor) -> bool:
    """Whether Muon takes it: the 1x1 and 3x3 convolutions from features to features, no depthwise filter, no table."""
    ends = name.startswith(("embed.", "output.")) or ".select." in name
    return name.endswith(".weight") and not ends and parameter.ndim in (2, 4) and parameter.shape[1] > 1


class Muon(torch.optim.AdamW):
    """Muon for what `mixes_channels`, AdamW for the rest; state keys as AdamW's, `exp_avg` being Muon's momentum.

    Muon multiplies its larger matrices in `products` (see `orthogonalise`). `factors` are those of
    `mirl.lottery.rates`: each group's "factor", which whoever sets "lr" multiplies in.
    """

    def __init__(
        self, network: nn.Module, lr: float, weight_decay: float, factors: Mapping[str, float] | None = None, *,
        products: torch.dtype = torch.float32,
    ):  # fmt: skip
        self.products = products
        groups: list[dict[str, Any]] = []
        for matrices in (True, False):
            named = [(n, p) for n, p in network.named_parameters() if mixes_channels(n, p) == matrices]
            groups += [group | {"matrices": matrices} for group in grouped(named, lr, factors)]
        super().__init__(groups, lr=lr, weight_decay=weight_decay, foreach=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Do one update of all parameters that have a gradient."""
        loss = None if closure is None else torch.enable_grad()(closure)()
        live = [(p, g) for g in self.param_groups if g["matrices"] for p in g["params"] if p.grad is not None]
        for same in _by_shape(live).values():
            parameters, groups = [p for p, _ in same], [group for _, group in same]
            gradients = [cast(Tensor, p.grad) for p in parameters]
            averages = [self._momentum(p) for p in parameters]
            torch._foreach_lerp_(averages, gradients, 1 - MOMENTUM)
            ahead = torch._foreach_lerp(gradients, averages, MOMENTUM)  # Nesterov's
            steps = orthogonalise(torch.stack([value.flatten(1) for value in ahead]), self.products)
            size = ADAM_RMS * max(steps.shape[1:]) ** 0.5
            moves = [s.view_as(p) for s, p in zip(steps, parameters, strict=True)]
            torch._foreach_mul_(parameters, [1 - group["lr"] * group["weight_decay"] for group in groups])
            torch._foreach_add_(parameters, torch._foreach_mul(moves, [-group["lr"] * size for group in groups]))
        held = [p.grad for p, _ in live]
        for parameter, _ in live:
            parameter.grad = None  # done: AdamW passes over what has no gradient
        super().step()
        for (parameter, _), gradient in zip(live, held, strict=True):
            parameter.grad = gradient
        return loss

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        return state["exp_avg"]


def _by_shape(live: Iterable[tuple[Tensor, dict[str, Any]]]) -> dict[tuple[int, ...], list[tuple[Tensor, dict[str, Any]]]]:
    groups: dict[tuple[int, ...], list[tuple[Tensor, dict[str, Any]]]] = {}
    for parameter, group in live:
        groups.setdefault(tuple(parameter.shape), []).append((parameter, group))
    return groups
