"""The results page: what `bench/evidence.py` left in a folder of results, as Markdown with SVG and CSV beside it.

    FOLDER/runs/NAME/...        records of the runs: recipe.json, level.json, control.json, metrics.jsonl (no weights)
    FOLDER/scores/NAME-PLACE-PROTOCOL.json, .csv   a ticket on the test sets, by set and by image
    FOLDER/crops/NAME/          pictures of a run (may be missing)
    FOLDER/pilots.json          short trainings by which the recipe was chosen (may be missing)
    FOLDER/../peers.json        other programs on the same test sets (may be missing)

Every number on the page comes from these files; the verdict is computed.
"""

import csv
import io
import os
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.evaluate import plots
from mirl.evaluate.report import MATCH_DB, plot_layers
from mirl.evaluate.runs import Level, Run, read_runs
from mirl.files import csv_text, make_folder, read_json, write_bytes

COLUMNS = {  # task -> its sets; the images of all are one mean
    "denoise15": ("CBSD68",),
    "denoise25": ("CBSD68",),
    "denoise50": ("CBSD68",),
    "derain": ("Rain100L",),
    "dehaze": ("SOTS", "HSTS"),
    "clean": ("Kodak24",),
}
HEADS = ("noise 15", "noise 25", "noise 50", "rain", "haze", "clean")
WORST = 3  # images a task that the page names


@dataclass(frozen=True)
class Scored:
    """A measured ticket: run, place (level-NN or a control's name), its figures, PSNR by task, scores by image.

    `density` is what it keeps over all parameters of the network that was searched, also for a smaller dense network.
    """

    run: str
    place: str
    density: float
    figures: dict[str, float]
    psnr: dict[str, float]
    input_psnr: dict[str, float]
    images: tuple[dict[str, str], ...]

    @property
    def mean(self) -> float:
        """Mean over the three tasks, noise (itself a mean of three) counting once."""
        noise = statistics.fmean(self.psnr[f"denoise{sigma}"] for sigma in (15, 25, 50))
        return statistics.fmean((noise, self.psnr["derain"], self.psnr["dehaze"]))


def write_results(folder: Path, page: Path, command: str) -> list[Path]:
    """Write the page (Markdown) of the evidence in `folder`, with the folder STEM-files beside it; return all files.

    Raises MirlError when `folder` holds no runs or no scores, or a damaged file.
    """
    folder, page = Path(folder), Path(page)
    if page.suffix.lower() != ".md":
        raise MirlError(f"the results page is Markdown, found {page}; expected a name ending in .md")
    found = sorted(path.parent for path in (folder / "runs").glob("*/recipe.json"))
    if not found:
        raise MirlError(f"{folder} holds no runs; expected FOLDER/runs/NAME as `make evidence` writes them")
    runs = read_runs(found)
    scored = read_scores(folder / "scores", {run.label: run.dense.total for run in runs})
    beside = make_folder(page.with_name(f"{page.stem}-files"))
    files: dict[str, str] = {}
    lines = ["# Results", "", f"Made by `{command}` from the files in `{folder.name}`; `make evidence` makes those.", ""]
    for run in runs:
        mine = [each for each in scored if each.run == run.label]
        lines += _run_part(run, mine, files) + _crops_part(folder / "crops" / run.label, page)
    lines += _peers_part(folder.parent / "peers.json", runs, scored)
    lines += _pilots_part(folder / "pilots.json")
    for name, text in files.items():
        write_bytes(beside / name, text.encode())
    write_bytes(page, ("\n".join(lines).rstrip() + "\n").replace("FILES/", f"{beside.name}/").encode())
    return [page, *(beside / name for name in files)]


