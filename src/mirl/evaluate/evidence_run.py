"""One run's part of the results page: how it was trained, tables, plots, comparisons image by image, crops, cost."""

import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirl.data.bundled import held_out_photos
from mirl.evaluate import plots
from mirl.evaluate.page import flatten
from mirl.evaluate.report import plot_layers
from mirl.evaluate.runs import Level, Run
from mirl.evaluate.scores import COLUMNS, HEADS, Scored, ratio, table
from mirl.evaluate.verdict import Difference, ends, ours, paired, ships, tasks_of, verdict
from mirl.files import csv_text, read_json
from mirl.recipe import recipe_from_dict, small_laboratory, to_dict

WORST = 3  # images a task that the page names
TASK_HEADS = dict(zip(COLUMNS, HEADS, strict=True))


def run_part(folder: Path, run: Run, scored: Sequence[Scored], files: dict[str, str], page: Path) -> list[str]:
    """Return the lines about one run; plots and CSV are added to `files`. `folder` is that of the results."""
    lines = [f"## {run.label}", "", verdict(run, scored), "", _training(folder, run), ""]
    lines += [_kept_weights(folder, run, ours(run, scored)), ""]
    lines += scores_table(run, scored)
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
        lines += ["", *_ssim_table(run, scored), *_sets_part(run, scored), *_worst_part(run, scored)]
    lines += _curves_part(run, files)
    if run.last.number and (svg := plot_layers(run)):
        files[f"{run.label}-layers.svg"] = svg
        lines += [f"![Density of every layer](FILES/{run.label}-layers.svg)", ""]
    return [*lines, *_cost_part(run), *_crops_part(folder / "crops" / run.label, scored, page)]


def scores_table(run: Run, scored: Sequence[Scored]) -> list[str]:
    """Return density, size, time and PSNR of every measured ticket of a run, in the order of training."""
    if not scored:
        return []
    first, blank = scored[0], [""] * 4
    work = next((each.figures["macs_per_pixel"] for each in scored if each.place == "level-00"), 0.0)
    counts = [len(_images(first, column)) for column in COLUMNS]
    rows = [["images", "", *blank, *(str(count) if count else "" for count in counts)]] if any(counts) else []
    rows += [["input", "", *blank, *(f"{first.input_psnr[c]:.2f}" for c in list(COLUMNS)[:-1]), ""]]
    for each in _in_order(run, scored):
        macs = f"{each.figures['macs_per_pixel'] / work:.1%}" if work else ""
        costs = ["", ""] if each.time is None else [f"{each.milliseconds:.0f}", ratio(each.time)]
        rows.append([_named(each), f"{each.density:.2%}", macs, f"{each.figures['bytes'] / 1000:.0f}", *costs,
                     *(f"{each.psnr[c]:.2f}" for c in COLUMNS)])  # fmt: skip
    return [
        "PSNR in dB on the test sets, protocol `standard`, blind: CBSD68 with noise (rounded and clipped to 8 bits, so "
        "not to be compared with papers that do not clip), Rain100L, SOTS and HSTS (haze; so few that single images weigh "
        "much); `web`: Kodak24 rescaled and coded as JPEG or WebP; `clean`: Kodak24 as it is against what comes out (the "
        "higher, the less a picture without fault is changed; an equal one counts as 100). Density: share of all "
        "parameters that are not zero (a kept weight may have become so by rounding); MACs: multiply-accumulates with "
        "weights as a share of the dense network's. kB: the `.mirl` file, half precision, as scored. Time through the "
        "sparse engine, CPU time of one thread on a photograph of 384x512: in ms, to be compared within this table alone, "
        "and as a ratio to CDnCNN-B, another project's denoiser (668,000 parameters, PyTorch), taken in turns. What is "
        "empty was not measured, or says nothing of that line.",
        "",
        *table(["ticket", "density", "MACs", "kB", "ms", "time", *HEADS], rows),
    ]


def _kept_weights(folder: Path, run: Run, ticket: Scored | None) -> str:
    """Say whether others can audit a run, with what, and how to see that its ticket is the one in the package."""
    label = run.label
    where = folder / "weights" / label
    if not any(where.glob("*.tar.xz")):
        return "Its weights were not kept: `mirl verify` cannot be run on it."
    place = f"runs/packed/{label}"
    text = (
        f"Its weights lie packed in `{where}`. To audit them: `mkdir -p {place} && for f in {where}/*.tar.xz; do tar "
        f"xJf $f --strip-components 1 -C {place}; done && mirl verify {place}`."
    )
    if ticket is not None and ships(ticket):
        file = f"{place}/{'' if ticket.place.startswith('level-') else 'controls/'}{ticket.place}/ticket.mirl"
        text += f" That its {ticket.place} is the ticket in the package: `cmp {file} src/mirl/tickets/{label}.mirl`."
    return text


