"""One self-contained page about one or several searches, with its plots as SVG and its numbers as CSV beside
it.

Everything comes from the run folders' JSON files; the verdict is computed from them, and a search that has
not reached its density is said to be unfinished. The page fetches nothing: plots and pictures are inside it.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.evaluate import plots
from mirl.evaluate.page import Example, cost_table, crops, levels_table, page, plot_grid, provenance_table
from mirl.evaluate.runs import Level, Run, read_runs
from mirl.files import csv_text, make_folder, write_bytes

MATCH_DB = 0.1  # a difference of mean PSNR smaller than this is called a match
ENCODER, PROMPT = ("embed", "encoder", "down", "latent"), ("prompt", "mix", "reduce")
# The stages of network/promptir.py in forward order; other names come last, in the order of their file.
STAGE_ORDER = (
    *("embed", "encoder1", "down1", "encoder2", "down2", "encoder3", "down3", "latent"),
    *("prompt3", "mix3", "reduce3", "up3", "fuse3", "decoder3"),
    *("prompt2", "mix2", "reduce2", "up2", "fuse2", "decoder2"),
    *("prompt1", "mix1", "reduce1", "up1", "decoder1", "refinement", "output"),
)
Groups = dict[str, list[Run]]


def write_report(runs: Sequence[Path], output: Path, examples: Sequence[Example] = ()) -> list[Path]:
    """Write the page `output` and the folder STEM-files beside it (SVG, CSV); return the files, page first.

    Runs whose recipes differ in the seed alone are one line with a band from the lowest run to the highest.
    Raises MirlError on a folder that is no run, on damaged files, and where it cannot write.
    """
    output = Path(output)
    if output.suffix.lower() not in (".html", ".htm"):
        raise MirlError(f"the report is one HTML page, found -o {output}; expected a name ending in .html")
    found = read_runs(runs)
    tasks = [task for task in found[0].tasks if all(task in run.tasks for run in found)]
    if not tasks:
        raise MirlError("the runs share no validated task; expected at least one; report on them one by one")
    groups = _groups(found)
    svgs = _quality_plots(groups, tasks) | _layer_plots(found) | _curve_plots(found)
    files = {f"{name}.svg": svg for name, svg in svgs.items()}
    files |= {
        "levels.csv": _levels_csv(found),
        "layers.csv": _layers_csv(found),
        "curves.csv": _curves_csv(found),
    }
    beside = output.with_name(f"{output.stem}-files")
    body = _body(groups, tasks, svgs, examples, [f"{beside.name}/{name}" for name in files])
    make_folder(beside)
    for name, text in files.items():
        write_bytes(beside / name, text.encode())
    write_bytes(output, page(f"Lottery report: {', '.join(run.label for run in found)}", body).encode())
    return [output, *(beside / name for name in files)]


def verdict(runs: Sequence[Run], tasks: Sequence[str]) -> str:
    """Say in plain words how the last level of runs of one recipe compares with their dense networks."""
    if all(len(run.levels) == 1 for run in runs):
        return "Only the dense network is trained yet: there is no ticket to judge."
    gains = [run.last.mean_psnr(tasks) - run.dense.mean_psnr(tasks) for run in runs]
    gain = statistics.fmean(gains)
    word = "matches" if abs(gain) < MATCH_DB else "beats" if gain > 0 else "loses to"
    what = "ticket" if all(run.complete for run in runs) else "last finished level"
    density = _span([100 * run.last.density for run in runs], "{:.2f}")
    text = f"The {what} keeps {density} % of all parameters and {word} its dense network: "
    text += f"{gain:+.2f} dB mean PSNR"
    by_task = {task: _gain(runs, task) for task in tasks}
    worst, best = min(tasks, key=lambda task: by_task[task]), max(tasks, key=lambda task: by_task[task])
    if len(tasks) > 1:
        text += f" over {len(tasks)} tasks, from {by_task[worst]:+.2f} ({worst}) to {by_task[best]:+.2f} ({best})"
    if len(runs) > 1:
        text += f"; {len(runs)} runs, {_span(gains, '{:+.2f}')} dB."
    else:
        text += ". One run: nothing is known yet about the spread between seeds."
    behind: dict[str, list[float]] = {}
    for run in runs:
        for control in run.controls:
            if control.density > run.last.density * 1.001 or "-total" in control.name:
                continue  # larger, or trained longer: it says nothing about a ticket
            difference = control.mean_psnr(tasks) - run.last.mean_psnr(tasks)
            behind.setdefault(control.name, []).append(difference)
    if behind:
        kind, best_gain = max(((k, statistics.fmean(d)) for k, d in behind.items()), key=lambda each: each[1])
        text += f" The strongest of {len(behind)} controls of at most its size, {kind}, is at {best_gain:+.2f} dB from "
        text += f"the {what}."
    return text


def stage_and_group(tensor: str) -> tuple[str, str]:
    """Return the stage of a tensor (its name's first part) and its group: encoder, prompt or decoder."""
    stage = tensor.split(".", 1)[0]
    group = "encoder" if stage.startswith(ENCODER) else "prompt" if stage.startswith(PROMPT) else "decoder"
    return stage, group


def _groups(runs: Sequence[Run]) -> Groups:
    """Runs by the label of their line: those that differ in the seed alone, recipe and data equal, are one
    line."""
    alike: dict[str, list[Run]] = {}
    for run in runs:
        recipe = {name: value for name, value in run.recipe.items() if name != "seed"}
        alike.setdefault(json.dumps([recipe, run.recipe_file.get("data")], sort_keys=True), []).append(run)
    counts = ["" if len(group) == 1 else f" ({len(group)} runs)" for group in alike.values()]
    labels = [", ".join(run.label for run in group) for group in alike.values()]
    return {label + count: group for label, count, group in zip(labels, counts, alike.values(), strict=True)}


def _quality_plots(groups: Groups, tasks: Sequence[str]) -> dict[str, str]:
    def draw(title: str, value: Callable[[Level], float]) -> str:
        lines, controls = [], []
        for label, group in groups.items():
            depth = max(len(run.levels) for run in group)
            columns = [[run.levels[i] for run in group if i < len(run.levels)] for i in range(depth)]
            lines.append(_series(label, columns, value))
            for kind in dict.fromkeys(control.name for run in group for control in run.controls):
                same = [control for run in group for control in run.controls if control.name == kind]
                name = kind if len(groups) == 1 else f"{kind} of {label}"
                controls.append(_series(name, [same], value))
        return plots.psnr_against_density(title, lines, controls)

    drawn = {f"psnr-{task}": draw(task, lambda level: level.scores[task].psnr) for task in tasks}  # noqa: B023
    if len(tasks) > 1:
        drawn = {"psnr-mean": draw(f"mean of {len(tasks)} tasks", lambda level: level.mean_psnr(tasks))} | drawn
    return drawn


def _series(label: str, columns: Sequence[Sequence[Level]], value: Callable[[Level], float]) -> plots.Series:
    values = [[value(level) for level in column] for column in columns]
    return plots.Series(
        label,
        tuple(statistics.fmean(level.density for level in column) for column in columns),
        tuple(statistics.fmean(each) for each in values),
        tuple(min(each) for each in values),
        tuple(max(each) for each in values),
    )


def plot_layers(run: Run) -> str:
    """Draw the density of every layer of the last level, in forward order; empty when nothing is masked."""
    layers = [(*stage_and_group(tensor), density) for tensor, density in run.last.layers.items()]
    order = {stage: place for place, stage in enumerate(STAGE_ORDER)}
    layers.sort(key=lambda layer: order.get(layer[0], len(order)))
    title = f"{run.label}, level {run.last.number}"
    return plots.density_of_layers(title, layers, run.last.density) if layers else ""


def _layer_plots(runs: Sequence[Run]) -> dict[str, str]:
    return {f"layers-{index}": svg for index, run in enumerate(runs) if (svg := plot_layers(run))}


def _curve_plots(runs: Sequence[Run]) -> dict[str, str]:
    drawn = {}
    for index, run in enumerate(runs):
        labels = [f"{level.number}: {100 * level.density:.3g} %" for level in run.levels]
        losses = [(label, _smooth(level.losses)) for label, level in zip(labels, run.levels, strict=True) if level.losses]
        if losses:
            drawn[f"loss-{index}"] = plots.training_curves(f"{run.label}: training loss", "L1 loss (log)", losses)
        validations = [
            (label, [(step, statistics.fmean(scores.values())) for step, scores in level.validations])
            for label, level in zip(labels, run.levels, strict=True)
            if level.validations
        ]
        if validations:
            title = f"{run.label}: validation"
            drawn[f"validation-{index}"] = plots.training_curves(title, "mean PSNR (dB)", validations)
    return drawn


def _smooth(points: Sequence[tuple[int, float]]) -> list[tuple[int, float]]:
    """Mean over a moving tenth of the curve, so that eleven levels can be told apart; the CSV has every
    value."""
    width = max(len(points) // 10, 1)
    return [
        (points[end - 1][0], statistics.fmean(loss for _, loss in points[end - width : end]))
        for end in range(width, len(points) + 1)
    ]


def _body(
    groups: Groups,
    tasks: Sequence[str],
    svgs: dict[str, str],
    examples: Sequence[Example],
    links: Sequence[str],
) -> str:
    runs = [run for group in groups.values() for run in group]
    drawn = {name: plots.inline(svg, name, f"Plot {name}; its numbers are in the CSV files") for name, svg in svgs.items()}

    def grid(*starts: str) -> str:
        return plot_grid([svg for name, svg in drawn.items() if name.startswith(starts)])

    parts = ['<div class="verdict">']
    for label, group in groups.items():
        name = f"<strong>{escape(label)}.</strong> " if len(groups) > 1 else ""
        parts.append(f"<p>{name}{escape(verdict(group, tasks))}</p>")
        parts += [f"<p>{escape(_unfinished(run))}</p>" for run in group if not run.complete]
    parts.append("</div>")
    parts.append(
        f'<p class="note">PSNR on the validation images of the search, in dB; a mean difference under '
        f"{MATCH_DB:g} dB is called a match. Density is kept / total over all trainable parameters.</p>"
    )
    parts += ["<h2>Quality against density</h2>", grid("psnr-")]
    parts.append(
        '<p class="note">Dashed: the dense network of the same recipe. Band: lowest to highest run. Controls '
        "stand at the number of parameters they kept, over those of the searched network.</p>"
    )
    parts.append("<h2>Levels and controls</h2>")
    parts += [levels_table(run, tasks) for run in runs]
    if examples:
        parts += ["<h2>Photographs, 1:1</h2>", crops(examples)]
        parts.append(
            '<p class="note">The crop is where the degraded image differs most from the clean one. PSNR is '
            "that of the whole image, rounded to 8 bits.</p>"
        )
    if any(name.startswith("layers-") for name in svgs):
        parts += ["<h2>Where the weights stay</h2>", grid("layers-")]
    if any(name.startswith(("loss-", "validation-")) for name in svgs):
        parts += ["<h2>Training</h2>", grid("loss-", "validation-")]
        parts.append('<p class="note">Loss: mean over a moving tenth of the curve.</p>')
    parts += ["<h2>Cost</h2>", cost_table(runs), "<h2>Provenance</h2>", provenance_table(runs)]
    items = ", ".join(f'<a href="{escape(link)}">{escape(link.rsplit("/", 1)[-1])}</a>' for link in links)
    parts.append(f'<p class="note">Every number and plot as a file: {items}.</p>')
    return "\n".join(parts)


def _unfinished(run: Run) -> str:
    return (
        f"{run.label} is not finished: level {run.last.number} is at {100 * run.last.density:.2f} % of all "
        f"parameters and the recipe asks for {100 * run.keep:g} %; levels are still to come."
    )


def _gain(runs: Sequence[Run], task: str) -> float:
    return statistics.fmean(run.last.scores[task].psnr - run.dense.scores[task].psnr for run in runs)


def _span(values: Sequence[float], form: str) -> str:
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def _trainings(run: Run) -> list[tuple[str, Level]]:
    levels = [("level", level) for level in run.levels]
    return levels + [("control", control) for control in run.controls]


def _levels_csv(runs: Sequence[Run]) -> str:
    head = "run,seed,kind,name,density,density_prunable,kept,total,updates,seconds,task,psnr,input_psnr"

    def rows() -> Iterable[list[Any]]:
        for run in runs:
            for kind, level in _trainings(run):
                counts = [level.density, level.density_prunable, level.kept, level.total]
                for task, score in level.scores.items():
                    yield [
                        *(run.label, run.seed, kind, level.name, *counts, level.steps, level.seconds),
                        *(task, score.psnr, score.input_psnr),
                    ]

    return csv_text(head.split(","), rows())


def _layers_csv(runs: Sequence[Run]) -> str:
    rows = (
        [run.label, kind, level.name, tensor, stage_and_group(tensor)[1], density]
        for run in runs
        for kind, level in _trainings(run)
        for tensor, density in level.layers.items()
    )
    return csv_text(["run", "kind", "name", "tensor", "group", "density"], rows)


def _curves_csv(runs: Sequence[Run]) -> str:
    def rows() -> Iterable[list[Any]]:
        for run in runs:
            for kind, level in _trainings(run):
                for step, loss in level.losses:
                    yield [run.label, kind, level.name, step, "loss", "", loss]
                for step, scores in level.validations:
                    for task, value in scores.items():
                        yield [run.label, kind, level.name, step, "psnr", task, value]

    return csv_text(["run", "kind", "name", "updates", "value", "task", "number"], rows())
