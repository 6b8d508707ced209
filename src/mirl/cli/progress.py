"""Progress bars on stderr: live on a terminal, a plain line now and then in a log."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from mirl.lottery.search import Progress as TrainingProgress

PLAIN_SECONDS = 15.0  # between two lines in a log


@contextmanager
def training_progress() -> Iterator["TrainingProgress"]:
    """Show level, loss, learning rate, patches a second and the time left of a training."""
    from mirl.lottery.run import first_process
    from mirl.lottery.search import Progress as TrainingProgress

    if not first_process():  # of a distributed training, the first tells
        yield TrainingProgress()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain_training(TrainingProgress)
        return
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"), console=console,
    ) as bar:  # fmt: skip
        row = bar.add_task("starting", total=None, values="")

        def update(step: int, steps: int, values: Mapping[str, float]) -> None:
            bar.update(row, completed=step, total=steps, values=_values(values))

        yield TrainingProgress(lambda text: bar.reset(row, description=text, values=""), update, _warn)


def _plain_training(kind: "type[TrainingProgress]") -> "TrainingProgress":
    last = time.monotonic()
    name = ""
    first: tuple[int, float] | None = None  # step and time of the first report: what was done before does not count

    def describe(text: str) -> None:
        nonlocal name, first
        name, first = text, None
        print(text, file=sys.stderr, flush=True)

    def update(step: int, steps: int, values: Mapping[str, float]) -> None:
        nonlocal last, first
        now = time.monotonic()
        first = first or (step, now)
        if now - last >= PLAIN_SECONDS or step == steps:
            last = now
            done = step - first[0]
            left = f", {(steps - step) * (now - first[1]) / done:.0f} s left" if done else ""
            print(f"  {name}: update {step}/{steps}, {_values(values)}{left}", file=sys.stderr, flush=True)

    return kind(describe, update, _warn)


def _warn(text: str) -> None:
    print(f"mirl: {text}", file=sys.stderr, flush=True)


def _values(values: Mapping[str, float]) -> str:
    return (
        f"loss {values.get('loss', 0):.4f}  rate {values.get('learning_rate', 0):.1e}  "
        f"{values.get('patches_per_second', 0):.0f} patches/s"
    )


@contextmanager
def counting_progress(what: str) -> Iterator["Counter"]:
    """Show how many of a known number of things are done, with the rate and the time left."""
    console = Console(stderr=True)
    with Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn(),
        TextColumn("{task.description}"), console=console, disable=not console.is_terminal,
    ) as bar:  # fmt: skip
        yield Counter(bar)


class Counter:
    """Takes (done, total, name) and moves the bar."""

    def __init__(self, bar: Progress):
        self.bar, self.row, self.began = bar, bar.add_task("", total=None, rate=""), time.monotonic()

    def __call__(self, done: float, total: int, name: str = "") -> None:
        """Say that `done` of `total` are ready, the last one being `name`."""
        rate = done / max(time.monotonic() - self.began, 1e-9)
        self.bar.update(self.row, completed=done, total=total, description=name, rate=f"{rate:.2f}/s")
