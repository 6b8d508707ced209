"""The results page: what `bench/evidence.py` left in a folder of results, as Markdown with SVG and CSV beside it.

    FOLDER/runs/NAME/...        records of the runs: recipe.json, level.json, control.json, metrics.jsonl (no weights)
    FOLDER/scores/NAME-PLACE-PROTOCOL.json, .csv   a ticket on the test sets, by set and by image
    FOLDER/times/NAME.json      CPU time of a run's tickets (may be missing)
    FOLDER/crops/NAME/          pictures of a run (may be missing)
    FOLDER/pilots.json          short trainings by which the recipe was chosen (may be missing)
    FOLDER/../peers.json        other programs on the same test sets (may be missing)

Every number on the page comes from these files; the verdict is computed.
"""

import hashlib
import os
import statistics
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.evaluate import plots
from mirl.evaluate.peers import peers_part
from mirl.evaluate.report import MATCH_DB, plot_layers
from mirl.evaluate.runs import Level, Run, read_runs
from mirl.evaluate.scores import COLUMNS, HEADS, Scored, read_scores, table
from mirl.files import csv_text, make_folder, read_json, write_bytes
from mirl.ticket import shipped

WARM = ("finetune", "lr-rewind", "partial-reset")  # controls that do not put back every tensor
WORST = 3  # images a task that the page names
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
    scored = read_scores(folder, {run.label: run.dense.total for run in runs})
    beside = make_folder(page.with_name(f"{page.stem}-files"))
    files: dict[str, str] = {}
    made = (
        f"Made by `{command}` from the files in `{folder.name}`, which `make evidence` makes in as many windows of time as "
        "it takes. To repeat all of it from nothing: `make evidence DATA=TRAINING TESTS=TESTS RUNS=runs/again "
        "RESULTS=results/again`, on a GPU with `DEVICE=cuda`."
    )
    lines = ["# Results", "", made, ""]
    lines += _overview(runs, scored)
    for run in runs:
        mine = [each for each in scored if each.run == run.label]
        lines += _run_part(folder, run, mine, files) + _crops_part(folder / "crops" / run.label, page)
    lines += peers_part(folder.parent / "peers.json", [s for run in runs if (s := _ours(run, scored))], scored, files)
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
    names = [f"{run.label}-mean.svg", f"{run.label}-denoise25.svg"]
    pictures = [f"![PSNR against density]({where}/{name})" for name in names if mine]
    link = f"Controls, crops, other programs, cost: [{page.name}]({os.path.relpath(page, readme.parent)})."
    lines = [MARKS[0], "", verdict(run, mine), "", *_scores_table(run, mine), *pictures, "", link, "", MARKS[1]]
    write_bytes(readme, (before + "\n".join(lines) + rest).encode())


def _around_marks(readme: Path) -> tuple[str, str]:
    """What stands before the first mark and after the second. Raises MirlError unless both are there, once."""
    text = readme.read_text() if readme.exists() else ""
    if any(text.count(mark) != 1 for mark in MARKS) or text.index(MARKS[0]) > text.index(MARKS[1]):
        raise MirlError(f"{readme} has no place for results; expected the lines {MARKS[0]} and {MARKS[1]}, once each")
    return text.split(MARKS[0])[0], text.split(MARKS[1])[1]


def _tasks(run: Run) -> set[str]:
    """What a run was trained on."""
    return {share["task"] for share in run.recipe["tasks"]}


def _ends(run: Run, scored: Sequence[Scored]) -> tuple[Scored | None, Scored | None]:
    """The tickets of a run's dense level and of its last, where they are measured."""
    levels = {each.place: each for each in scored if each.run == run.label}
    return levels.get("level-00"), levels.get(f"level-{run.last.number:02d}")


def _ships(each: Scored) -> bool:
    """Whether a measured ticket is the one in the package under the name of its run."""
    file = shipped().get(each.run)
    return file is not None and hashlib.sha256(file.read_bytes()).hexdigest() == each.sha256


def _ours(run: Run, scored: Sequence[Scored]) -> Scored | None:
    """The ticket of a run that is in the package, else that of its last level."""
    return next((each for each in scored if each.run == run.label and _ships(each)), _ends(run, scored)[1])


