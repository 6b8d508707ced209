"""The scores of measured tickets, as `bench/evidence.py` writes them, and the columns that tables and plots show of them."""

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mirl.degrade.tasks import TASKS
from mirl.errors import MirlError
from mirl.evaluate.runs import Run
from mirl.files import read_json

COLUMNS = {  # task -> its sets; the images of all are one mean
    "denoise15": ("CBSD68",),
    "denoise25": ("CBSD68",),
    "denoise50": ("CBSD68",),
    "derain": ("Rain100L",),
    "dehaze": ("SOTS", "HSTS"),
    "web": ("Kodak24",),
    "clean": ("Kodak24",),
}
FIGURES = ("parameters", "nonzero", "density", "density_macs", "macs_per_pixel", "bytes", "dense_bytes")  # of a ticket
NOISE = ("denoise15", "denoise25", "denoise50")
NOT_IN_MEAN = ("web", "clean")  # the last of COLUMNS
HEADS = tuple(TASKS[name].label for name in COLUMNS)


@dataclass(frozen=True)
class Scored:
    """A measured ticket: run, place (level-NN or a control's name), its figures, PSNR by task, scores by image.

    `density` is what it keeps over all parameters of the network that was searched, also for a smaller dense network;
    `time` its CPU time as a ratio to CDnCNN-B's and `milliseconds`, None where they were not measured; `sha256` that of its
    file.
    """

    run: str
    place: str
    density: float
    figures: dict[str, float]
    psnr: dict[str, float]
    input_psnr: dict[str, float]
    images: tuple[dict[str, str], ...]
    time: float | None = None
    milliseconds: float | None = None
    sha256: str = ""
    ssim: dict[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over the three tasks, noise (itself a mean of three) counting once."""
        noise = statistics.fmean(self.psnr[task] for task in NOISE)
        return statistics.fmean((noise, self.psnr["derain"], self.psnr["dehaze"]))


def read_scores(folder: Path, runs: Sequence[Run]) -> list[Scored]:
    """Read the scores, in the protocol standard, of all tickets of `runs`.

    `folder` is the folder of results: scores/RUN-PLACE-standard.json and .csv, and times/RUN.json where the same files were
    timed. Raises MirlError for scores of a run or of a place in it that `runs` do not know, for scores of several
    versions of the test sets, and for damaged files.
    """
    scored: list[Scored] = []
    times: dict[tuple[str, str, str | None], tuple[float, float]] = {}
    tested: dict[str, Path] = {}
    totals = {run.label: run.dense.total for run in runs}
    known = {f"{run.label}-{place}" for run in runs for place in run.places}
    for name in totals:
        if (file := folder / "times" / f"{name}.json").exists():
            rows = read_json(file, "the times of a run", dict)["rows"]
            times |= {(name, row["place"], row.get("sha256")): (row["ratio"], row["median_ms"]) for row in rows}
    for file in sorted((folder / "scores").glob("*-standard.json")):
        label = file.name.removesuffix("-standard.json")
        value = read_json(file, "the scores of a ticket", dict)
        run = max((name for name in totals if label.startswith(name + "-")), key=len, default="")
        place = label[len(run) + 1 :]
        if label not in known:
            raise MirlError(f"{file} is of a training that has no records; expected one of {', '.join(sorted(known))}")
        tested.setdefault(value.get("tests", ""), file)
        if len(tested) > 1:
            files = " and ".join(map(str, tested.values()))
            raise MirlError(f"{files} do not name the same test sets; measure all on the same with `make evidence`")
        images = tuple(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
        keys = ("psnr", "input_psnr", "ssim")
        psnr, of_input, ssim = ({c: _column(value["rows"], c, key) for c in COLUMNS} for key in keys)
        if missing := [name for name in FIGURES if name not in value["figures"]]:
            raise MirlError(f"{file} does not say {', '.join(missing)} of the ticket; measure it again with `make evidence`")
        density = value["figures"]["nonzero"] / totals[run]
        sha256 = value.get("sha256", "")
        time, milliseconds = times.get((run, place, sha256 or "unknown"), (None, None))
        scored.append(
            Scored(run, place, density, value["figures"], psnr, of_input, images, time, milliseconds, sha256, ssim)
        )
    return scored


def ratio(value: float) -> str:
    """Return a ratio with two significant digits, or as an integer."""
    return f"{value:.0f}" if value >= 10 else f"{value:#.2g}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, first column left, others right, with a blank line after it."""
    marks = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)] + [""]


def _column(rows: Sequence[dict[str, Any]], name: str, key: str) -> float:
    """Mean over the images of the sets of a column, or of all sets of its task where it has none of those."""
    mine = [row for row in rows if row["task"] == name]
    mine = [row for row in mine if row["set"] in COLUMNS[name]] or mine
    if not mine:
        raise MirlError(f"a ticket's scores hold no row of {name}; expected all of {', '.join(COLUMNS)}")
    return sum(row[key] * row["images"] for row in mine) / sum(row["images"] for row in mine)