def _training(folder: Path, run: Run) -> str:
    """How the run was trained, from its recipe, and in which choices that is not the recipe `small`."""
    recipe, train, network = run.recipe, run.recipe["train"], run.recipe["network"]
    shares, once, then = shares_of(recipe), "", ""
    if start := recipe["rewind_step"]:
        once = f", the first {start:,} of them once, before the rewind point"
        then = f" ({start:,} + {len(run.levels)} x {train['steps'] - start:,} in all)"
    both = map(to_dict, (small_laboratory(), recipe_from_dict(recipe)))
    usual, own = (dict(flatten(json.loads(json.dumps(each)))) for each in both)
    other = [name for name in {**usual, **own} if usual.get(name) != own.get(name)]
    fields = dict.fromkeys(
        "tasks" if name.startswith("tasks") else f"{name} {own.get(name)}" for name in other if name not in ("name", "seed")
    )
    but = f" but for {', '.join(fields)}" if fields else ""
    return (
        f"The recipe of `mirl search --recipe small-laboratory`{but}; seed {run.seed}. {run.dense.total:,} parameters "
        f"(width {network['width']}, blocks "
        f"{'-'.join(map(str, network['blocks']))}, {network['prompts']} prompts a table). {train['steps']:,} updates a level"
        f"{once}{then}, of {train['batch']} patches of {train['patch']} pixels; {train.get('optimizer', 'adamw')}, rate "
        f"{train['learning_rate']:g} falling along a cosine; precision {train['precision']}. Share of each task: {shares}; "
        f"clean patches {train['clean_share']:.0%}; {train.get('real_share', 0.5):.0%} of rain and haze from stored pairs, "
        f"the rest made on the way. All of it, and the fingerprint of its data: `{folder}/runs/{run.label}/recipe.json`."
    )


def shares_of(recipe: dict[str, Any]) -> str:
    """Say how often each task of a recipe (as its JSON) is drawn, and what its loss weighs where that is not 1."""
    return ", ".join(
        f"{TASK_HEADS.get(share['task'], share['task'])} {share['sampling']:g}"
        + (f" (loss x {share['loss']:g})" if share["loss"] != 1 else "")
        for share in recipe["tasks"]
    )


def _in_order(run: Run, scored: Sequence[Scored]) -> list[Scored]:
    return sorted((s for s in scored if s.place in run.places), key=lambda s: run.places.index(s.place))


def _named(each: Scored) -> str:
    return f"**{each.place}, in the package**" if ships(each) else each.place


def _updates(run: Run, each: Scored) -> str:
    return f"{run.trainings[each.place].steps:,} updates"


def _images(scored: Scored, column: str) -> list[dict[str, str]]:
    """The images behind a column."""
    mine = [i for i in scored.images if i["task"] == column]
    return [i for i in mine if i["set"] in COLUMNS[column]] or mine


def _ssim_table(run: Run, scored: Sequence[Scored]) -> list[str]:
    rows = [[_named(s), *(f"{s.ssim[c]:.4f}" for c in COLUMNS)] for s in _in_order(run, scored) if s.ssim]
    return ["SSIM of the same (1: equal):", "", *table(["ticket", *HEADS], rows)] if rows else []


def _sets_part(run: Run, scored: Sequence[Scored]) -> list[str]:
    """The ticket beside its dense network, set by set, image by image; sets of other domains too."""
    (dense, _), ticket, rows = ends(run, scored), ours(run, scored), []
    if dense is None or ticket is None or not run.last.number:
        return []
    for head, column in zip(HEADS, COLUMNS, strict=True):
        for name in dict.fromkeys(i["set"] for i in ticket.images if i["task"] == column):
            mine = [i for i in ticket.images if (i["task"], i["set"]) == (column, name)]
            gain: Difference = paired(ticket, dense, column, [name])
            if gain.images:
                psnr = statistics.fmean(float(i["psnr"]) for i in mine)
                before = statistics.fmean(float(i["input_psnr"]) for i in mine)
                cells = [f"{value:.2f}" for value in (before, psnr - gain.mean, psnr)]
                cells[0] = "" if column == "clean" else cells[0]
                rows.append([head, name, str(gain.images), *cells, str(gain), f"{gain.better} of {gain.images}"])
    heads = ["task", "set", "images", "input", "level-00", ticket.place, "difference", "better on"]
    beside = f"{_named(ticket)} beside the dense level"
    if not ticket.place.startswith("level-"):
        beside += f" (trained for {_updates(run, ticket)}, the dense level for {_updates(run, dense)})"
    text = f"{beside}, set by set; mean difference of the same images, ± its standard error:"
    return [text, "", *table(heads, rows)] if rows else []


def _worst_part(run: Run, scored: Sequence[Scored]) -> list[str]:
    """Name the images that the ticket helps least, by task."""
    last = ours(run, scored)
    if last is None or not run.last.number:
        return []
    rows = []
    for head, column in [pair for pair in zip(HEADS, COLUMNS, strict=True) if pair[1] in tasks_of(run)]:
        gains = sorted((float(i["psnr"]) - float(i["input_psnr"]), i["image"]) for i in _images(last, column))
        harmed = sum(gain < 0 for gain, _ in gains)
        median = statistics.median(gain for gain, _ in gains) if gains else 0.0
        named = ", ".join(f"{image} {gain:+.2f}" for gain, image in gains[:WORST])
        rows.append([head, str(len(gains)), str(harmed), f"{median:+.2f}", f"{gains[-1][0]:+.2f}" if gains else "", named])
    heads = ["task", "images", "harmed", "median gain dB", "best", "worst images"]
    return [f"Gain of {_named(last)} over the input, image by image (harmed: below 0):", "", *table(heads, rows)]


