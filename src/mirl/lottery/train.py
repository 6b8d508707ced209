"""One training, in a visible loop: L1 loss, AdamW or Muon, warm-up then cosine, masks after every step.

Lightning-fabric gives device, precision and data parallelism; nothing else is hidden. A training is a pure function of
(recipe, start, masks, data): the batch of step s depends on the seed and s alone, and a checkpoint holds everything else,
so a run that was stopped or killed ends with the same bytes as one that was not.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.func import functional_call

from mirl.data.patches import Batch, PatchStream, ValidationExample
from mirl.errors import MirlError
from mirl.evaluate.metrics import psnr
from mirl.files import write_json
from mirl.image import quantise
from mirl.lottery import metrics_log
from mirl.lottery.loss import losses
from mirl.lottery.muon import Muon
from mirl.lottery.prune import Masks
from mirl.lottery.rates import grouped, rate_factors
from mirl.lottery.run import Arrays, TrainingFolder, hash_state, save_arrays, save_masks
from mirl.lottery.schedule import learning_rate
from mirl.lottery.state import TrainState, arrays_of, require_exact_zeros, require_finite, rewind
from mirl.network.kernels import Kernels
from mirl.network.promptir import PromptIR, use_kernels
from mirl.recipe import Recipe, TrainConfig

PATCH = 64  # what budgets count: patches of so many pixels a side, or their equal in area
Validation = dict[str, dict[str, float]]
Update = tuple[Tensor, Tensor, Tensor]  # loss and task of each sample, norm of the gradient


class Listener(Protocol):
    """What a training tells while it runs; the command line draws a progress bar from it."""

    def __call__(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Take the updates done, the updates to do, and loss, learning_rate, patches_per_second (of 64x64 pixels)."""


@dataclass(frozen=True)
class Setting:
    """What all trainings of a run share: device, data, and when to stop. Made once by `search` or `control`."""

    fabric: Fabric
    stream: PatchStream
    validation: list[ValidationExample]
    stop: Callable[[], bool]
    listener: Listener
    checkpoint_seconds: float = 60.0  # the most that a kill -9 can lose
    log_dir: str | None = None  # where TensorBoard events go, when asked for
    kernels: Kernels | None = None  # ours, or PyTorch's
    products: torch.dtype = torch.float32  # in which the optimizer multiplies


class Stopped(Exception):  # noqa: N818 - not an error: the state is saved and the same command goes on
    """The training stopped at a safe point, after `step` updates, because it was asked to."""

    def __init__(self, step: int):
        super().__init__(step)
        self.step = step


def share_of(fabric: Fabric, batch: int) -> int:
    """Return how many samples of a batch each process takes. Raises MirlError where they cannot share it evenly."""
    if batch % fabric.world_size:
        raise MirlError(f"batch {batch} cannot be shared by {fabric.world_size} processes; choose a multiple")
    return batch // fabric.world_size


def make_optimizer(
    network: PromptIR, recipe: Recipe, masks: Masks, products: torch.dtype = torch.float32
) -> torch.optim.Optimizer:
    """AdamW as in the paper, or Muon for the matrices; tensors that `masks` thin learn at the recipe's rates for them."""
    config, factors = recipe.train, rate_factors(masks, recipe.prune.rate_exponent)
    if config.optimizer == "muon":
        return Muon(network, config.learning_rate, config.weight_decay, factors, products=products)
    groups = grouped(network.named_parameters(), config.learning_rate, factors)
    return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True)


@dataclass(frozen=True)
class Learner:
    """A network set up on its devices: `update` is all that learning is."""

    fabric: Fabric
    state: TrainState
    forward: nn.Module
    optimizer: Any
    loss_weights: Tensor
    config: TrainConfig

    @classmethod
    def of(cls, recipe: Recipe, fabric: Fabric, state: TrainState) -> "Learner":
        """Compile when the recipe says so, and share out over the processes of `fabric`."""
        module = cast(nn.Module, torch.compile(state.network)) if recipe.train.compile else state.network
        forward, optimizer = fabric.setup(module, state.optimizer)
        loss_weights = torch.tensor([task.loss for task in recipe.tasks], device=fabric.device)
        return cls(fabric, state, forward, optimizer, loss_weights, recipe.train)

    def update(self, batch: Batch, rate: float) -> Update:
        """Make one update at a learning rate; returns loss and task of each sample and the norm of the gradient."""
        for group in self.state.optimizer.param_groups:
            group["lr"] = rate * group["factor"]
        per_sample = losses(self.forward(batch.degraded).float() - batch.clean, self.config)
        self.fabric.backward((per_sample * self.loss_weights[batch.task]).mean())
        self.state.mask_gradients()
        norm = torch.nn.utils.clip_grad_norm_(
            self.state.network.parameters(), self.config.clip_norm or math.inf, foreach=True
        )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.state.after_step()
        return per_sample.detach(), batch.task, norm


