"""The HTML of a report: one file with its style inside, light and dark, phone and print; nothing is
fetched."""

import base64
import io
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from PIL import Image

from mirl.evaluate.metrics import check_images, psnr
from mirl.evaluate.runs import Run
from mirl.image import quantise

CROP = 160  # pixels: four 1:1 crops side by side on a laptop, two on a phone
CROP_STEP = 8

STYLE = """
:root{color-scheme:light
dark;--paper:#fff;--ink:#1b1d20;--soft:#5c636b;--grid:#d7d9dc;--band:#f3f4f6;--accent:#0072b2} @media
(prefers-color-scheme:dark){:root{--paper:#16181b;--ink:#e8eaed;--soft:#a3abb4;--grid:#3a3f45;--band:#202327;
--accent:#56b4e9}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.5rem 1rem 4rem;max-width:68rem;background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,sans-serif}
h1{font-size:1.6rem;line-height:1.25;margin:0 0 1rem;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:2.5rem 0 .5rem}
h3{font-size:1rem;margin:1.25rem 0 .4rem;overflow-wrap:anywhere}
p{max-width:46rem;margin:.4rem 0 .8rem}
.verdict{border-left:4px solid var(--accent);background:var(--band);padding:.8rem 1rem;margin:0 0 1rem}
.verdict p{margin:.2rem 0}
.note,figcaption,caption{color:var(--soft);font-size:.875rem}
.plots{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1rem}
.plots figure{margin:0;min-width:0}
.plots svg{width:100%;height:auto;display:block}
.wide{overflow-x:auto;margin-bottom:1.25rem}
table{border-collapse:collapse;font-size:.8125rem;font-variant-numeric:tabular-nums}
caption{text-align:left;padding-bottom:.3rem}
th,td{padding:.25rem .5rem;text-align:right;border-bottom:1px solid var(--grid);white-space:nowrap}
th:first-child,td:first-child{text-align:left}
tr.strong td{font-weight:600;background:var(--band)}
.crops{display:grid;grid-template-columns:repeat(auto-fill,10rem);gap:.5rem;margin-bottom:1rem}
.crops figure{margin:0;width:10rem}
.crops img{display:block;width:10rem;height:auto}
a{color:var(--accent)}
@media print{:root{--paper:#fff;--ink:#000;--soft:#444;--grid:#bbb;--band:#f3f4f6;--accent:#0072b2}
body{max-width:none;padding:0;font-size:10pt}figure,tr,.verdict{break-inside:avoid}h2,h3{break-after:avoid}
.plots{grid-template-columns:1fr 1fr}.wide{overflow:visible}th,td{padding:.15rem .4rem}}
"""


@dataclass(frozen=True)
class Example:
    """One photograph for the report: float (h, w, 3) images of one size, RGB in [0, 1]."""

    task: str
    name: str
    degraded: np.ndarray
    dense: np.ndarray
    ticket: np.ndarray
    clean: np.ndarray


