"""The results page: what `bench/evidence.py` left in a folder of results, as Markdown with SVG and CSV beside it.

    FOLDER/runs/NAME/...        records of the runs: recipe.json, level.json, control.json, metrics.jsonl (no weights)
    FOLDER/scores/NAME-PLACE-PROTOCOL.json, .csv   a ticket on the test sets, by set and by image
    FOLDER/times/NAME.json      CPU time of a run's tickets (may be missing)
    FOLDER/crops/NAME/          pictures of a run (may be missing)
    FOLDER/pilots.json          short trainings by which the recipe was chosen (may be missing)
    FOLDER/../people.json       what people have (may be missing)
    FOLDER/../peers.json        other programs on the same test sets (may be missing)

Every number on the page comes from these files; the verdict is computed.
"""

import os
import statistics
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.evaluate.evidence_people import people_part
from mirl.evaluate.evidence_run import run_part, scores_table, shares_of
from mirl.evaluate.peers import peers_part
from mirl.evaluate.runs import Run, read_runs
from mirl.evaluate.scores import COLUMNS, HEADS, Scored, read_scores, table
from mirl.evaluate.verdict import differences, ends, ours, paired_mean, ships, tasks_of, verdict
from mirl.files import make_folder, read_json, write_bytes
from mirl.recipe import recipe_from_dict, to_dict

MARKS = ("<!-- results: made by `mirl report --evidence`, do not edit -->", "<!-- end of results -->")


def write_results(folder: Path, page: Path, command: str, readme: Path | None = None) -> list[Path]:
    """Write the page (Markdown) of the evidence in `folder`, with the folder STEM-files beside it; return all files.

    What lies between the lines MARKS of `readme` is replaced by the result of the first run, or of the one called "small".
    Raises MirlError when `folder` holds no runs or no scores, or a damaged file, and when `readme` has no such lines.
    """
    folder, page = Path(folder), Path(page)
    if page.suffix.lower() != ".md":
        raise MirlError(f"the results page is Markdown, found {page}; expected a name ending in .md")
    if readme is not None:
        _around_marks(readme)
    found = sorted(path.parents[1] for path in (folder / "runs").glob("*/level-00/level.json"))  # not one just begun
    if not found:
        raise MirlError(f"{folder} holds no runs; expected FOLDER/runs/NAME as `make evidence` writes them")
    runs = sorted(read_runs(found), key=lambda run: run.label != "small")
    scored = read_scores(folder, runs)
    beside = make_folder(page.with_name(f"{page.stem}-files"))
    files: dict[str, str] = {}
    guide = page.with_name("reports.md")
    guide_link = f"[{guide.name}]({guide.name})" if guide.exists() else f"`docs/{guide.name}`"
    made = (
        f"Made by `{command}` from the files in `{folder.name}`, which `make evidence` makes in as many windows of time as "
        "it takes. To repeat all of it from nothing: `make evidence DATA=TRAINING TESTS=TESTS RUNS=runs/again "
        "RESULTS=results/again`, on a GPU with `DEVICE=cuda`. What the controls ask, how to "
        f"read the page, and its data: {guide_link}."
    )
    lines = ["# Results", "", made, ""]
    lines += _overview(runs, scored)
    for run in runs:
        mine = [each for each in scored if each.run == run.label]
        lines += run_part(folder, run, mine, files, page)
    lines += people_part(folder.parent / "people.json")
    lines += peers_part(folder.parent / "peers.json", _offered(runs, scored), scored, files)
    lines += _pilots_part(folder / "pilots.json")
    for old in beside.glob("*.*"):
        if old.name not in files and old.suffix in (".svg", ".csv"):
            old.unlink()  # of a run or a peer that is no longer there
    for name, text in files.items():
        write_bytes(beside / name, text.encode())
    write_bytes(page, ("\n".join(lines).rstrip() + "\n").replace("FILES/", f"{beside.name}/").encode())
    written = [page, *(beside / name for name in files)]
    if readme is not None:
        _write_readme(readme, runs[0], scored, page)
        written.append(readme)
    return written


