"""Plots of a run as SVG: PSNR against density, density per layer, training curves.

Text stays text, nothing carries a date or a random id, so the same numbers give the same bytes. Colours are
Okabe and Ito's (readable with every colour vision) and markers differ too. `inline` makes a plot follow the
page's light or dark.
"""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from mirl.errors import MirlError

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
MARKERS = ("s", "^", "D", "v", "P", "X", "p", "*")
INK, GRID, PAPER = "#1b1d20", "#d7d9dc", "#ffffff"
DENSITY_LABEL = "density: parameters kept of all (%, log)"
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mirl",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
}


@dataclass(frozen=True)
class Series:
    """Mean, lowest and highest value over the runs of one recipe at each position (density, or updates)."""

    label: str
    x: tuple[float, ...]
    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def psnr_against_density(title: str, lines: Sequence[Series], controls: Sequence[Series]) -> str:
    """Draw PSNR (dB) against density: one line each, band from lowest to highest run, first point dashed
    across.

    The first point of a line is its dense network. `controls` have one point each and get a marker of their
    own.
    """
    labels = ["dense level", *(_short(series.label) for series in (*lines, *controls))]
    with _drawing(4.6, 3.4 + 0.1 * len(labels)) as drawing:
        axes = drawing.axes
        for index, line in enumerate(lines):
            colour = PALETTE[index % len(PALETTE)]
            dense_label = "dense level" if index == 0 else None
            axes.axhline(line.mean[0], color=colour, linestyle=(0, (5, 3)), linewidth=1.0, label=dense_label)
            if line.low != line.high:
                axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(
                line.x,
                line.mean,
                color=colour,
                marker="o",
                markersize=4,
                linewidth=1.6,
                label=_short(line.label),
            )
        for index, control in enumerate(controls):
            axes.errorbar(
                control.x,
                control.mean,
                yerr=([control.mean[0] - control.low[0]], [control.high[0] - control.mean[0]]),
                color=PALETTE[(index + len(lines)) % len(PALETTE)],
                marker=MARKERS[index % len(MARKERS)],
                markersize=6,
                linestyle="none",
                markeredgecolor=INK,
                markeredgewidth=0.5,
                label=_short(control.label),
            )
        _density_axis(axes.xaxis, axes, [x for series in (*lines, *controls) for x in series.x])
        axes.invert_xaxis()
        axes.set(title=title, xlabel=DENSITY_LABEL, ylabel="PSNR (dB)")
        _legend(drawing, labels)
    return drawing.svg


def psnr_against_cost(title: str, cost: str, lines: Sequence[Series], points: Sequence[tuple[str, float, float]]) -> str:
    """Draw PSNR (dB) against what it costs, logarithmic: our tickets as lines, others as named points (name, cost, PSNR)."""
    with _drawing(4.6, 3.6) as drawing:
        axes = drawing.axes
        for index, line in enumerate(lines):
            colour = PALETTE[index % len(PALETTE)]
            axes.plot(line.x, line.mean, color=colour, marker="o", markersize=4, linewidth=1.6, label=_short(line.label))
        for name, x, y in points:
            axes.plot(x, y, color=INK, marker="D", markersize=4, linestyle="none")
            axes.annotate(name, (x, y), xytext=(0, 5), textcoords="offset points", fontsize=7, ha="center")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda number, _: f"{number:g}")
        axes.margins(x=0.15, y=0.12)
        axes.set(title=title, xlabel=cost, ylabel="PSNR (dB)")
        _legend(drawing, [line.label for line in lines] or [""])
    return drawing.svg