def read_scores(folder: Path, totals: dict[str, int]) -> list[Scored]:
    """Read the scores, in the protocol standard, of all tickets of the runs whose parameters `totals` counts."""
    scored = []
    for file in sorted(folder.glob("*-standard.json")):
        label = file.name.removesuffix("-standard.json")
        value = read_json(file, "the scores of a ticket", dict)
        run = max((name for name in totals if label.startswith(name + "-")), key=len, default="")
        place = label[len(run) + 1 :]
        if not run:
            raise MirlError(f"{file} is of a run that has no records; expected one of {', '.join(totals)}")
        images = tuple(csv.DictReader(io.StringIO(file.with_suffix(".csv").read_text())))
        psnr, of_input = ({c: _column(value["rows"], c, key) for c in COLUMNS} for key in ("psnr", "input_psnr"))
        density = value["figures"]["nonzero"] / totals[run]
        scored.append(Scored(run, place, density, value["figures"], psnr, of_input, images))
    return scored


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return a Markdown table, first column left, others right, with a blank line after it."""
    marks = ["---", *("---:" for _ in head[1:])]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)] + [""]


def verdict(run: Run, scored: Sequence[Scored]) -> str:
    """Say in plain words how the last measured level compares with its dense network on the test sets."""
    levels = {each.place: each for each in scored if each.place.startswith("level-")}
    dense, last = levels.get("level-00"), levels.get(f"level-{run.last.number:02d}")
    if dense is None or last is None or run.last.number == 0:
        return "The run has no measured ticket yet."
    gain = last.mean - dense.mean
    word = "matches" if abs(gain) < MATCH_DB else "beats" if gain > 0 else "loses to"
    text = f"**The ticket keeps {last.density:.2%} of all parameters and {word} its dense network: {gain:+.2f} dB**"
    by_task = ", ".join(f"{head} {last.psnr[c] - dense.psnr[c]:+.2f}" for head, c in zip(HEADS, COLUMNS, strict=True))
    text += f" mean PSNR over the three tasks of the test sets ({by_task})."
    worse = [head for head, c in zip(HEADS[:-1], COLUMNS, strict=False) if last.psnr[c] < last.input_psnr[c]]
    text += f" Worse than left alone: {', '.join(worse)}." if worse else " No task is worse than left alone."
    controls = [each for each in scored if not each.place.startswith("level-") and each.place != "deeper"]
    equal = [each for each in controls if each.density <= last.density * 1.001]
    if equal:
        best = max(equal, key=lambda each: each.mean)
        word = "a winning" if best.mean < last.mean - MATCH_DB else "not shown to be a winning"
        text += f" Of {len(equal)} measured controls of its size the strongest, {best.place}, is at "
        text += f"{best.mean - last.mean:+.2f} dB from it: by these runs it is {word} ticket."
    else:
        text += " No control of its size is measured yet, so nothing says whether it is a *winning* ticket."
    return text + " This run is one seed: it says nothing about the spread."


def _run_part(run: Run, scored: Sequence[Scored], files: dict[str, str]) -> list[str]:
    train = run.recipe["train"]
    lines = [f"## {run.label}", "", verdict(run, scored), ""]
    lines += [
        f"Recipe {run.recipe['name']}, seed {run.seed}: {run.dense.total:,} parameters, {train['steps']} updates a level of "
        f"{train['batch']} patches of {train['patch']} pixels.",
        "",
    ]
    trained = {f"level-{level.number:02d}": level for level in run.levels} | {c.name: c for c in run.controls}
    if scored:
        first = scored[0]
        rows = [["input", "", "", *(f"{first.input_psnr[c]:.2f}" for c in list(COLUMNS)[:-1]), ""]]
        for name in [n for n in trained if n in {each.place for each in scored}]:
            each = next(s for s in scored if s.place == name)
            figures = each.figures
            size = [f"{each.density:.2%}", f"{figures['bytes'] / 1000:.0f}"]
            rows.append([name, *size, *(f"{each.psnr[c]:.2f}" for c in COLUMNS)])
        lines += [
            "PSNR in dB on the test sets, protocol `standard`, blind: CBSD68 with noise, Rain100L, SOTS and HSTS; `clean`: "
            "Kodak24 as it is against what comes out.",
            "",
        ]
        lines += table(["ticket", "density", "kB", *HEADS], rows)
        files[f"{run.label}-tests.csv"] = csv_text(["ticket", "density", "bytes", *COLUMNS], (
            [s.place, s.density, s.figures["bytes"], *(s.psnr[c] for c in COLUMNS)] for s in scored))  # fmt: skip
        levels = [s for s in scored if s.place.startswith("level-")]
        others = [s for s in scored if not s.place.startswith("level-")]
        for name, head in (("mean", "mean of three tasks"), *zip(COLUMNS, HEADS, strict=True)):
            series = [_series(run.label, levels, name)] if levels else []
            svg = plots.psnr_against_density(head, series, [_series(o.place, [o], name) for o in others])
            files[f"{run.label}-{name}.svg"] = svg
            lines.append(f"![PSNR against density: {head}](FILES/{run.label}-{name}.svg)")
        lines += ["", *_worst_part(run, scored)]
    if run.last.number and (svg := plot_layers(run)):
        files[f"{run.label}-layers.svg"] = svg
        lines += [f"![Density of every layer](FILES/{run.label}-layers.svg)", ""]
    lines += ["Cost of the trainings:", "", *_cost_table(trained)]
    return lines


def _worst_part(run: Run, scored: Sequence[Scored]) -> list[str]:
    """Name the images that the last level helps least, by task."""
    last = next((s for s in scored if s.place == f"level-{run.last.number:02d}"), None)
    if last is None or not run.last.number:
        return []
    rows = []
    for head, column in zip(HEADS[:-1], COLUMNS, strict=False):
        mine = [i for i in last.images if i["task"] == column]
        mine = [i for i in mine if i["set"] in COLUMNS[column]] or mine
        gains = sorted((float(i["psnr"]) - float(i["input_psnr"]), i["image"]) for i in mine)
        harmed = sum(gain < 0 for gain, _ in gains)
        median = statistics.median(gain for gain, _ in gains) if gains else 0.0
        named = ", ".join(f"{image} {gain:+.2f}" for gain, image in gains[:WORST])
        rows.append([head, str(len(gains)), str(harmed), f"{median:+.2f}", f"{gains[-1][0]:+.2f}" if gains else "", named])
    heads = ["task", "images", "harmed", "median gain dB", "best", "worst images"]
    return ["Gain of the ticket over the input, image by image:", "", *table(heads, rows)]


def _crops_part(folder: Path, page: Path) -> list[str]:
    """The crops of a run, where they were made, under what they show."""
    if not (folder / "crops.json").exists():
        return []
    where = os.path.relpath(folder, page.parent)
    lines = [
        "Free photographs that never trained anything, 1:1: degraded, dense level, ticket, clean; PSNR of the whole.",
        "",
    ]
    for strip in read_json(folder / "crops.json", "the list of crops", list):
        scores = ", ".join(f"{name} {strip[name]:.2f}" for name in ("degraded", "dense", "ticket"))
        lines += [f"{strip['task']}, {strip['rank']} of the held-out photographs ({strip['photo']}): {scores} dB", ""]
        lines += [f"![{strip['task']}, {strip['rank']}: degraded, dense, ticket, clean]({where}/{strip['file']})", ""]
    return lines


def _cost_table(trained: dict[str, Level]) -> list[str]:
    rows = [
        [name, f"{level.density:.2%}", f"{level.steps:,}", f"{level.seconds / 60:.1f}"] for name, level in trained.items()
    ]
    updates, seconds = (sum(getattr(level, name) for level in trained.values()) for name in ("steps", "seconds"))
    rows.append(["all", "", f"{updates:,}", f"{seconds / 60:.1f}"])
    return table(["training", "density", "updates", "minutes"], rows)


def _peers_part(file: Path, runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """The last level of every run among other programs, also where they win."""
    if not file.exists():
        return []
    peers = read_json(file, "the table of other programs", dict)
    rows = []
    for run in runs:
        last = next((s for s in scored if (s.run, s.place) == (run.label, f"level-{run.last.number:02d}")), None)
        if last is not None:
            cells = [f"**{last.psnr[c]:.2f}**" for c in COLUMNS]
            size = [f"{last.figures['nonzero'] / 1000:.0f} k", f"{last.figures['bytes'] / 1e6:.2f}"]
            rows.append([f"**ours, {run.label}**", "all, blind", *size, *cells, ""])
    for peer in peers["rows"]:
        size = [f"{peer['parameters'] / 1000:g} k" if peer["parameters"] else "", f"{peer['megabytes'] or ''}"]
        cells = [f"{peer[c]:.2f}" if c in peer else "" for c in COLUMNS]
        rows.append([peer["method"], peer["serves"], *size, *cells, peer.get("note", "")])
    head = ["method", "serves", "parameters", "MB", *HEADS, "note"]
    return ["## Beside other programs", "", f"Theirs: {peers['source']}.", "", *table(head, rows)]


def _pilots_part(file: Path) -> list[str]:
    if not file.exists():
        return []
    rows = [
        [r["pilot"], f"{r['parameters']:,}", str(r["steps"]), f"{r['seconds_per_step']:.2f}", f"{r['mean_psnr']:.2f}",
         *(f"{value:.2f}" for value in r["validation_psnr"].values())]
        for r in read_json(file, "the table of pilots", dict)["rows"]
    ]  # fmt: skip
    head = ["pilot", "parameters", "updates", "s an update", "mean dB", *HEADS[:-1]]
    what = "Short dense trainings by which the recipe was chosen; validation PSNR."
    return ["## Pilots", "", what, "", *table(head, rows)]


def _series(label: str, scored: Sequence[Scored], column: str) -> plots.Series:
    values = tuple(s.mean if column == "mean" else s.psnr[column] for s in scored)
    return plots.Series(label, tuple(s.density for s in scored), values, values, values)


def _column(rows: Sequence[dict[str, Any]], name: str, key: str) -> float:
    """Mean over the images of the sets of a column, or of all sets of its task where it has none of those."""
    mine = [row for row in rows if row["task"] == name]
    mine = [row for row in mine if row["set"] in COLUMNS[name]] or mine
    if not mine:
        raise MirlError(f"a ticket's scores hold no row of {name}; expected all of {', '.join(COLUMNS)}")
    return sum(row[key] * row["images"] for row in mine) / sum(row["images"] for row in mine)