def train(
    recipe: Recipe,
    folder: TrainingFolder,
    start: Arrays,
    masks: Masks,
    setting: Setting,
    *,
    first_step: int = 0,
    last_step: int | None = None,
    constant_rate: bool = False,
) -> tuple[Arrays, Validation]:
    """Train from `start` under `masks`, updates `first_step` to `last_step`; write mask, rewound, metrics and weights.

    Goes on from `folder.checkpoint` when there is one. `constant_rate` holds the schedule's minimum rate (fine-tuning).
    Returns the final weights (their moving average when the recipe asks for one) and the validation PSNR per task.
    Raises Stopped at a safe point when `setting.stop()` says so, and MirlError on a non-finite loss, naming step and task;
    the checkpoint before it stays.
    """
    fabric, config = setting.fabric, recipe.train
    last = config.steps if last_step is None else last_step
    share_of(fabric, config.batch)
    torch.manual_seed(recipe.seed)
    network = PromptIR(recipe.network)
    mask_tensors = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    use_kernels(network, setting.kernels, mask_tensors)
    rewind(network, start, mask_tensors)
    going_on = fabric.broadcast(folder.checkpoint.exists())  # one looks for all: a shared disk may show others an old view
    if fabric.is_global_zero and not going_on:
        folder.path.mkdir(parents=True, exist_ok=True)
        save_masks(folder.mask, masks)
        write_json(folder.rewound, {"first_step": first_step, "tensors": hash_state(arrays_of(network))})
    network.to(fabric.device)
    mask_tensors = {name: mask.to(fabric.device) for name, mask in mask_tensors.items()}
    optimizer = make_optimizer(network, recipe, masks, setting.products)
    state = TrainState(network, optimizer, mask_tensors, config, len(recipe.tasks), first_step)
    if going_on:
        state.restore(folder.checkpoint)
    if fabric.is_global_zero:
        metrics_log.trim(folder, state.step)
        metrics_log.note_kernels(folder, state.step, setting.kernels.variant if setting.kernels else "torch")
    fabric.barrier()
    learner = Learner.of(recipe, fabric, state)
    writer = metrics_log.event_writer(setting.log_dir, folder) if fabric.is_global_zero else None
    check_every = 1 if fabric.device.type == "cpu" else config.log_every
    pending: list[Update] = []
    clock = _Clock()
    try:
        while state.step < last:
            count, patch = config.batch_at(state.step)
            batch = setting.stream.batch(state.step, share_of(fabric, count), fabric.global_rank, fabric.world_size, patch)
            rate = config.minimum_learning_rate if constant_rate else learning_rate(config, state.step)
            pending.append(learner.update(batch, rate))
            clock.patches += count * (patch / PATCH) ** 2
            at_log = state.step % config.log_every == 0 or state.step == last
            validate_now = config.validate_every > 0 and state.step % config.validate_every == 0 and state.step < last
            if at_log or validate_now or state.step % check_every == 0:
                _collect(fabric, recipe, state, pending)
            if at_log:
                _log(fabric, recipe, folder, state, rate, writer)
                setting.listener(state.step, last, {**state.latest, "patches_per_second": clock.rate()})
            if validate_now and fabric.is_global_zero:
                scores = validate(network, setting.validation, fabric, state.averaged())
                line: dict[str, Any] = {
                    "step": state.step,
                    "validation": {k: v["psnr"] for k, v in scores.items()},
                }
                metrics_log.append(folder, line, writer)
            stop, due = setting.stop(), clock.since_checkpoint() >= setting.checkpoint_seconds
            if fabric.world_size > 1:  # one clock decides for all, now and then: asking costs a round trip
                asked = state.step % check_every == 0
                stop, due = fabric.broadcast((stop, due)) if asked else (False, False)
            if state.step < last and (stop or due):
                _collect(fabric, recipe, state, pending)
                if fabric.is_global_zero:
                    state.save(folder.checkpoint)
                fabric.barrier()
                clock.checkpointed()
                if stop:
                    raise Stopped(state.step)
    finally:
        if writer is not None:
            writer.close()
    final = state.final()
    require_exact_zeros(final, masks)
    require_finite(final)
    if fabric.is_global_zero:
        save_arrays(folder.weights, final)
    scores = validate(network, setting.validation, fabric, state.averaged()) if fabric.is_global_zero else {}
    return final, scores


