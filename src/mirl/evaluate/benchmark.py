"""Scores of a restorer per task, set and image, in a named protocol, always beside the degraded input's own.

PSNR of identical images is infinite, which neither JSON nor a mean can hold: scores are capped at 100 dB (one
8-bit step in a single sample of a megapixel photo is 113 dB; restorers of real degradations stay below 60).
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mirl.data.pairs import INPUT_SUFFIXES, KINDS, Pair, find_sets
from mirl.degrade.tasks import TASKS, Task, task_named
from mirl.errors import MirlError
from mirl.evaluate.figures import Figures, flat, nearness
from mirl.evaluate.protocol import PROTOCOLS, MetricProtocol, load_pair, protocol_named
from mirl.files import csv_text, write_bytes
from mirl.image import quantise

PSNR_CAP_DB = 100.0
Restore = Callable[[np.ndarray], np.ndarray]
Progress = Callable[[int, int, str], None]

# Sets that enter the summary, where a task has any of them: those of MIR-L's tables. HazeRD and SOTS-indoor
# are another kind of haze (much denser, indoor) and would swamp the outdoor figure, so they are listed but
# not averaged in.
SUMMARY_SETS = {
    "denoise": ("BSD68", "CBSD68"),
    "derain": ("Rain100L",),
    "dehaze": ("SOTS", "SOTS-outdoor", "HSTS"),
}


CLEAN = Task("clean", "clean", lambda clean, rng: clean)
MEASURED = {**TASKS, CLEAN.name: CLEAN}


@dataclass(frozen=True)
class ImageScore:
    """One image in one task: its figures (PSNR at most 100 dB), and the seconds to restore it."""

    task: str
    set: str
    image: str
    figures: Figures
    seconds: float


@dataclass(frozen=True)
class SetScore:
    """Means over the images of one set in one task."""

    task: str
    set: str
    images: int
    figures: Figures


@dataclass(frozen=True)
class Evaluation:
    """Scores in the order of the task registry, then set, then image; `skipped` holds why any were left
    out."""

    protocol: str
    images: tuple[ImageScore, ...]
    skipped: tuple[str, ...] = ()

    @property
    def rows(self) -> tuple[SetScore, ...]:
        """One row for each task and set."""
        groups: dict[tuple[str, str], list[ImageScore]] = {}
        for image in self.images:
            groups.setdefault((image.task, image.set), []).append(image)
        return tuple(SetScore(task, name, len(images), _mean(images)) for (task, name), images in groups.items())

    def summary(self) -> Figures | None:
        """Mean figures of three tasks; None unless all of them were measured.

        Denoising is the mean over sigma 15, 25 and 50 and counts once, like deraining and dehazing. (The
        published all-in-one tables average the five settings instead; the rows hold what that needs.) Each
        setting is the mean over the images of its SUMMARY_SETS, or of all its sets when it has none of those.
        """
        tasks: dict[str, list[Figures]] = {"denoise": [], "derain": [], "dehaze": []}
        for name in ("denoise15", "denoise25", "denoise50", "derain", "dehaze"):
            kind = name.rstrip("0123456789")
            images = [image for image in self.images if image.task == name]
            images = [image for image in images if image.set in SUMMARY_SETS[kind]] or images
            if not images:
                return None
            tasks[kind].append(_mean(images))
        return Figures.mean([Figures.mean(settings) for settings in tasks.values()])

    def to_json(self, ticket_name: str) -> dict[str, Any]:
        """Return the documented JSON value: ticket, protocol and one row for each task and set."""
        return {"ticket": ticket_name, "protocol": self.protocol, "rows": [flat(row) for row in self.rows]}

    def write_csv(self, path: Path) -> None:
        """Write one line for each image and task, numbers in full. Raises MirlError when it cannot."""
        names = ["task", "set", "image", *(field.name for field in fields(Figures)), "seconds"]
        write_bytes(path, csv_text(names, (list(flat(image).values()) for image in self.images)).encode())

    def table(self) -> Table:
        """Return the rows as a rich table, the degraded input beside the restored image, the summary last."""
        protocol = PROTOCOLS[self.protocol]
        table = Table(
            title=f"Restoration, protocol {self.protocol}",
            caption=f"{protocol.describe()}; PSNR in dB, at most {PSNR_CAP_DB:g}",
            caption_justify="left",
        )
        for name in ("task", "set"):
            table.add_column(name)
        for name in ("images", "PSNR in", "PSNR out", "gain dB", "SSIM in", "SSIM out", "s/image"):
            table.add_column(name, justify="right")
        for row in self.rows:
            seconds = [i.seconds for i in self.images if (i.task, i.set) == (row.task, row.set)]
            table.add_row(row.task, row.set, str(row.images), *row.figures.cells(), f"{statistics.median(seconds):.2f}")
        if (mean := self.summary()) is not None:
            table.add_section()
            table.add_row("mean of 3 tasks", "", "", *mean.cells(), "")
            table.caption = (
                f"{table.caption}. Mean of 3 tasks: denoise (mean of sigma 15, 25, 50), derain and dehaze "
                "count once each; where present, only BSD68/CBSD68, Rain100L, SOTS and HSTS enter it"
            )
        return table


def evaluate(
    restore: Restore,
    data: Path,
    protocol: str = "standard",
    tasks: Sequence[str] | None = None,
    limit: int | None = None,
    skip_bad: bool = False,
    progress: Progress | None = None,
) -> Evaluation:
    """Score `restore` (float32 (h, w, 3) in [0, 1] to the same size) on the sets under `data`.

    `tasks` are names of the registry, None means every task that has a set. "web", when asked for and
    without a set of its own, is made from the clean photos of the denoising sets. "clean" is no task but a
    question: those photos as they are go in, and the PSNR says how little is changed (the input's is 100).
    `limit` takes the first
    images of each set. `progress` is called with images done, images in all and a label. Raises MirlError on
    an unknown task or protocol, a task without a set, data that cannot be read or paired (unless `skip_bad`),
    and a restorer that returns another size or a non-finite value.
    """
    rules = protocol_named(protocol)
    if limit is not None and limit < 1:
        raise MirlError(f"--limit is a number of images for each set, at least 1, found {limit}")
    try:
        jobs = _plan(Path(data), tasks, limit, skip_bad)
    except MirlError as error:
        noisy = _noisy_pairs(Path(data), set(tasks or ()), tasks)
        raise MirlError("; ".join([str(error), *noisy])) from error
    total, done = sum(len(pairs) for _, _, pairs in jobs), 0
    scores: list[ImageScore] = []
    skipped = _noisy_pairs(Path(data), {task.name for task, _, _ in jobs}, tasks)
    for task, name, pairs in jobs:
        before = len(scores)
        for pair in pairs:
            try:
                degraded, clean = load_pair(pair, task, rules)
            except MirlError as error:
                if not skip_bad:
                    raise
                skipped.append(str(error))
            else:
                scores.append(_score(restore, degraded, clean, task.name, name, pair.name, rules))
            done += 1
            if progress is not None:
                progress(done, total, f"{task.name} {name}")
        if len(scores) == before:
            raise MirlError(f"no image of {name} could be measured for {task.name}; the first: {skipped[-1]}")
    return Evaluation(protocol, tuple(scores), tuple(dict.fromkeys(skipped)))


def _noisy_pairs(data: Path, measured: set[str], tasks: Sequence[str] | None) -> list[str]:
    """Say which folders of noisy pairs, as `mirl data synth` makes them, are not looked at: noise is added here."""
    folders = sorted(name for name in INPUT_SUFFIXES if name not in KINDS and (data / name).is_dir())
    return [
        f"{data / name}: noise is added here to the clean photos of {data / 'denoise'}/SET, noisy pairs are not read"
        for name in folders
        if name in measured or tasks is None
    ]


def _plan(
    data: Path, tasks: Sequence[str] | None, limit: int | None, skip_bad: bool
) -> list[tuple[Task, str, tuple[Pair, ...]]]:
    """List (task, set name, pairs) in the order of the registry, whatever the order asked for."""
    wanted = set(TASKS) if tasks is None else {name if name in MEASURED else task_named(name).name for name in tasks}
    if not wanted:
        raise MirlError(f"no task to evaluate; expected some of {', '.join(MEASURED)}")
    from_clean = {MEASURED[name].kind for name in ("web", CLEAN.name)}
    kinds = {MEASURED[name].kind for name in wanted} - {CLEAN.kind}
    kinds |= {"denoise"} if from_clean & {MEASURED[name].kind for name in wanted} else set()
    found = [each for each in find_sets(data, kinds=sorted(kinds), skip_bad=skip_bad) if each.pairs]
    found.sort(key=lambda each: (each.kind, each.name))
    jobs = []
    for task in (task for name, task in MEASURED.items() if name in wanted):
        mine = [each for each in found if each.kind == task.kind]
        if task.kind in from_clean and tasks is not None and not mine:
            mine = [each for each in found if each.kind == "denoise"]
        if tasks is not None and not mine:
            have = ", ".join(f"{each.kind}/{each.name}" for each in found) or "none that fits"
            raise MirlError(
                f"no set for task {task.name} in {data}: found {have}, expected {task.kind}/SET with images; "
                "choose another --data or other --tasks"
            )
        jobs += [(task, each.name, each.pairs[:limit]) for each in mine]
    if not jobs:
        raise MirlError(
            f"no test set in {data}; expected folders such as denoise/SET or derain/SET/input and target; "
            "choose the folder above them"
        )
    return jobs


def _score(
    restore: Restore,
    degraded: np.ndarray,
    clean: np.ndarray,
    task: str,
    set_name: str,
    image: str,
    protocol: MetricProtocol,
) -> ImageScore:
    input_figures = nearness(degraded, clean, protocol.window, PSNR_CAP_DB)  # first, should the restorer work in place
    begin = time.perf_counter()
    restored = np.asarray(restore(degraded))
    seconds = time.perf_counter() - begin
    where = f"for {image} of {set_name} ({task})"
    if restored.shape != clean.shape:
        raise MirlError(
            f"the restorer returned shape {restored.shape} {where}; "
            f"expected that of its input, {clean.shape}; check the backend"
        )
    if not np.isfinite(restored).all():
        raise MirlError(f"the restorer returned NaN or infinity {where}; expected numbers; check the ticket")
    restored = quantise(restored) if protocol.round_output else np.clip(restored, 0, 1)
    figures = Figures(*nearness(restored, clean, protocol.window, PSNR_CAP_DB), *input_figures)
    return ImageScore(task, set_name, image, figures, seconds)


def _mean(images: Sequence[ImageScore]) -> Figures:
    return Figures.mean([image.figures for image in images])
