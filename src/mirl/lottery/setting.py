"""What all trainings of a run share: devices, processes, data, and the switch that stops them."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Literal, TypeVar, cast

import torch
from lightning_fabric import Fabric

from mirl.data.patches import load_training_data, validation_examples
from mirl.engine.memory import keep_large_blocks
from mirl.errors import MirlError
from mirl.lottery.train import Listener, Setting, share_of
from mirl.network.kernels import find_kernels
from mirl.recipe import KernelChoice, Precision, Recipe

T = TypeVar("T")


def make_setting(
    recipe: Recipe, data: Path | None, device: str, stop: Callable[[], bool], listener: Listener, *,
    devices: int = 1, nodes: int = 1,
    log_dir: str | None = None, skip_bad: bool = False,
    checkpoint_seconds: float = 60.0, kernels: KernelChoice = "auto",
) -> Setting:  # fmt: skip
    """Open device and data for trainings of `recipe`; under torchrun with the processes that it has started.

    Raises MirlError for a device or `kernels` that are not there, for `devices` and `nodes` that are not torchrun's, and for
    a batch that the processes cannot share.
    """
    keep_large_blocks()
    if device not in ("auto", "cpu", "cuda"):
        raise MirlError(f"unknown device {device!r}; expected auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise MirlError("device cuda was asked for and none is found; use --device cpu")
    if devices < 1 or nodes < 1:
        raise MirlError(f"devices and nodes must be at least 1, found {devices} and {nodes}")
    devices, nodes = _processes(devices, nodes)
    if device == "cuda" and devices > torch.cuda.device_count():
        raise MirlError(f"{devices} devices were asked for and {torch.cuda.device_count()} found; lower --devices")
    fabric = Fabric(accelerator="gpu" if device == "cuda" else device, devices=devices, num_nodes=nodes,
                    precision=(precision := usable_precision(recipe.train.precision, device)))  # fmt: skip
    if recipe.train.compile and kernels == "native":
        raise MirlError("--compile compiles PyTorch's kernels, not the native ones; leave out one of the two")
    own = None if recipe.train.compile else find_kernels(kernels, precision, fabric.device)
    fabric.launch()
    share_of(fabric, recipe.train.batch)  # before any data are read
    if fabric.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    stream = load_training_data(data, recipe.tasks, recipe.train.patch, recipe.seed, fabric.device,
                                clean_share=recipe.train.clean_share,
                                real_share=recipe.train.real_share, skip_bad=skip_bad)  # fmt: skip
    examples = validation_examples(data, [share.task for share in recipe.tasks], skip_bad=skip_bad)
    told = listener if fabric.is_global_zero else silent
    products = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    return Setting(fabric, stream, examples, stop, told, checkpoint_seconds, log_dir, own, products)


def usable_precision(wanted: Precision, device: str) -> Literal["32-true", "bf16-mixed"]:
    """Return the precision to train in: what "auto" means on this machine, see `TrainConfig`.

    With AMX a step of the recipe small took 0.65 of the time that it took in float32 (Xeon of 2.1 GHz, one thread); with
    AVX-512 alone bfloat16 is slower (results/train_speed.json).
    """
    if wanted != "auto":
        return wanted
    if device != "cpu" and torch.cuda.is_available():
        return "bf16-mixed"
    cpu = Path("/proc/cpuinfo")
    flags = cpu.read_text(errors="replace") if cpu.exists() else ""
    return "bf16-mixed" if "amx_bf16" in flags else "32-true"


@contextmanager
def stop_switch(time_limit_seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Give a function that turns true at the time limit or once SIGINT or SIGTERM came; a second SIGINT interrupts.

    A second SIGTERM does not: a scheduler sends one to every process, and torchrun passes its own on to its workers.
    """
    deadline = None if time_limit_seconds is None else time.monotonic() + time_limit_seconds
    came: set[int] = set()

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and number in came:
            raise KeyboardInterrupt
        came.add(number)

    previous: dict[signal.Signals, Any] = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            previous[number] = signal.signal(number, handle)
    except ValueError:
        pass  # not in the main thread: signals are the caller's
    try:
        yield lambda: bool(came) or (deadline is not None and time.monotonic() > deadline)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def shared(fabric: Fabric, work: Callable[..., T], *arguments: Any) -> T:
    """Return what `work` gives in the first process, in every process: one reads and decides, so all see the same files."""
    if fabric.world_size == 1:
        return work(*arguments)
    return cast(T, fabric.broadcast(work(*arguments) if fabric.is_global_zero else None))


def part_processes() -> None:
    """End the work of several processes together: one that leaves while another still talks to it can abort that one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def _processes(devices: int, nodes: int) -> tuple[int, int]:
    """Return devices a machine and machines: torchrun's where it has started this process, else those asked for."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return devices, nodes
    local, world = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
    found = (local, world // local)
    if (devices, nodes) not in ((1, 1), found):
        raise MirlError(
            f"torchrun has started {local} processes on each of {world // local} machines, --devices {devices} and "
            f"--nodes {nodes} say otherwise; leave these options out"
        )
    return found


def silent(step: int, steps: int, values: Mapping[str, float]) -> None:
    """Tell nobody: the first process does."""