def density_of_layers(title: str, layers: Sequence[tuple[str, str, float]], overall: float) -> str:
    """Draw the density of every tensor: (stage, group, density), a row for each stage, overall density as a
    line.

    Rows keep the order given; groups get a colour and a marker. A tensor that kept nothing sits hollow on the
    left edge.
    """
    stages = list(dict.fromkeys(stage for stage, _, _ in layers))
    groups = list(dict.fromkeys(group for _, group, _ in layers))
    with _drawing(4.6, 1.3 + 0.2 * len(stages)) as drawing:
        axes = drawing.axes
        positive = [density for _, _, density in layers if density > 0]
        edge = min([*positive, overall]) / 1.6
        for index, group in enumerate(groups):
            colour, marker = PALETTE[index % len(PALETTE)], ("o", *MARKERS)[index % 9]
            for hollow in (False, True):
                mine = [(max(d, edge), stages.index(s)) for s, g, d in layers if g == group and (d == 0) == hollow]
                if mine:
                    axes.plot(
                        *zip(*mine, strict=True),
                        linestyle="none",
                        marker=marker,
                        markersize=5,
                        color=colour,
                        alpha=0.85,
                        markerfacecolor="none" if hollow else colour,
                        label=f"{group}, nothing kept" if hollow else group,
                    )
        axes.axvline(overall, color=INK, linestyle=(0, (5, 3)), linewidth=1.0, label="whole network")
        axes.set_yticks(range(len(stages)), stages)
        axes.set_ylim(len(stages) - 0.5, -0.5)
        _density_axis(axes.xaxis, axes, [edge, 1.0])
        axes.set(title=title, xlabel="density of the tensor (%, log)")
        _legend(drawing, [*groups, "whole network"])
    return drawing.svg


def training_curves(title: str, value: str, curves: Sequence[tuple[str, Sequence[tuple[int, float]]]]) -> str:
    """Draw `value` against updates for every level, (label, points), from the first (dark) to the last
    (light)."""
    with _drawing(4.6, 3.4 + 0.05 * len(curves)) as drawing:
        axes = drawing.axes
        for index, (label, points) in enumerate(curves):
            share = index / max(len(curves) - 1, 1)
            shown = "o" if len(points) < 3 else None
            axes.plot(
                *zip(*points, strict=True),
                color=_shade(share),
                linewidth=1.3,
                marker=shown,
                label=label,
            )
        axes.set(title=title, xlabel="updates", ylabel=value)
        if "loss" in value:
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter(lambda number, _: f"{number:g}")
            axes.yaxis.set_minor_formatter(lambda number, _: f"{number:g}" if f"{number:e}"[0] in "235" else "")
        _legend(drawing, [label for label, _ in curves], "level: density")
    return drawing.svg


def inline(svg: str, name: str, description: str) -> str:
    """Turn a plot into an element of a page: no prologue, ids of its own, colours from the page, width as it
    fits."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{name}-', svg).replace('href="#', f'href="#{name}-')
    svg = svg.replace("url(#", f"url(#{name}-")
    for colour, variable in ((INK, "currentColor"), (GRID, "var(--grid)"), (PAPER, "var(--paper)")):
        svg = svg.replace(colour, variable)
    head, body = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{description}">{body}'


@dataclass
class _Drawing:
    figure: Any
    axes: Any
    svg: str = ""


@contextmanager
def _drawing(width: float, height: float) -> Iterator[_Drawing]:
    """Yield a figure of so many inches and its axes, in this module's style; `svg` is there when the block
    ends."""
    try:
        import matplotlib
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MirlError("the report needs matplotlib, which is missing; run: pip install 'mirl[report]'") from error
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        drawing = _Drawing(figure, figure.subplots())
        yield drawing
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
        drawing.svg = content.getvalue()


def _legend(drawing: _Drawing, labels: Sequence[str], title: str | None = None) -> None:
    """Put the legend under the axes, in as many columns as its longest label leaves room for."""
    columns = max(1, min(4, 62 // (max(len(label) for label in labels) + 7)))
    drawing.figure.legend(loc="outside lower left", ncols=columns, title=title, alignment="left")


def _shade(share: float) -> tuple[float, float, float]:
    """From dark blue-green (0) to light green (1): lightness orders the levels for every colour vision."""
    dark, light = (0.17, 0.35, 0.55), (0.55, 0.80, 0.35)
    return tuple(a + share * (b - a) for a, b in zip(dark, light, strict=True))  # type: ignore[return-value]


def _short(label: str) -> str:
    return label if len(label) <= 50 else f"{label[:49]}…"


def _density_axis(axis: Any, axes: Any, densities: Sequence[float]) -> None:
    """Make x logarithmic with round percentages as ticks, and no others."""
    axes.set_xscale("log")
    low, high = min(densities) / 1.15, max(densities) * 1.15
    ticks = [digit * 10.0**power for power in range(-5, 1) for digit in (1, 2, 5)]
    ticks = [tick for tick in ticks if low <= tick <= min(high, 1)]
    axes.set_xlim(low, high)
    axis.set_ticks(ticks, [f"{100 * tick:g}" for tick in ticks])
    axis.set_ticks([], minor=True)
