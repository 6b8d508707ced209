"""The evidence: pilots, search, controls and second seeds, each ticket measured; any window of time advances it.

    make evidence [DATA=../shared/data/train] [TESTS=../shared/data/test] [TIME=2h] [DEVICE=cuda]
    python bench/evidence.py --data DATA [--tests TESTS] [--time-limit 2h] [--device cuda] [--only small]

The steps are those of `steps`, in this order. What is done is known from the folder of runs alone, so a copied folder goes
on anywhere; a step that the time limit or Ctrl-C stops goes on where it was. `--list` says what is done. What others need is
copied to `--results`: the runs' records, the scores of every ticket on TESTS, the table of pilots, and the weights of some
runs, packed; a run packed there and not in `--runs` is unpacked and goes on. To repeat everything from nothing, name a new
folder for `--runs` and another for `--results`. The page is made by `mirl report --evidence results/evidence -o
docs/results.md`.
"""

import argparse
import hashlib
import io
import shutil
import statistics
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mirl.cli.lottery import parse_seconds
from mirl.cli.progress import training_progress
from mirl.data.pairs import fingerprint
from mirl.engine.engine import open_backend, restore_pixels
from mirl.evaluate.benchmark import evaluate
from mirl.evaluate.crops import write_strips
from mirl.evaluate.speed import machine
from mirl.files import make_folder, write_bytes, write_json
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameter_count
from mirl.lottery.budget import Budget, control_name
from mirl.lottery.controls import control
from mirl.lottery.run import BEFORE, RunFolder, TrainingFolder
from mirl.lottery.search import search
from mirl.recipe import THREE_TASKS, PruneConfig, Recipe, TaskShare, small, three_tasks
from mirl.ticket import describe_ticket, read_ticket
from pilots import BASE, PILOTS
from ticket_times import measure_times

FIGURES = ("parameters", "nonzero", "density", "density_macs", "bytes", "dense_bytes")
TASKS = ("denoise15", "denoise25", "denoise50", "derain", "dehaze")
MEASURED = (*TASKS, "web", "clean")
CONTROLS: tuple[tuple[str, int, Budget], ...] = (
    ("reinit", 0, "level"),
    ("dense-small", 0, "level"),
    ("oneshot", 0, "level"),
    ("deeper", 0, "level"),
    ("shuffle", 0, "level"),
    ("partial-reset", 0, "level"),
    ("dense", 0, "total"),
    ("ticket", 0, "total"),
)
PICTURED = ("denoise25", "derain", "dehaze")
# More rain, trained longer.
RAIN = replace(small(), train=replace(small().train, steps=6000), tasks=three_tasks(2.5, 2.5))
# An earlier recipe, kept because its run tells what was tried: raw magnitude, rewound to the initial values.
BY_MAGNITUDE = replace(
    small(),
    train=replace(small().train, steps=3000, precision="bf16-mixed"),
    prune=PruneConfig(keep=0.10, fraction=0.55, normalise="prompts", min_layer_density=0.02),
    tasks=THREE_TASKS,
    rewind_step=0,
)
ROUNDS = 7  # of timing
PACKED = ("small", "small-web", "small-start")  # runs whose weights are published


@dataclass(frozen=True)
class Step:
    """One piece of work: `done` asks the files, `work` takes the seconds left (None: no limit) and says whether it ended."""

    name: str
    done: Callable[[], bool]
    work: Callable[[float | None], bool]


@dataclass(frozen=True)
class Places:
    """Where data, tests, runs and results lie; `tests` may be None, then nothing is scored."""

    data: Path
    tests: Path | None
    runs: Path
    results: Path
    device: str


def steps(places: Places) -> Iterator[Step]:
    """All work, the most telling first."""
    for name, recipe in PILOTS.items():
        thins = recipe.prune.keep < 1 and not recipe.rewind_step
        yield search_step(places, f"pilots/{name}", recipe, dense_from=f"pilots/{BASE}" if thins else "")
    yield from run_steps(places, "small", small(), CONTROLS)
    yield from run_steps(places, "small-start", replace(small(), rewind_step=0), (("reinit", 0, "level"),))
    yield from run_steps(places, "small-web", replace(small(), tasks=(*small().tasks, TaskShare("web", 3.0))), ())
    yield from run_steps(places, "small-rain", RAIN, (("reinit", 0, "level"),))
    by_cost = replace(small(), prune=replace(small().prune, score="macs"))
    yield from run_steps(places, "small-macs", by_cost, (), dense_from="small")
    yield from run_steps(places, "small-seed1", replace(small(), seed=1), (("reinit", 0, "level"),))
    yield from run_steps(places, "magnitude", BY_MAGNITUDE, ())