def validate(
    network: PromptIR,
    examples: list[ValidationExample],
    fabric: Fabric,
    weights: dict[str, Tensor] | None = None,
) -> Validation:
    """Return PSNR in dB per task, restored and input, means over the fixed examples, rounded to 8 bits."""
    found: dict[str, list[tuple[float, float]]] = {}
    state: dict[str, Tensor] = weights or {name: value for name, value in network.named_parameters()}  # noqa: C416 - the value type widens
    for example in examples:
        image = torch.from_numpy(example.degraded).permute(2, 0, 1)[None].to(fabric.device)
        with torch.no_grad(), fabric.autocast():
            restored = functional_call(network, state, (image,)).float()[0].permute(1, 2, 0).cpu().numpy()
        pair = (psnr(quantise(restored), example.clean), psnr(example.degraded, example.clean))
        found.setdefault(example.task, []).append(pair)
    return {
        task: {
            "psnr": float(np.mean([p for p, _ in pairs])),
            "input_psnr": float(np.mean([p for _, p in pairs])),
        }
        for task, pairs in found.items()
    }


class _Clock:
    """Rates and the age of the last checkpoint."""

    def __init__(self) -> None:
        self.began = self.saved = time.monotonic()
        self.patches = 0.0  # of PATCH pixels a side, or as much area

    def rate(self) -> float:
        return self.patches / max(time.monotonic() - self.began, 1e-9)

    def since_checkpoint(self) -> float:
        return time.monotonic() - self.saved

    def checkpointed(self) -> None:
        self.saved = time.monotonic()


def _collect(fabric: Fabric, recipe: Recipe, state: TrainState, pending: list[Update]) -> None:
    """Add the losses of the last updates to the sums of the log. Raises MirlError at the first that is not finite."""
    if not pending:
        return
    losses = torch.stack([loss for loss, _, _ in pending])
    tasks = torch.stack([task for _, task, _ in pending])
    norms = torch.stack([norm for _, _, norm in pending]).cpu().numpy()
    first = state.step - len(pending)
    pending.clear()
    if fabric.world_size > 1:
        losses, tasks = (_gathered(fabric, values) for values in (losses, tasks))
    values, which = losses.cpu().numpy().astype(np.float64), tasks.cpu().numpy()
    if bad := np.argwhere(~np.isfinite(values)).tolist():
        row, column = bad[0]
        names = sorted({recipe.tasks[int(which[row, c])].task for r, c in bad if r == row})
        raise MirlError(
            f"the loss became {values[row, column]} at update {first + row + 1} on {', '.join(names)}; the last good "
            "checkpoint is kept; begin anew with a lower learning rate or look at the images of that task"
        )
    if bad_norms := np.flatnonzero(~np.isfinite(norms)).tolist():
        row = bad_norms[0]
        names = sorted({recipe.tasks[int(task)].task for task in which[row]})
        raise MirlError(
            f"the gradient became {norms[row]} at update {first + row + 1}, with {', '.join(names)} in the batch; the last "
            "good checkpoint is kept; begin anew with a lower learning rate"
        )
    np.add.at(state.sums[:, 0], which.reshape(-1), values.reshape(-1))
    np.add.at(state.sums[:, 1], which.reshape(-1), 1.0)


def _gathered(fabric: Fabric, values: Tensor) -> Tensor:
    """Join the columns of all processes."""
    parts = [torch.empty_like(values) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, values.contiguous())
    return torch.cat(parts, dim=1)


def _log(
    fabric: Fabric, recipe: Recipe, folder: TrainingFolder, state: TrainState, rate: float, writer: Any
) -> None:  # fmt: skip
    """Write the means since the last line."""
    seen = {t.task: (s, n) for t, (s, n) in zip(recipe.tasks, state.sums.tolist(), strict=True) if n}
    loss = state.sums[:, 0].sum() / max(state.sums[:, 1].sum(), 1)
    state.latest = {"loss": float(loss), "learning_rate": rate}
    state.sums[:] = 0
    if fabric.is_global_zero:
        losses = {task: total / count for task, (total, count) in seen.items()}
        metrics_log.append(folder, {"step": state.step, **state.latest, "losses": losses}, writer)
