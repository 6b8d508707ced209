"""Milliseconds against density: how far zeros pay, and where dense runtimes stay.

    python bench/density.py [--network paper] [--size 256] [--threads 1] [--runs 5] [--out results/density]

Layer-wise pruned tickets of `bench/patterns.py` from dense to 99 %, every runtime in turns on the same image as in
`bench/engine.py`. Writes OUT.json (goes on where it stopped), OUT.csv and OUT.svg. The dashed line is the least time by
arithmetic: what is left to compute at the measured peak.
"""

import argparse
import io
import sys
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from cells import Cell, measure_cells
from mirl.errors import MirlError
from mirl.evaluate.plots import DENSITY_LABEL, INK, MARKERS, PALETTE, STYLE
from mirl.evaluate.runtimes import RUNTIMES
from mirl.evaluate.speed import parse_size
from mirl.files import write_bytes
from patterns import NETWORKS

PATTERNS = ("dense", "layer-50", "layer-80", "layer-90", "layer-95", "layer-97", "layer-99")
MILLISECONDS = [digit * 10.0**power for power in range(-1, 7) for digit in (1, 2, 5)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="paper", choices=list(NETWORKS))
    parser.add_argument("--size", default="256")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--against", nargs="+", default=[], help="runtimes to compare with; all that are installed")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--out", type=Path, default=Path("results/density"))
    parser.add_argument("--fresh", action="store_true")
    options = parser.parse_args()
    cells = [Cell(options.network, pattern, parse_size(options.size), options.threads) for pattern in PATTERNS]
    command = (
        f"python bench/density.py --network {options.network} --size {options.size} --threads {options.threads} "
        f"--runs {options.runs} --seconds {options.seconds:g}"
    )
    file = options.out.with_suffix(".json")
    records = measure_cells(cells, options.against, options.runs, options.seconds, file, command, options.fresh)
    height, width = parse_size(options.size)
    title = f"{options.network} network, {width}x{height} pixels, {options.threads} thread{'s' * (options.threads > 1)}"
    write_bytes(options.out.with_suffix(".svg"), draw(title, records).encode())


def draw(title: str, records: list[dict[str, Any]]) -> str:
    """Return the SVG: a line for each runtime, its band from the least to the most, both axes logarithmic."""
    names = [name for name in RUNTIMES if any(row["backend"] == name for record in records for row in record["rows"])]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.8), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.subplots()
        for index, name in enumerate(names):
            points = [
                (record["density"], row["median_ms"], row["min_ms"], row["max_ms"])
                for record in records for row in record["rows"] if row["backend"] == name
            ]  # fmt: skip
            density, median, least, most = zip(*sorted(points), strict=True)
            colour = PALETTE[index % len(PALETTE)]
            axes.fill_between(density, least, most, color=colour, alpha=0.2, linewidth=0)
            axes.plot(density, median, color=colour, marker=("o", *MARKERS)[index], markersize=4, linewidth=1.6, label=name)
        peak = max(record["roofline"]["peak_gflops"] for record in records)  # other work only lowers what is measured
        bound = sorted((record["density"], 1e3 * record["roofline"]["native_gflop"] / peak) for record in records)
        axes.plot(*zip(*bound, strict=True), color=INK, linestyle=(0, (5, 3)), linewidth=1.0, label="least, by arithmetic")
        axes.set(title=title, xlabel=DENSITY_LABEL, ylabel="time of one image (ms, log)", xscale="log", yscale="log")
        percent = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0) if tick >= 0.8 * bound[0][0]]
        axes.set_xticks(percent, [f"{100 * tick:g}" for tick in percent])
        low, high = axes.get_ylim()
        shown = [tick for tick in MILLISECONDS if low <= tick <= high]
        axes.set_yticks(shown, [f"{tick:,g}" for tick in shown])
        axes.minorticks_off()
        axes.invert_xaxis()
        figure.legend(loc="outside lower left", ncols=3, alignment="left")
        content = io.StringIO()
        figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


if __name__ == "__main__":
    try:
        main()
    except MirlError as error:
        sys.exit(f"density.py: {error}")
