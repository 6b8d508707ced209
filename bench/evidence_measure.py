"""The steps of `bench/evidence.py` that measure tickets: PSNR on the test sets, CPU time, pictures."""

import json
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from evidence_files import Places
from mirl.data.pairs import fingerprint
from mirl.engine.engine import open_backend, restore_pixels
from mirl.evaluate.benchmark import evaluate
from mirl.evaluate.crops import write_strips
from mirl.evaluate.scores import FIGURES
from mirl.evaluate.speed import machine
from mirl.files import make_folder, sha256, write_json
from mirl.lottery.budget import control_name
from mirl.lottery.run import RunFolder, TrainingFolder
from mirl.ticket import describe_ticket, read_ticket
from ticket_times import measure_times

MEASURED = ("denoise15", "denoise25", "denoise50", "derain", "dehaze", "web", "clean")
PICTURED = ("denoise25", "derain", "dehaze")
ROUNDS = 7  # of timing


@dataclass(frozen=True)
class Step:
    """One piece of work: `done` asks the files, `work` takes the seconds left (None: no limit) and says whether it ended."""

    name: str
    done: Callable[[], bool]
    work: Callable[[float | None], bool]


def longer(run: RunFolder) -> TrainingFolder:
    """The ticket's training with the budget of the whole search."""
    return run.control(control_name("ticket", 0, "total"))


def best_ticket(run: RunFolder) -> TrainingFolder:
    """What is worth shipping of a run: its last level, or the same trained longer where validation prefers that."""
    last, more = run.finished_levels[-1], longer(run)
    return max([last, more] if more.done else [last], key=mean_validation)


def mean_validation(place: TrainingFolder) -> float:
    return statistics.fmean(value["psnr"] for value in place.record()["validation"].values())


def score_step(places: Places, name: str, place: TrainingFolder) -> Iterator[Step]:
    """Measure one ticket on the test sets."""
    if (tests := places.tests) is None:
        return
    label = f"{name}-{place.path.name}"
    file = places.results / "scores" / f"{label}-standard.json"

    def done() -> bool:
        found = json.loads(file.read_text()) if file.exists() else {}
        return (found.get("sha256"), found.get("tests")) == (sha256(place.ticket), fingerprint(tests))

    yield Step(f"{label}: scores", done, partial(measure_ticket, places, label, place, file))


def measure_ticket(places: Places, label: str, place: TrainingFolder, file: Path, seconds: float | None) -> bool:
    """Write PSNR and SSIM of every set and image, with the figures of the ticket and how it was measured."""
    assert places.tests is not None
    ticket = read_ticket(place.ticket)
    backend = open_backend(ticket, "native")
    result = evaluate(lambda image: restore_pixels(backend, image), places.tests, "standard", MEASURED)
    make_folder(file.parent)
    result.write_csv(file.with_suffix(".csv"))
    command = f"mirl evaluate --ticket {place.ticket} --data TESTS --protocol standard --tasks {' '.join(MEASURED)}"
    figures = describe_ticket(ticket, place.ticket.stat().st_size)
    write_json(file, {
        **result.to_json(label), "figures": {key: figures[key] for key in FIGURES}, "sha256": sha256(place.ticket),
        "tests": fingerprint(places.tests), "command": command, "machine": machine(),
    })  # fmt: skip
    return True


def times_step(places: Places, name: str, tickets: dict[str, Path]) -> Step:
    """CPU time of every level and control."""
    file = places.results / "times" / f"{name}.json"

    def work(seconds: float | None) -> bool:
        make_folder(file.parent)
        write_json(file, {**measure_times(tickets, ROUNDS), "command": "make evidence"})
        return True

    def done() -> bool:
        rows = json.loads(file.read_text())["rows"] if file.exists() else []
        return [(row["place"], row.get("sha256")) for row in rows] == [(place, sha256(t)) for place, t in tickets.items()]

    return Step(f"{name}: times", done, work)


def crops_step(places: Places, name: str, run: RunFolder) -> Step:
    """Pictures of the dense level and the ticket."""
    folder = places.results / "crops" / name
    tickets = {"dense": run.level(0).ticket, "ticket": best_ticket(run).ticket}
    made_of = {label: sha256(path) for label, path in tickets.items()}

    def work(seconds: float | None) -> bool:
        write_strips(*(read_ticket(path) for path in tickets.values()), PICTURED, folder)
        write_json(folder / "sha256.json", made_of)
        return True

    def done() -> bool:
        file = folder / "sha256.json"
        return file.exists() and json.loads(file.read_text()) == made_of

    return Step(f"{name}: crops", done, work)