def page(title: str, body: str) -> str:
    """Wrap a body into a whole document; `title` is escaped, `body` is HTML."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        f"{body}\n</body>\n</html>\n"
    )


def table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], strong: Sequence[int] = ()) -> str:
    """Return a table that scrolls sideways where it does not fit; every text is escaped, `strong` rows stand
    out."""
    lines = [f'<div class="wide"><table><caption>{escape(caption)}</caption>']
    names = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines.append(f"<thead><tr>{names}</tr></thead><tbody>")
    for index, row in enumerate(rows):
        mark = ' class="strong"' if index in strong else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def plot_grid(figures: Sequence[str]) -> str:
    """Lay inline SVG plots out in as many columns as fit."""
    return '<div class="plots">\n' + "\n".join(f"<figure>{svg}</figure>" for svg in figures) + "\n</div>"


def crops(examples: Sequence[Example]) -> str:
    """Return 1:1 crops of every example, PSNR of the whole image under each, grouped by task in the order
    given.

    Raises MirlError when the images of an example differ in size or are no RGB floats.
    """
    parts = []
    for example in sorted(examples, key=lambda each: [e.task for e in examples].index(each.task)):
        pictures = (
            ("degraded", example.degraded),
            ("dense", example.dense),
            ("ticket", example.ticket),
            ("clean", example.clean),
        )
        for _, picture in pictures:
            check_images(picture, example.clean)
        top, left = crop_window(example.degraded, example.clean)
        parts.append(f'<h3>{escape(example.task)}: {escape(example.name)}</h3>\n<div class="crops">')
        for label, picture in pictures:
            cut = picture[top : top + CROP, left : left + CROP]
            score = "" if label == "clean" else f" {_decibel(psnr(quantise(picture), example.clean))}"
            alt = escape(f"{label} crop of {example.name}")
            size = f'width="{cut.shape[1]}" height="{cut.shape[0]}"'
            parts.append(
                f'<figure><img alt="{alt}" {size} src="{_data_url(cut)}"><figcaption>{label}{score}</figcaption></figure>'
            )
        parts.append("</div>")
    return "\n".join(parts)


def crop_window(degraded: np.ndarray, clean: np.ndarray) -> tuple[int, int]:
    """Return (top, left) of the crop with the largest squared error of the input, the first of equals.

    Places are multiples of 8 pixels, and the last place that fits.
    """
    error = np.square(np.subtract(degraded, clean, dtype=np.float64)).sum(axis=2)
    sums = np.pad(error.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    size_y, size_x = (min(CROP, size) for size in error.shape)
    tops, lefts = (
        np.array(sorted({*range(0, size - crop + 1, CROP_STEP), size - crop}))
        for size, crop in zip(error.shape, (size_y, size_x), strict=True)
    )
    bottoms, rights = tops + size_y, lefts + size_x
    totals = sums[bottoms][:, rights] - sums[tops][:, rights] - sums[bottoms][:, lefts] + sums[tops][:, lefts]
    row, column = np.unravel_index(np.argmax(np.round(totals, 9)), totals.shape)
    return int(tops[row]), int(lefts[column])


def levels_table(run: Run, tasks: Sequence[str]) -> str:
    """Return density, PSNR per task and change against dense for the input, every level and every control."""
    inputs = [run.dense.scores[task].input_psnr for task in tasks]
    trained = [(level.name, level) for level in run.levels]
    trained += [(f"control: {control.name}", control) for control in run.controls]
    measured = [("degraded input", ["", "", ""], inputs)]
    for name, level in trained:
        counts = [f"{100 * level.density:.2f}", f"{100 * level.density_prunable:.2f}", f"{level.kept:,}"]
        measured.append((name, counts, [level.scores[task].psnr for task in tasks]))
    dense = run.dense.mean_psnr(tasks)
    rows = []
    for name, counts, scores in measured:
        mean = statistics.fmean(scores)
        rows.append([name, *counts, f"{mean:.2f}", f"{mean - dense:+.2f}", *(f"{value:.2f}" for value in scores)])
    caption = f"{run.label}: PSNR in dB; level 0 is dense, with {run.dense.total:,} trainable parameters"
    head = ["level", "density %", "of prunable %", "kept", "mean", "vs dense", *tasks]
    return table(caption, head, rows, strong=(len(run.levels),))


def cost_table(runs: Sequence[Run]) -> str:
    """Return updates and seconds of levels and of controls."""
    rows = []
    for run in runs:
        for what, trained in (("levels", run.levels), ("controls", run.controls)):
            if trained:
                seconds, steps = sum(t.seconds for t in trained), sum(t.steps for t in trained)
                speed = f"{steps / seconds:.2f}" if seconds else ""
                rows.append([f"{run.label}, {what}", str(len(trained)), f"{steps:,}", f"{seconds:,.0f}", speed])
    return table("Training, as the search counted it", ["run", "trainings", "updates", "seconds", "updates/s"], rows)


def provenance_table(runs: Sequence[Run]) -> str:
    """Return recipe, seed, versions and whatever else is in recipe.json, one column for each run."""
    columns = [dict(flatten(run.recipe_file)) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [[name, *(column.get(name, "") for column in columns)] for name in names]
    return table("recipe.json of each run", ["value", *(run.label for run in runs)], rows)


def flatten(value: Any, name: str = "") -> Iterable[tuple[str, str]]:
    """Yield every leaf of nested JSON under its dotted name; each object of a list under its first value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flatten(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(inner, dict) for inner in value):
        for inner in value:
            first, *rest = inner.items() if isinstance(inner, dict) else [("", inner)]
            yield f"{name}.{first[1]}", ", ".join(f"{key} {item}" for key, item in rest)
    else:
        yield name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _data_url(image: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)).save(content, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def _decibel(value: float) -> str:
    return "identical" if math.isinf(value) else f"{value:.2f} dB"
