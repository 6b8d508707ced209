"""The scores of measured tickets, as `bench/evidence.py` writes them, and the columns that tables and plots show of them."""

import csv
import io
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
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
HEADS = ("noise 15", "noise 25", "noise 50", "rain", "haze", "web", "clean")


@dataclass(frozen=True)
class Scored:
    """A measured ticket: run, place (level-NN or a control's name), its figures, PSNR by task, scores by image.

    `density` is what it keeps over all parameters of the network that was searched, also for a smaller dense network;
    `time` its CPU time as a ratio to CDnCNN-B's, None where it was not measured; `sha256` that of its file.
    """

    run: str
    place: str
    density: float
    figures: dict[str, float]
    psnr: dict[str, float]
    input_psnr: dict[str, float]
    images: tuple[dict[str, str], ...]
    time: float | None = None
    sha256: str = ""

    @property
    def mean(self) -> float:
        """Mean over the three tasks, noise (itself a mean of three) counting once."""
        noise = statistics.fmean(self.psnr[f"denoise{sigma}"] for sigma in (15, 25, 50))
        return statistics.fmean((noise, self.psnr["derain"], self.psnr["dehaze"]))


def read_scores(folder: Path, totals: dict[str, int]) -> list[Scored]:
    """Read the scores, in the protocol standard, of all tickets of the runs whose parameters `totals` counts.

    `folder` is the folder of results: scores/RUN-PLACE-standard.json and .csv, and times/RUN.json where they were measured.
    Raises MirlError for scores of a run that `totals` does not know, and for damaged files.
    """
    scored: list[Scored] = []
    times: dict[tuple[str, str], float] = {}
    for name in totals:
        if (file := folder / "times" / f"{name}.json").exists():
            times |= {(name, row["place"]): row["ratio"] for row in read_json(file, "the times of a run", dict)["rows"]}
    for file in sorted((folder / "scores").glob("*-standard.json")):
        label = file.name.removesuffix("-standard.json")
        value = read_json(file, "the scores of a ticket", dict)
        run = max((name for name in totals if label.startswith(name + "-")), key=len, default="")
        place = label[len(run) + 1 :]
        if not run:
            raise MirlError(f"{file} is of a run that has no records; expected one of {', '.join(totals)}")
        images = tuple(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
        psnr, of_input = ({c: _column(value["rows"], c, key) for c in COLUMNS} for key in ("psnr", "input_psnr"))
        density = value["figures"]["nonzero"] / totals[run]
        time = times.get((run, place))
        sha256 = value.get("sha256", "")
        scored.append(Scored(run, place, density, value["figures"], psnr, of_input, images, time, sha256))
    return scored


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