def _write_readme(readme: Path, run: Run, scored: Sequence[Scored], page: Path) -> None:
    """Put verdict, table and one plot a task between the marks."""
    before, rest = _around_marks(readme)
    mine = [each for each in scored if each.run == run.label]
    where = os.path.relpath(page.with_name(f"{page.stem}-files"), readme.parent)
    shown = {"mean": "mean of three tasks", "denoise25": "noise 25"}
    pictures = [f"![PSNR against density: {of}]({where}/{run.label}-{name}.svg)" for name, of in shown.items() if mine]
    link = f"Controls, crops, other programs, cost: [{page.name}]({os.path.relpath(page, readme.parent)})."
    lines = [MARKS[0], "", verdict(run, mine), "", *scores_table(run, mine), *pictures, "", link, "", MARKS[1]]
    write_bytes(readme, (before + "\n".join(lines) + rest).encode())


def _around_marks(readme: Path) -> tuple[str, str]:
    """What stands before the first mark and after the second. Raises MirlError unless both are there, once."""
    text = readme.read_text() if readme.exists() else ""
    if any(text.count(mark) != 1 for mark in MARKS) or text.index(MARKS[0]) > text.index(MARKS[1]):
        raise MirlError(f"{readme} has no place for results; expected the lines {MARKS[0]} and {MARKS[1]}, once each")
    return text.split(MARKS[0])[0], text.split(MARKS[1])[1]


