"""What a training carries from update to update: weights, optimizer, moving average, masks; and its checkpoint file."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from mirl.errors import MirlError
from mirl.lottery.prune import Masks
from mirl.lottery.run import Arrays, hash_state, load_arrays, save_arrays
from mirl.network.promptir import PromptIR
from mirl.recipe import TrainConfig


class TrainState:
    """Everything that a checkpoint must hold, and the two masked operations."""

    def __init__(self, network: PromptIR, optimizer: torch.optim.Optimizer, masks: dict[str, Tensor],
                 config: TrainConfig, tasks: int, step: int):  # fmt: skip
        self.network, self.optimizer, self.config = network, optimizer, config
        self.parameters = dict(network.named_parameters())
        self.masked: list[Tensor] = [self.parameters[name] for name in masks]
        self.masks: list[Tensor] = [mask.to(torch.float32) for mask in masks.values()]
        self.first_step = self.step = step
        self.sums = np.zeros((tasks, 2))  # loss and samples per task since the last line of the log
        self.latest: dict[str, float] = {}
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if config.ema_decay else {}

    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights before the norm is taken: dead weights must not change the step."""
        if self.masks:
            torch._foreach_mul_([cast(Tensor, p.grad) for p in self.masked], self.masks)

    def after_step(self) -> None:
        """Zero the pruned weights, move the average, count the step."""
        with torch.no_grad():
            if self.masks:
                torch._foreach_mul_(self.masked, self.masks)
            self.step += 1
            if self.average:
                seen = self.step - self.first_step
                decay = min(self.config.ema_decay, (1 + seen) / (10 + seen))
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def averaged(self) -> dict[str, Tensor] | None:
        """The moving average of the weights, or None when the recipe has none."""
        return self.average or None

    def final(self) -> Arrays:
        """The weights the training is judged by."""
        source: Mapping[str, Tensor] = self.average or self.parameters
        return {name: value.detach().cpu().numpy().copy() for name, value in source.items()}

    def save(self, path: Path) -> None:
        """Write the checkpoint, with the hash of each of its tensors."""
        arrays: Arrays = {"step": np.array([self.step]), "sums": self.sums}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            arrays[f"weight/{name}"] = parameter.detach().cpu().numpy()
            for key in ("exp_avg", "exp_avg_sq", "step"):
                arrays[f"{key}/{name}"] = np.atleast_1d(moments[key].cpu().numpy())
            if self.average:
                arrays[f"average/{name}"] = self.average[name].cpu().numpy()
        save_arrays(path, arrays, {"hashes": json.dumps(hash_state(arrays))})

    def restore(self, path: Path) -> None:
        """Take back what `save` wrote. Raises MirlError when it was altered or is of another network."""
        arrays, metadata = load_arrays(path)
        if json.loads(metadata.get("hashes", "{}")) != hash_state(arrays):
            raise MirlError(f"{path} was altered since it was written; delete it to train the level anew")
        try:
            self.step, self.sums = int(arrays["step"][0]), arrays["sums"].copy()
            with torch.no_grad():
                for name, parameter in self.parameters.items():
                    parameter.copy_(torch.from_numpy(arrays[f"weight/{name}"]))
                    self.optimizer.state[parameter] = {
                        "step": torch.tensor(float(arrays[f"step/{name}"][0])),
                        "exp_avg": torch.from_numpy(arrays[f"exp_avg/{name}"]).to(parameter.device),
                        "exp_avg_sq": torch.from_numpy(arrays[f"exp_avg_sq/{name}"]).to(parameter.device),
                    }
                    if self.average:
                        self.average[name].copy_(torch.from_numpy(arrays[f"average/{name}"]))
        except (KeyError, RuntimeError) as error:
            raise MirlError(f"{path} does not fit the network: {error}; delete it to train the level anew") from error


def rewind(network: PromptIR, start: Arrays, masks: Mapping[str, Tensor]) -> None:
    """Put every tensor back to its value at the rewind point, then take out what is pruned."""
    network.load_state_dict({name: torch.from_numpy(value) for name, value in start.items()})
    with torch.no_grad():
        for name, mask in masks.items():
            network.get_parameter(name).masked_fill_(~mask, 0.0)


def arrays_of(network: nn.Module) -> Arrays:
    """Copy every parameter to numpy, by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in network.named_parameters()}


def require_exact_zeros(weights: Arrays, masks: Masks) -> None:
    """Raise MirlError, naming tensor and position, unless every pruned weight is exactly 0.0."""
    for name, mask in masks.items():
        wrong = np.argwhere((weights[name] != 0) & ~mask)
        if wrong.size:
            index = tuple(int(i) for i in wrong[0])
            raise MirlError(f"{name}{list(index)} is {weights[name][index]} where the mask says pruned")


def require_finite(weights: Arrays) -> None:
    """Raise MirlError, naming the tensor, unless every value is finite."""
    for name, value in weights.items():
        if not np.isfinite(value).all():
            raise MirlError(f"{name} holds values that are not finite after training; begin anew with a lower learning rate")
