"""One training, in a visible loop: L1 loss, AdamW, warm-up then cosine, masks after every step.

Lightning-fabric gives device, precision and data parallelism; nothing else is hidden. A training is a pure function of
(recipe, start, masks, data): the batch of step s depends on the seed and s alone, and a checkpoint holds everything else,
so a run that was stopped or killed ends with the same bytes as one that was not.
"""

import json
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

from mirl.data.patches import PatchStream, ValidationExample
from mirl.errors import MirlError
from mirl.evaluate.metrics import psnr
from mirl.files import write_json
from mirl.image import quantise
from mirl.lottery.prune import Masks
from mirl.lottery.run import Arrays, TrainingFolder, hash_state, load_arrays, save_arrays, save_masks
from mirl.network.promptir import PromptIR
from mirl.recipe import Recipe, TrainConfig

Validation = dict[str, dict[str, float]]


class Listener(Protocol):
    """What a training tells while it runs; the command line draws a progress bar from it."""

    def __call__(self, step: int, steps: int, values: Mapping[str, float]) -> None:
        """Take the updates done, the updates to do, and loss, learning_rate, patches_per_second."""


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


class Stopped(Exception):  # noqa: N818 - not an error: the state is saved and the same command goes on
    """The training stopped at a safe point because it was asked to."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Return the rate of update `step` (0-based): linear to `learning_rate` over the warm-up, then cosine to the minimum.

    MIR-L's schedule (field.md, section 1) without its rate of 0 in the first epoch.
    """
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
    return config.minimum_learning_rate + (config.learning_rate - config.minimum_learning_rate) * 0.5 * (
        1 + math.cos(math.pi * progress)
    )


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
    if config.batch % fabric.world_size:
        raise MirlError(f"batch {config.batch} cannot be shared by {fabric.world_size} processes; choose a multiple")
    torch.manual_seed(recipe.seed)
    network = PromptIR(recipe.network)
    mask_tensors = {name: torch.from_numpy(mask) for name, mask in masks.items()}
    _load(network, start, mask_tensors)
    if fabric.is_global_zero and not folder.checkpoint.exists():
        folder.path.mkdir(parents=True, exist_ok=True)
        save_masks(folder.mask, masks)
        write_json(folder.rewound, {"first_step": first_step, "tensors": hash_state(arrays_of(network))})
    network.to(fabric.device)
    mask_tensors = {name: mask.to(fabric.device) for name, mask in mask_tensors.items()}
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, foreach=True
    )
    state = _State(network, optimizer, mask_tensors, config, len(recipe.tasks), first_step)
    if folder.checkpoint.exists():
        state.restore(load_arrays(folder.checkpoint)[0])
    if fabric.is_global_zero:
        _trim_metrics(folder, state.step)
    fabric.barrier()
    module = cast(nn.Module, torch.compile(network)) if config.compile else network
    forward, wrapped_optimizer = fabric.setup(module, optimizer)
    writer = _event_writer(setting.log_dir, folder) if fabric.is_global_zero else None
    share = config.batch // fabric.world_size
    loss_weights = torch.tensor([task.loss for task in recipe.tasks], device=fabric.device)
    check_every = 1 if fabric.device.type == "cpu" else config.log_every
    pending: list[tuple[Tensor, Tensor]] = []
    clock = _Clock()
    try:
        while state.step < last:
            batch = setting.stream.batch(state.step, share, fabric.global_rank, fabric.world_size)
            rate = config.minimum_learning_rate if constant_rate else learning_rate(config, state.step)
            for group in optimizer.param_groups:
                group["lr"] = rate
            per_sample = (forward(batch.degraded).float() - batch.clean).abs().mean(dim=(1, 2, 3))
            fabric.backward((per_sample * loss_weights[batch.task]).mean())
            state.mask_gradients()
            if config.clip_norm > 0:
                torch.nn.utils.clip_grad_norm_(network.parameters(), config.clip_norm, foreach=True)
            wrapped_optimizer.step()
            wrapped_optimizer.zero_grad()
            state.after_step()
            pending.append((per_sample.detach(), batch.task))
            clock.patches += share * fabric.world_size
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
                _append(folder, line, writer)
            stop = fabric.broadcast(setting.stop()) if fabric.world_size > 1 else setting.stop()
            if state.step < last and (stop or clock.since_checkpoint() >= setting.checkpoint_seconds):
                _collect(fabric, recipe, state, pending)
                if fabric.is_global_zero:
                    save_arrays(folder.checkpoint, state.arrays())
                fabric.barrier()
                clock.checkpointed()
                if stop:
                    raise Stopped
    finally:
        if writer is not None:
            writer.close()
    final = state.final()
    require_exact_zeros(final, masks)
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