def _overview(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """One line a run: its ticket beside its dense level; what was tried, also where it lost."""
    rows = []
    for run in runs:
        dense, last = ends(run, scored)
        best = ours(run, scored)
        if best is not None and last is not None and dense is not None and run.last.number:
            train, prune = run.recipe["train"], run.recipe["prune"]
            tried = f"{prune['score']}, {prune['scope']}, rewound to update {run.recipe['rewind_step']:,}"
            if exponent := prune.get("rate_exponent", 0.0):
                tried += f", rates times d^-{exponent:g}"
            trained = f"{train.get('optimizer', 'adamw')} {train['learning_rate']:g}, {train['steps']:,}"
            rows.append([f"[{run.label}](#{run.label})", tried, trained,
                         str(run.seed), f"{last.density:.2%}", f"{dense.mean:.2f}", f"{last.mean:.2f}",
                         f"{last.mean - dense.mean:+.2f}", f"{best.mean:.2f}" if ships(best) else ""])  # fmt: skip
    head = ["run", "pruned by", "optimizer, rate, updates a level", "seed", "density", "dense dB", "ticket dB", "difference",
            "in the package dB"]  # fmt: skip
    text = "Mean PSNR over the three tasks of the test sets, noise (itself the mean of three strengths) counting once. Runs "
    text += (
        "may differ in more than this table holds: their own parts say how they were trained. magnitude: by size; lamp: by "
    )
    text += (
        "a weight's square over those of its layer that are not smaller (Lee et al. 2021); macs: by size against what the "
    )
    text += "weight costs to compute. Rates times d^-0.5: a tensor pruned to density d learns at that multiple of the rate. "
    text += "Muon: steps along the orthogonalised momentum of every matrix (Jordan 2024)."
    said = [*_best_dense(runs, scored), *_other_seeds(runs, scored), *_price_of_tasks(runs, scored)]
    return [text, "", *table(head, rows), *said] if rows else []


def _best_dense(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """Say so where another dense network than its own is the one that a ticket in the package should be held against."""
    dense = [each for each in scored if each.place in ("level-00", "dense-total")]
    updates = {(run.label, place): each.steps for run in runs for place, each in run.trainings.items()}
    best, lines = max(dense, key=lambda each: each.mean, default=None), []
    for run in runs:
        mine = ours(run, scored)
        if mine is not None and best is not None and ships(mine) and best.run != run.label:
            text = f"The best dense network of full size on this page, {best.place} of {best.run}, has {best.mean:.2f} dB "
            text += (
                f"in the mean after {updates[best.run, best.place]:,} updates; the ticket of {run.label} in the package, "
            )
            text += f"after {updates[mine.run, mine.place]:,} and for {len(tasks_of(run))} tasks, is at "
            text += f"{paired_mean(mine, best)} dB from it ({differences(mine, best)})."
            lines += [text, ""]
    return lines


def _offered(runs: Sequence[Run], scored: Sequence[Scored]) -> list[Scored]:
    """The tickets in the package; where none of these runs has one there, those of the last levels."""
    found = [each for run in runs if (each := ours(run, scored))]
    return [each for each in found if ships(each)] or found


def _price_of_tasks(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """What a ticket pays for more tasks: beside that of a run of the same recipe without them."""
    lines = []
    for run, more in permutations(runs, 2):
        (_, before), (_, after) = ends(run, scored), ends(more, scored)
        grown = tasks_of(run) < tasks_of(more) and all(share in more.recipe["tasks"] for share in run.recipe["tasks"])
        if grown and _without(run, "tasks") == _without(more, "tasks") and before and after:
            new = ", ".join(sorted(tasks_of(more) - tasks_of(run)))
            text = (
                f"One task more, {new}, in as many updates: the ticket of {more.label} is at {paired_mean(after, before)} "
            )
            lines += [f"{text}dB from that of {run.label} ({differences(after, before)}).", ""]
    return lines


def _other_seeds(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """What runs of one recipe and several seeds have in common: ticket and controls beside the dense level of each."""
    lines, told = [], set[str]()
    for run in runs:
        same = [other for other in runs if _without(other, "seed") == _without(run, "seed") and all(ends(other, scored))]
        same = [other for other in same if other.last.number == same[0].last.number]
        if run.label in told or len(same) < 2:
            continue
        told |= {other.label for other in same}
        found = [{each.place: each for each in scored if each.run == other.label} for other in same]
        last = f"level-{same[0].last.number:02d}"
        pairs = [(last, "level-00"), *((place, last) for place in found[0] if not place.startswith("level-"))]
        rows = []
        for one, other in pairs:
            if all(one in places and other in places for places in found):
                gaps = [paired_mean(places[one], places[other]) for places in found]
                mean = statistics.fmean(gap.mean for gap in gaps)
                rows.append([f"{one} from {other}", *map(str, gaps), f"{mean:+.2f}"])
        if rows:
            seeds = [f"seed {other.seed} ({other.label})" for other in same]
            text = f"The recipe of {run.label} with {len(same)} seeds, differences in the mean of the three tasks, in dB:"
            lines += [text, "", *table(["", *seeds, "mean"], rows)]
    return lines


def _without(run: Run, field: str) -> dict[str, Any]:
    """The recipe of a run, what it does not name as usual, but for one field."""
    return {name: value for name, value in to_dict(recipe_from_dict(run.recipe)).items() if name != field}


def _pilots_part(file: Path) -> list[str]:
    if not file.exists():
        return []
    found = read_json(file, "the table of pilots", dict)["rows"]
    tasks = list(dict.fromkeys(task for row in found for task in row["validation_psnr"]))
    rows = [
        [r["pilot"], _choices(r["recipe"], r["density"]), f"{r['parameters']:,}", f"{r['density']:.0%}", str(r["steps"]),
         f"{r['seconds_per_step']:.2f}",
         f"{r['mean_psnr']:.2f}", *(f"{r['validation_psnr'][t]:.2f}" if t in r["validation_psnr"] else "" for t in tasks)]
        for r in found
    ]  # fmt: skip
    names = dict(zip(COLUMNS, HEADS, strict=True))
    head = ["pilot", "how", "parameters", "density", "updates", "s an update", "mean dB", *(names[task] for task in tasks)]
    shares = " or ".join(dict.fromkeys(shares_of(row["recipe"]) for row in found))
    what = "The choices behind the recipe, each in a short training (`bench/pilots.py`); the sparse ones prune the dense "
    what += f"network with Muon at 4e-3. Share of each task: {shares}. PSNR on validation images, mean over all tasks; one "
    what += "seed, so that small differences say little; seconds on a machine that had other work too. Highest mean: "
    kinds = ("dense", [r for r in found if r["density"] == 1]), ("sparse", [r for r in found if r["density"] < 1])
    best = [f"{max(mine, key=lambda r: r['mean_psnr'])['pilot']} of the {kind}" for kind, mine in kinds if mine]
    return ["## Pilots", "", f"{what}{', '.join(best)}.", "", *table(head, rows)]


def _choices(recipe: dict[str, Any], density: float) -> str:
    """What a pilot chose: of learning if it is dense, else of pruning."""
    train, prune, network = recipe["train"], recipe["prune"], recipe["network"]
    if density == 1:
        blocks = "-".join(map(str, network["blocks"]))
        rate = f"{train['optimizer']} {train['learning_rate']:g}"
        return f"{rate}, batch {train['batch']}, width {network['width']}, blocks {blocks}"
    text = f"{prune['score']}, {'over all layers' if prune['scope'] == 'global' else 'in each layer'}"
    text += ", prompts by their initial size" if prune["normalise"] == "prompts" else ""
    text += f", no layer below {prune['min_layer_density']:.0%}" if prune["min_layer_density"] else ""
    text += f", rates times d^-{prune['rate_exponent']:g}" if prune["rate_exponent"] else ""
    return text + f", rewound to update {recipe['rewind_step']}"