def run_steps(
    places: Places, name: str, recipe: Recipe, controls: tuple[tuple[str, int, Budget], ...], dense_from: str = ""
) -> Iterator[Step]:
    """A search, its tickets measured, and each control with its ticket measured."""
    folder = RunFolder(places.runs / name)
    yield search_step(places, name, recipe, dense_from)
    levels = len(folder.finished_levels)
    if name in PACKED:
        if levels:  # the weights that end what comes before a late rewind point are that point: one archive holds them once
            before = sorted((folder.path / BEFORE).iterdir()) if recipe.rewind_step else []
            start = [folder.path / "recipe.json", *before, folder.start, folder.path / "start.json"]
            yield pack_step(places, name, "start", start)
        if folder.ticket.exists():
            yield pack_step(places, name, "ticket", [folder.ticket])
    for level in range(levels):
        yield from score_step(places, name, folder.level(level))
        yield from weights_step(places, name, folder.level(level))
    for kind, seed, budget in controls:
        place = folder.control(control_name(kind, seed, budget))
        yield Step(
            f"{name}: control {place.path.name}",
            lambda place=place: place.done,  # type: ignore[misc]
            partial(train_control, places, folder.path, kind, seed, budget),
        )
        if place.done:
            yield from score_step(places, name, place)
            yield from weights_step(places, name, place)
    if levels > 1 and folder.ticket.exists():
        yield times_step(places, name, folder, levels)
        if controls:
            yield crops_step(places, name, folder)


def longer(run: RunFolder) -> TrainingFolder:
    """The ticket's training with the budget of the whole search."""
    return run.control(control_name("ticket", 0, "total"))


def best_ticket(run: RunFolder) -> TrainingFolder:
    """What is worth shipping of a run: its last level, or the same trained longer where validation prefers that."""
    last, more = run.finished_levels[-1], longer(run)
    return max([last, more] if more.done else [last], key=mean_validation)


def mean_validation(place: TrainingFolder) -> float:
    return statistics.fmean(value["psnr"] for value in place.record()["validation"].values())


def search_step(places: Places, name: str, recipe: Recipe, dense_from: str = "") -> Step:
    run = places.runs / name
    source = places.runs / dense_from if dense_from else None

    def work(seconds: float | None) -> bool:
        with training_progress() as progress:
            return search(
                recipe, run, places.data, device=places.device, time_limit_seconds=seconds, progress=progress,
                dense_from=source,
            ).finished  # fmt: skip

    return Step(f"{name}: search", lambda: (run / "ticket.mirl").exists(), work)


def train_control(places: Places, run: Path, kind: str, seed: int, budget: Budget, seconds: float | None) -> bool:
    with training_progress() as progress:
        return control(
            run, kind, places.data, seed=seed, budget=budget, device=places.device, time_limit_seconds=seconds,
            progress=progress,
        ).finished  # fmt: skip


def score_step(places: Places, name: str, place: TrainingFolder) -> Iterator[Step]:
    """Measure one ticket on the test sets, in both protocols for the tickets of the search."""
    if places.tests is None:
        return
    label = f"{name}-{place.path.name}"
    for protocol in ("standard", "paper"):
        if protocol == "paper" and place.marker != "level.json":
            continue
        file = places.results / "scores" / f"{label}-{protocol}.json"
        yield Step(
            f"{label}: scores, {protocol}", file.exists, partial(measure_ticket, places, label, place, protocol, file)
        )


def measure_ticket(
    places: Places, label: str, place: TrainingFolder, protocol: str, file: Path, seconds: float | None
) -> bool:
    """Write PSNR and SSIM of every set and image, with the figures of the ticket and how it was measured."""
    assert places.tests is not None
    content = place.ticket.read_bytes()
    ticket = read_ticket(content)
    backend = open_backend(ticket, "native")
    tasks = MEASURED if protocol == "standard" else TASKS
    result = evaluate(lambda image: restore_pixels(backend, image, tile=0), places.tests, protocol, tasks)
    make_folder(file.parent)
    result.write_csv(file.with_suffix(".csv"))
    command = f"mirl evaluate --ticket {place.ticket} --data TESTS --protocol {protocol} --tasks {' '.join(tasks)}"
    figures = describe_ticket(ticket, len(content))
    summary = result.summary()
    write_json(file, {
        **result.to_json(label), "summary_psnr": summary[0] if summary else None,
        "figures": {key: figures[key] for key in FIGURES}, "sha256": hashlib.sha256(content).hexdigest(),
        "command": command, "machine": machine(),
    })  # fmt: skip
    return True


def times_step(places: Places, name: str, run: RunFolder, levels: int) -> Step:
    """CPU time of every level, and of the ticket that was trained longer."""
    file = places.results / "times" / f"{name}.json"

    def work(seconds: float | None) -> bool:
        places_timed = [*(run.level(n) for n in range(levels)), *([more] if (more := longer(run)).done else [])]
        tickets = {place.path.name: place.ticket for place in places_timed}
        make_folder(file.parent)
        write_json(file, {**measure_times(tickets, ROUNDS), "command": "make evidence"})
        return True

    return Step(f"{name}: times", file.exists, work)


