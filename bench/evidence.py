"""The evidence: pilots, search, controls and second seeds, each ticket measured; any window of time advances it.

    make evidence [DATA=../shared/data/train] [TESTS=../shared/data/test] [TIME=2h] [DEVICE=cuda]
    python bench/evidence.py --data DATA [--tests TESTS] [--time-limit 2h] [--device cuda] [--only small]

The steps are those of `steps`, in this order. What is done is known from the folders of runs and results, so copied folders
go on anywhere; a training that the time limit or Ctrl-C stops goes on where it was (a measurement, of minutes, is not cut
short). Done is what was made by the recipe, from the file and on the test images that are there now; `--list` says what is.
What others need is copied to `--results`: the runs' records, the scores of every ticket on TESTS, the table of pilots, and
the weights of some runs, packed. A run packed there and not in `--runs` is unpacked and goes on; one shown there as ended
and not packed is not trained again. To repeat everything from nothing, name a new folder for `--runs` and another for
`--results`. The page is made by `mirl report --evidence results/evidence -o docs/results.md`.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from evidence_files import Places, holds, is_published, pack, packs, publish, require_own_records, unpack
from evidence_measure import Step, crops_step, score_step, times_step
from mirl.cli.lottery import parse_seconds
from mirl.cli.progress import training_progress
from mirl.errors import MirlError
from mirl.files import make_folder, write_bytes
from mirl.lottery.budget import Budget, control_name
from mirl.lottery.controls import control, finished_run
from mirl.lottery.run import BEFORE, RunFolder, TrainingFolder
from mirl.lottery.search import search
from mirl.recipe import THREE_TASKS, PruneConfig, Recipe, TaskShare, recipe_from_dict, small_laboratory
from pilots import BASE, LESS_RAIN, PILOTS

Controls = tuple[tuple[str, int, Budget], ...]
CONTROLS: Controls = (
    ("reinit", 0, "level"),
    ("dense-small", 0, "level"),
    ("oneshot", 0, "level"),
    ("deeper", 0, "level"),
    ("shuffle", 0, "level"),
    ("partial-reset", 0, "level"),
    ("dense", 0, "total"),
    ("ticket", 0, "total"),
)
PUBLISHED = replace(small_laboratory(), name="small")  # what the published runs call it
# The shares of the tasks in the first search, whose tickets took rain away only in part; `small-web` shares its recipe.
WITH_LESS_RAIN = replace(PUBLISHED, tasks=LESS_RAIN)
# An earlier recipe, kept because its run tells what was tried: by magnitude, rewound to the initial values.
BY_MAGNITUDE = replace(
    PUBLISHED,
    train=replace(PUBLISHED.train, steps=3000, precision="bf16-mixed"),
    prune=PruneConfig(keep=0.10, fraction=0.55, normalise="prompts", min_layer_density=0.02),
    tasks=THREE_TASKS,
    rewind_step=0,
)
PACKED = ("small", "less-rain", "small-web", "small-start", "small-seed1")  # runs whose weights are published


@dataclass(frozen=True)
class Planned:
    """A run to make: its recipe, the controls beside it, and the run whose dense level it takes over."""

    recipe: Recipe
    controls: Controls = ()
    dense_from: str = ""


def plan() -> dict[str, Planned]:
    """All runs by name, the most telling first."""
    with_web = replace(WITH_LESS_RAIN, tasks=(*WITH_LESS_RAIN.tasks, TaskShare("web", 3.0)))
    # By cost over all layers the first pruning would empty those at full resolution: hence the floor.
    by_cost = replace(PUBLISHED, prune=replace(PUBLISHED.prune, score="macs", min_layer_density=0.05))
    return {
        "small": Planned(PUBLISHED, (*CONTROLS, ("dense-macs", 0, "level"))),
        "less-rain": Planned(WITH_LESS_RAIN, CONTROLS),
        "small-web": Planned(with_web),
        "small-macs": Planned(by_cost, dense_from="small"),
        "small-seed1": Planned(replace(PUBLISHED, seed=1), (("reinit", 0, "level"),)),
        "small-start": Planned(replace(PUBLISHED, rewind_step=0), (("reinit", 0, "level"),)),
        "magnitude": Planned(BY_MAGNITUDE),
    }


def steps(places: Places) -> Iterator[Step]:
    """All work, pilots first."""
    for name, recipe in PILOTS.items():
        thins = recipe.prune.keep < 1 and not recipe.rewind_step
        yield search_step(places, f"pilots/{name}", recipe, dense_from=f"pilots/{BASE}" if thins else "")
    for name, run in plan().items():
        yield from run_steps(places, name, run.recipe, run.controls, run.dense_from)


def run_steps(places: Places, name: str, recipe: Recipe, controls: Controls, dense_from: str = "") -> Iterator[Step]:
    """A search, its tickets measured, and each control with its ticket measured."""
    folder = RunFolder(places.runs / name)
    yield search_step(places, name, recipe, dense_from)
    if not holds(folder.path, recipe):
        return
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
    trained = [folder.level(level) for level in range(levels)]
    for kind, seed, budget in controls:
        place = folder.control(control_name(kind, seed, budget))
        yield Step(
            f"{name}: control {place.path.name}",
            partial(is_trained, folder, kind, budget, place),
            partial(train_control, places, folder.path, kind, seed, budget),
        )
        if is_trained(folder, kind, budget, place):
            yield from score_step(places, name, place)
            yield from weights_step(places, name, place)
            trained.append(place)
    if levels > 1 and folder.ticket.exists():
        yield times_step(places, name, {place.path.name: place.ticket for place in trained})
        if name in PACKED:
            yield crops_step(places, name, folder)


def search_step(places: Places, name: str, recipe: Recipe, dense_from: str = "") -> Step:
    run = places.runs / name
    source = places.runs / dense_from if dense_from else None

    def work(seconds: float | None) -> bool:
        require_own_records(places, name, recipe)
        with training_progress() as progress:
            return search(
                recipe, run, places.data, device=places.device, time_limit_seconds=seconds, progress=progress,
                dense_from=source if source and source.exists() else None,
            ).finished  # fmt: skip

    def done() -> bool:
        """Ended here, or published: what a fresh clone shows and does not hold is not trained once more.

        Where another recipe's run lies, it is not done, and the search refuses to go on there.
        """
        if run.exists():
            return holds(run, recipe) and (run / "ticket.mirl").exists()
        return is_published(places, name, recipe)

    return Step(f"{name}: search", done, work)


def is_trained(run: RunFolder, kind: str, budget: Budget, place: TrainingFolder) -> bool:
    """Whether a control has ended that has the recipe which it would get now; `control` refuses to go on with another."""
    if not (place.done and run.ticket.exists()):
        return False
    return recipe_from_dict(place.record()["recipe"]) == finished_run(run.path).control_recipe(kind, budget)


def train_control(places: Places, run: Path, kind: str, seed: int, budget: Budget, seconds: float | None) -> bool:
    with training_progress() as progress:
        return control(
            run, kind, places.data, seed=seed, budget=budget, device=places.device, time_limit_seconds=seconds,
            progress=progress,
        ).finished  # fmt: skip


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

    return Step(f"{name}: weights of {label}", lambda: packs(archive, files, places.runs), work)


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
    try:
        unpack(places)
        if options.list:
            for step in steps(places):
                print(f"{'done' if step.done() else '    '}  {step.name}")
            return
        try:
            advance(places, deadline, options.only or "")
        finally:
            publish(places, recipes())
    except MirlError as error:
        sys.exit(f"error: {error}")


def recipes() -> dict[str, Recipe]:
    """The recipe of every run."""
    return {name: run.recipe for name, run in plan().items()}


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
        publish(places, recipes())


if __name__ == "__main__":
    main()