def _curves_part(run: Run, files: dict[str, str]) -> list[str]:
    """Validation PSNR of levels and longer trainings against updates, and what their last stretch still gained."""
    every = [
        *zip(run.places, run.levels, strict=False),
        *((each.name, each) for each in run.controls if "-total" in each.name),
    ]
    named = {place: level for place, level in every if level.validations}
    if not named:
        return []
    means = [
        (f"{place}: {100 * level.density:.3g} %", [(step, statistics.fmean(of.values())) for step, of in _curve(level)])
        for place, level in named.items()
    ]
    files[f"{run.label}-validation.svg"] = plots.training_curves(f"{run.label}: validation", "mean PSNR (dB)", means)
    rows = []
    for name, level in named.items():
        if level in (run.dense, run.last) or level in run.controls:
            (before, old), (after, new) = _curve(level)[-2:]
            gains = (f"{new[t] - old[t]:+.2f}" if t in new and t in old else "" for t in run.tasks)
            rows.append([name, f"{before:,} to {after:,}", *gains])
    return [
        f"![PSNR on validation images against updates](FILES/{run.label}-validation.svg)",
        "",
        "Where training was still improving: what its last stretch gained on the validation images, in dB; updates counted "
        "from the initial values. The rate falls to nearly 0 there, so a small gain does not say that more updates would "
        "bring none: `dense-total` and `ticket-total`, where they are, show what they bring.",
        "",
        *table(["training", "updates", *(TASK_HEADS.get(task, task) for task in run.tasks)], rows),
    ]


def _curve(level: Level) -> list[tuple[int, dict[str, float]]]:
    """The validations of a training and that at its end, which is in its record."""
    end = max([step for step, _ in level.losses] + [level.validations[-1][0] + 1])
    return [*level.validations, (end, {task: score.psnr for task, score in level.scores.items()})]


def _cost_part(run: Run) -> list[str]:
    """Updates and minutes of the search and of the controls."""

    def row(name: str, levels: Sequence[Level], density: str = "", more: int = 0) -> list[str]:
        updates, seconds = sum(level.steps for level in levels) + more, sum(level.seconds for level in levels)
        return [name, density, f"{updates:,}", f"{seconds / 60:.1f}"]

    once = run.recipe["rewind_step"]
    rows = [["before the rewind point", "100.00%", f"{once:,}", ""]] if once else []
    rows += [row(f"level-{level.number:02d}", [level], f"{level.density:.2%}") for level in run.levels]
    rows += [row("**the search**", run.levels, more=once)]
    rows += [row(level.name, [level], f"{level.density:.2%}") for level in run.controls]
    rows += [row("**search and controls**", [*run.levels, *run.controls], more=once)] if run.controls else []
    text = "Cost of the trainings; density as the masks keep it, minutes of the clock, some beside other work"
    text += " (those before the rewind point were not timed):" if once else ":"
    return [text, "", *table(["training", "density", "updates", "minutes"], rows)]


def _crops_part(folder: Path, scored: Sequence[Scored], page: Path) -> list[str]:
    """The crops of a run, where they were made, under what they show."""
    if not (folder / "crops.json").exists():
        return []
    where, count = os.path.relpath(folder, page.parent), len(held_out_photos())
    shown = read_json(folder / "sha256.json", "the tickets of crops", dict)["ticket"]
    place = next((each.place for each in scored if each.sha256 == shown), "the ticket")
    longer = " (trained for longer)" if place.endswith("-total") else ""
    lines = [
        "Crops, 1:1, of the package's held-out photographs (free, few, never trained on), degraded by us: degraded, dense "
        f"level, {place}{longer}, clean; PSNR of the centre of 512 pixels. By what {place} gains over the degraded "
        f"photograph: best, median (number {count // 2 + 1}) and worst of {count}. Pictures of the test sets may not be "
        "shown.",
        "",
    ]
    strips: list[dict[str, Any]] = read_json(folder / "crops.json", "the list of crops", list)
    for strip in strips:
        scores = ", ".join(f"{name} {strip[name]:.2f}" for name in ("degraded", "dense", "ticket"))
        lines += [f"{TASK_HEADS[strip['task']]}, {strip['rank']} ({strip['photo']}): {scores} dB", ""]
        lines += [f"![{strip['task']}, {strip['rank']}: degraded, dense, ticket, clean]({where}/{strip['file']})", ""]
    return lines


def _series(label: str, scored: Sequence[Scored], column: str) -> plots.Series:
    values = tuple(s.mean if column == "mean" else s.psnr[column] for s in scored)
    return plots.Series(label, tuple(s.density for s in scored), values, values, values)