def crops_step(places: Places, name: str, run: RunFolder) -> Step:
    """Pictures of the dense level and the ticket."""
    folder = places.results / "crops" / name

    def work(seconds: float | None) -> bool:
        write_strips(*(read_ticket(place.ticket) for place in (run.level(0), best_ticket(run))), PICTURED, folder)
        return True

    return Step(f"{name}: crops", (folder / "crops.json").exists, work)


def weights_step(places: Places, name: str, place: TrainingFolder) -> Iterator[Step]:
    """Pack what one training of a run left, so that others can run `mirl verify` on it."""
    if name in PACKED:
        yield pack_step(places, name, place.path.name, sorted(place.path.iterdir()))


def pack_step(places: Places, name: str, label: str, files: list[Path]) -> Step:
    archive = places.results / "weights" / name / f"{label}.tar.xz"

    def work(seconds: float | None) -> bool:
        make_folder(archive.parent)
        write_bytes(archive, pack(files, places.runs))
        return True

    return Step(f"{name}: weights of {label}", archive.exists, work)


def pack(files: list[Path], root: Path) -> bytes:
    """Return files as a .tar.xz with their names below `root`; equal files give equal bytes."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz", preset=9) as archive:
        for path in files:
            entry = tarfile.TarInfo(str(path.relative_to(root)))
            entry.size = path.stat().st_size
            with path.open("rb") as file:
                archive.addfile(entry, file)
    return content.getvalue()


def unpack(places: Places) -> None:
    """Put back the packed runs that `runs` does not have, so that they go on."""
    for packed in sorted((places.results / "weights").glob("*")):
        if (places.runs / packed.name).exists():
            continue
        print(f"unpacking {packed}", file=sys.stderr, flush=True)
        make_folder(places.runs)
        with tempfile.TemporaryDirectory(dir=places.runs) as folder:
            for file in sorted(packed.glob("*.tar.xz")):
                with tarfile.open(file) as archive:
                    archive.extractall(folder, filter="data")
            (Path(folder) / packed.name).rename(places.runs / packed.name)


def publish(places: Places) -> None:
    """Copy the records of all runs (JSON alone, no weights) and write the table of pilots."""
    for source in sorted(places.runs.rglob("*.json*")):
        if source.name in ("recipe.json", "level.json", "control.json", "metrics.jsonl") and "pilots" not in source.parts:
            target = places.results / "runs" / source.relative_to(places.runs)
            make_folder(target.parent)
            shutil.copyfile(source, target)
    rows = [pilot_row(name, RunFolder(places.runs / "pilots" / name)) for name in PILOTS]
    if found := [row for row in rows if row]:
        make_folder(places.results)
        write_json(places.results / "pilots.json", {
            "command": "make evidence", "data": fingerprint(places.data), "machine": machine(), "rows": found,
        })  # fmt: skip


def pilot_row(name: str, run: RunFolder) -> dict[str, Any]:
    """One line of the table: what was tried, what its last training cost and reached on the validation images."""
    if not run.ticket.exists():
        return {}
    record, recipe = run.finished_levels[-1].record(), PILOTS[name]
    scores = {task: value["psnr"] for task, value in record["validation"].items()}
    return {
        "pilot": name, "parameters": parameter_count(recipe.network), "density": record["density"],
        "macs_per_pixel": macs_per_pixel(recipe.network),
        "attention_macs_per_pixel": attention_macs_per_pixel(recipe.network), "steps": record["steps"],
        "seconds": record["seconds"], "seconds_per_step": record["seconds"] / record["steps"], "validation_psnr": scores,
        "mean_psnr": sum(scores.values()) / len(scores), "recipe": record["recipe"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tests", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--results", type=Path, default=Path("results/evidence"))
    parser.add_argument("--time-limit")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--only", help="take only steps whose name begins so")
    parser.add_argument("--list", action="store_true", help="say what is done and end")
    options = parser.parse_args()
    places = Places(options.data, options.tests, options.runs, options.results, options.device)
    limit = parse_seconds(options.time_limit)
    deadline = None if limit is None else time.monotonic() + limit
    unpack(places)
    if options.list:
        for step in steps(places):
            print(f"{'done' if step.done() else '    '}  {step.name}")
        return
    try:
        advance(places, deadline, options.only or "")
    finally:
        publish(places)


def advance(places: Places, deadline: float | None, only: str) -> None:
    """Do what is not done, step by step; a finished search adds steps, so they are listed anew after each."""
    while True:
        waiting = (step for step in steps(places) if step.name.startswith(only) and not step.done())
        step = next(waiting, None)
        left = None if deadline is None else deadline - time.monotonic()
        if step is None or (left is not None and left <= 0):
            print("all steps are done" if step is None else f"time is up before: {step.name}")
            return
        print(f"{time.strftime('%H:%M:%S')} {step.name}", file=sys.stderr, flush=True)
        if not step.work(left):
            print(f"stopped at a safe point in: {step.name}; the same command goes on")
            return
        publish(places)


if __name__ == "__main__":
    main()