class _State:
    """Everything that a checkpoint must hold, and the two masked operations."""

    def __init__(self, network: PromptIR, optimizer: torch.optim.Optimizer, masks: dict[str, Tensor],
                 config: TrainConfig, tasks: int, step: int):  # fmt: skip
        self.network, self.optimizer, self.config = network, optimizer, config
        self.parameters = dict(network.named_parameters())
        self.masked: list[Tensor] = [self.parameters[name] for name in masks]
        self.masks: list[Tensor] = [mask.to(torch.float32) for mask in masks.values()]
        self.step = step
        self.sums = np.zeros((tasks, 2))  # loss and samples per task since the last line of the log
        self.latest: dict[str, float] = {}
        self.average = {n: p.detach().clone() for n, p in self.parameters.items()} if config.ema_decay else {}

    def mask_gradients(self) -> None:
        """Zero the gradients of pruned weights before the norm is taken: dead weights must not change the step."""
        if self.masks:
            torch._foreach_mul_([p.grad for p in self.masked if p.grad is not None], self.masks)

    def after_step(self) -> None:
        """Zero the pruned weights, move the average, count the step."""
        with torch.no_grad():
            if self.masks:
                torch._foreach_mul_(self.masked, self.masks)
            self.step += 1
            if self.average:
                decay = min(self.config.ema_decay, (1 + self.step) / (10 + self.step))
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), 1 - decay)

    def averaged(self) -> dict[str, Tensor] | None:
        """The moving average of the weights, or None when the recipe has none."""
        return self.average or None

    def final(self) -> Arrays:
        """The weights the training is judged by."""
        source: Mapping[str, Tensor] = self.average or self.parameters
        return {name: value.detach().cpu().numpy().copy() for name, value in source.items()}

    def arrays(self) -> Arrays:
        """Flatten into named tensors."""
        result: Arrays = {"step": np.array([self.step]), "sums": self.sums}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state[parameter]
            result[f"weight/{name}"] = parameter.detach().cpu().numpy()
            for key in ("exp_avg", "exp_avg_sq", "step"):
                result[f"{key}/{name}"] = np.atleast_1d(moments[key].cpu().numpy())
            if self.average:
                result[f"average/{name}"] = self.average[name].cpu().numpy()
        return result

    def restore(self, arrays: Arrays) -> None:
        """Take back what `arrays` gave. Raises MirlError when the checkpoint is of another network."""
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
            raise MirlError(
                f"the checkpoint does not fit the network: {error}; delete it to train the level anew"
            ) from error


class _Clock:
    """Rates and the age of the last checkpoint."""

    def __init__(self) -> None:
        self.began = self.saved = time.monotonic()
        self.patches = 0

    def rate(self) -> float:
        return self.patches / max(time.monotonic() - self.began, 1e-9)

    def since_checkpoint(self) -> float:
        return time.monotonic() - self.saved

    def checkpointed(self) -> None:
        self.saved = time.monotonic()


def _load(network: PromptIR, start: Arrays, masks: dict[str, Tensor]) -> None:
    """Put every tensor back to its value at the rewind point, then take out what is pruned."""
    network.load_state_dict({name: torch.from_numpy(value) for name, value in start.items()})
    with torch.no_grad():
        for name, mask in masks.items():
            network.get_parameter(name).masked_fill_(~mask, 0.0)


def _collect(fabric: Fabric, recipe: Recipe, state: _State, pending: list[tuple[Tensor, Tensor]]) -> None:
    """Add the losses of the last steps to the sums of the log. Raises MirlError at the first that is not finite."""
    if not pending:
        return
    losses = torch.stack([loss for loss, _ in pending])
    tasks = torch.stack([task for _, task in pending])
    first = state.step - len(pending)
    pending.clear()
    if fabric.world_size > 1:
        losses = torch.cat(list(fabric.all_gather(losses)), dim=1)
        tasks = torch.cat(list(fabric.all_gather(tasks)), dim=1)
    values, which = losses.cpu().numpy().astype(np.float64), tasks.cpu().numpy()
    if bad := np.argwhere(~np.isfinite(values)).tolist():
        row, column = bad[0]
        names = sorted({recipe.tasks[int(which[row, c])].task for r, c in bad if r == row})
        raise MirlError(
            f"the loss became {values[row, column]} at update {first + row + 1} on {', '.join(names)}; the last good "
            "checkpoint is kept; begin anew with a lower learning rate or look at the images of that task"
        )
    np.add.at(state.sums[:, 0], which.reshape(-1), values.reshape(-1))
    np.add.at(state.sums[:, 1], which.reshape(-1), 1.0)


def _log(
    fabric: Fabric, recipe: Recipe, folder: TrainingFolder, state: _State, rate: float, writer: Any
) -> None:  # fmt: skip
    """Write the means since the last line."""
    seen = {t.task: (s, n) for t, (s, n) in zip(recipe.tasks, state.sums.tolist(), strict=True) if n}
    loss = state.sums[:, 0].sum() / max(state.sums[:, 1].sum(), 1)
    state.latest = {"loss": float(loss), "learning_rate": rate}
    state.sums[:] = 0
    if fabric.is_global_zero:
        losses = {task: total / count for task, (total, count) in seen.items()}
        _append(folder, {"step": state.step, **state.latest, "losses": losses}, writer)


def _append(folder: TrainingFolder, line: dict[str, Any], writer: Any) -> None:
    with folder.metrics.open("a") as file:
        file.write(json.dumps(line) + "\n")
    if writer is not None:
        flat = {k: v for k, v in line.items() if k != "step" and not isinstance(v, dict)}
        for group in (g for g in ("losses", "validation") if g in line):
            flat |= {f"{group}/{task}": value for task, value in line[group].items()}
        for name, value in flat.items():
            writer.add_scalar(name, value, line["step"])


def _trim_metrics(folder: TrainingFolder, step: int) -> None:
    """Drop lines written after the checkpoint that the training goes on from."""
    if not folder.metrics.exists():
        return
    kept = []
    for text in folder.metrics.read_text().splitlines():
        try:
            if json.loads(text)["step"] <= step and step:
                kept.append(text)
        except (ValueError, KeyError):
            continue  # the half line of a killed process
    folder.metrics.write_text("".join(text + "\n" for text in kept))


def _event_writer(log_dir: str | None, folder: TrainingFolder) -> Any:
    if log_dir is None:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MirlError("TensorBoard is not installed; pip install 'mirl[tensorboard]'") from error
    return SummaryWriter(f"{log_dir}/{folder.path.name}")