def _overview(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """One line a run: its ticket beside its dense level; what was tried, also where it lost."""
    rows = []
    for run in runs:
        dense, last = _ends(run, scored)
        if last is not None and dense is not None and run.last.number:
            train, prune = run.recipe["train"], run.recipe["prune"]
            tried = f"{prune['score']}, {prune['scope']}, rewound to update {run.recipe['rewind_step']:,}"
            if exponent := prune.get("rate_exponent", 0.0):
                tried += f", rates times d^-{exponent:g}"
            trained = f"{train.get('optimizer', 'adamw')} {train['learning_rate']:g}, {train['steps']:,}"
            rows.append([f"[{run.label}](#{run.label})", tried, trained,
                         str(run.seed), f"{last.density:.2%}", f"{dense.mean:.2f}", f"{last.mean:.2f}",
                         f"{last.mean - dense.mean:+.2f}"])  # fmt: skip
    head = ["run", "pruned by", "optimizer, rate, updates a level", "seed", "density", "dense dB", "ticket dB", "difference"]
    text = "Mean PSNR over the three tasks of the test sets, noise (itself the mean of three strengths) counting once:"
    return [text, "", *table(head, rows), *_price_of_tasks(runs, scored)] if rows else []


def _price_of_tasks(runs: Sequence[Run], scored: Sequence[Scored]) -> list[str]:
    """What a ticket pays for more tasks: beside that of a run of the same recipe without them."""
    lines = []
    for run, more in permutations(runs, 2):
        (_, before), (_, after) = _ends(run, scored), _ends(more, scored)
        if _tasks(run) < _tasks(more) and _but_tasks(run) == _but_tasks(more) and before and after:
            new = ", ".join(sorted(_tasks(more) - _tasks(run)))
            text = f"One task more, {new}, in as many updates: the ticket of {more.label} beside that of {run.label}, in dB:"
            lines += [f"{text} {_differences(after, before)}.", ""]
    return lines


def _differences(one: Scored, other: Scored) -> str:
    """By how much `one` is better, task by task."""
    return ", ".join(f"{head} {one.psnr[c] - other.psnr[c]:+.2f}" for head, c in zip(HEADS, COLUMNS, strict=True))


def _but_tasks(run: Run) -> dict[str, Any]:
    """The recipe of a run without its tasks."""
    return {name: value for name, value in run.recipe.items() if name != "tasks"}


def verdict(run: Run, scored: Sequence[Scored]) -> str:
    """Say in plain words how the last measured level compares with its dense network on the test sets."""
    dense, last = _ends(run, scored)
    if dense is None or last is None or run.last.number == 0:
        return "The run has no measured ticket yet."
    gain = last.mean - dense.mean
    word = "matches" if abs(gain) < MATCH_DB else "beats" if gain > 0 else "loses to"
    text = f"**The ticket keeps {last.density:.2%} of all parameters and {word} its dense network: {gain:+.2f} dB**"
    text += f" mean PSNR over noise, rain and haze of the test sets ({_differences(last, dense)})."
    worse = [
        head + ("" if c in _tasks(run) else " (on which it was not trained)")
        for head, c in zip(HEADS, COLUMNS, strict=True)
        if c != "clean" and last.psnr[c] < last.input_psnr[c]
    ]
    text += f" Worse than left alone: {', '.join(worse)}." if worse else " Nothing is worse than left alone."
    controls = [each for each in scored if not each.place.startswith(("level-", "deeper", "ticket"))]
    equal = [each for each in controls if each.density <= last.density * 1.001]
    warm = [each for each in equal if each.place.startswith(WARM)]
    if cold := [each for each in equal if each not in warm]:
        best = max(cold, key=lambda each: each.mean)
        beaten, matched = best.mean < last.mean - MATCH_DB, gain > -MATCH_DB
        text += f" Of {len(cold)} measured controls of its size the strongest, {best.place}, is at "
        text += f"{best.mean - last.mean:+.2f} dB from it: "
        text += "it beats them, yet " if beaten and not matched else ""
        text += f"by these runs it is {'a winning' if beaten and matched else 'not shown to be a winning'} ticket."
    else:
        text += " No control of its size is measured yet, so nothing says whether it is a *winning* ticket."
    if warm:
        text += " Begun from values that stay trained: "
        text += ", ".join(f"{each.place} at {each.mean - last.mean:+.2f} dB" for each in warm) + " from it."
    return text + _longer(run, scored) + " This run is one seed: it says nothing about the spread."


def _longer(run: Run, scored: Sequence[Scored]) -> str:
    """What ticket and dense network make of all updates of the search in one training, beside the dense level of one."""
    longer = {each.place.removesuffix("-total"): each for each in scored if each.place.endswith("-total")}
    level, _ = _ends(run, scored)
    named = [
        (f"the {name}", longer[key]) for key, name in (("ticket", "ticket"), ("dense", "dense network")) if key in longer
    ]
    if not named or level is None:
        return ""
    text = f" Trained longer, for the {sum(each.steps for each in run.levels):,} updates of all levels at once, "
    text += " and ".join(f"{name} is at {each.mean - level.mean:+.2f} dB" for name, each in named)
    return text + f" from that dense network ({', '.join(f'{name} {_differences(each, level)}' for name, each in named)})."


def _run_part(folder: Path, run: Run, scored: Sequence[Scored], files: dict[str, str]) -> list[str]:
    train = run.recipe["train"]
    lines = [f"## {run.label}", "", verdict(run, scored), ""]
    lines += [
        f"Recipe {run.recipe['name']}, seed {run.seed}: {run.dense.total:,} parameters, {train['steps']} updates a level of "
        f"{train['batch']} patches of {train['patch']} pixels.",
        _kept_weights(folder, run.label),
        "",
    ]
    trained = {f"level-{level.number:02d}": level for level in run.levels} | {c.name: c for c in run.controls}
    lines += _scores_table(run, scored)
    if scored:
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


def _kept_weights(folder: Path, label: str) -> str:
    """Say whether others can audit a run, and with what."""
    if any((folder / "weights" / label).glob("*.tar.xz")):
        return f"Its weights lie packed in `weights/{label}`: unpack every file there into one folder and `mirl verify` it."
    return "Its weights were not kept: `mirl verify` cannot be run on it."


def _scores_table(run: Run, scored: Sequence[Scored]) -> list[str]:
    """Density, size, time and PSNR of every measured ticket of a run, in the order of training."""
    if not scored:
        return []
    first = scored[0]
    rows = [["input", "", "", "", *(f"{first.input_psnr[c]:.2f}" for c in list(COLUMNS)[:-1]), ""]]
    names = [f"level-{level.number:02d}" for level in run.levels] + [c.name for c in run.controls]
    for each in sorted((s for s in scored if s.place in names), key=lambda s: names.index(s.place)):
        time = "" if each.time is None else f"{each.time:.2g}"
        place = f"**{each.place}, in the package**" if _ships(each) else each.place
        rows.append([place, f"{each.density:.2%}", f"{each.figures['bytes'] / 1000:.0f}", time,
                     *(f"{each.psnr[c]:.2f}" for c in COLUMNS)])  # fmt: skip
    return [
        "PSNR in dB on the test sets, protocol `standard`, blind: CBSD68 with noise, Rain100L, SOTS and HSTS; `web`: "
        "Kodak24 rescaled and coded as JPEG or WebP; `clean`: Kodak24 as it is against what comes out. Time: CPU time of "
        "one thread, CDnCNN-B = 1.",
        "",
        *table(["ticket", "density", "kB", "time", *HEADS], rows),
    ]


def _worst_part(run: Run, scored: Sequence[Scored]) -> list[str]:
    """Name the images that the last level helps least, by task."""
    last = _ours(run, scored)
    if last is None or not run.last.number:
        return []
    rows = []
    for head, column in [pair for pair in zip(HEADS, COLUMNS, strict=True) if pair[1] in _tasks(run)]:
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


def _pilots_part(file: Path) -> list[str]:
    if not file.exists():
        return []
    found = read_json(file, "the table of pilots", dict)["rows"]
    tasks = list(dict.fromkeys(task for row in found for task in row["validation_psnr"]))
    rows = [
        [r["pilot"], f"{r['parameters']:,}", f"{r['density']:.0%}", str(r["steps"]), f"{r['seconds_per_step']:.2f}",
         f"{r['mean_psnr']:.2f}", *(f"{r['validation_psnr'][t]:.2f}" if t in r["validation_psnr"] else "" for t in tasks)]
        for r in found
    ]  # fmt: skip
    names = dict(zip(COLUMNS, HEADS, strict=True))
    head = ["pilot", "parameters", "density", "updates", "s an update", "mean dB", *(names[task] for task in tasks)]
    what = "The choices behind the recipe, each in a short training with one thing changed (`bench/pilots.py`), the sparse "
    what += (
        "ones of the dense network with Muon at 4e-3. PSNR on validation images, mean over all tasks; one seed; seconds on "
    )
    what += "a machine that had other work too. Best: "
    kinds = ("dense", [r for r in found if r["density"] == 1]), ("sparse", [r for r in found if r["density"] < 1])
    best = [f"{max(mine, key=lambda r: r['mean_psnr'])['pilot']} of the {kind}" for kind, mine in kinds if mine]
    return ["## Pilots", "", f"{what}{', '.join(best)}.", "", *table(head, rows)]


def _series(label: str, scored: Sequence[Scored], column: str) -> plots.Series:
    values = tuple(s.mean if column == "mean" else s.psnr[column] for s in scored)
    return plots.Series(label, tuple(s.density for s in scored), values, values, values)
