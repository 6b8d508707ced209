"""The native engine against other runtimes: networks x patterns of zeros x image sizes x threads.

    python bench/engine.py [--runs 5] [--seconds 300] [--json results/engine_speed.json] [--quick]

Every cell is `mirl bench` on a ticket of `bench/patterns.py`: all runtimes take turns on the same image, each in a process
of its own. A cell stops after the round in which `--seconds` have passed. Cells that the file holds are not measured again,
so a run that was cut goes on; `--fresh` starts over. `--quick` is one small cell and writes nothing unless told where. The
CSV beside the JSON has a line for each cell and runtime.
"""

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from typing import Any

from cells import Cell, measure_cells, ratio_of
from mirl.errors import MirlError
from mirl.evaluate.speed import parse_size
from patterns import NETWORKS, PATTERNS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--patterns", nargs="+", default=list(PATTERNS))
    parser.add_argument("--sizes", nargs="+", default=["256", "512"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--against", nargs="+", default=[], help="runtimes to compare with; all that are installed")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.networks, options.patterns, options.sizes = ["small"], ["layer-90"], ["256"]
        options.threads, options.runs = [1], min(options.runs, 3)
    cells = [
        Cell(network, pattern, parse_size(size), threads)
        for network, pattern, size, threads in itertools.product(
            options.networks, options.patterns, options.sizes, options.threads
        )
    ]
    command = f"python bench/engine.py --runs {options.runs} --seconds {options.seconds:g}{' --quick' * options.quick}"
    with tempfile.TemporaryDirectory() as folder:
        default = Path(folder) / "quick.json" if options.quick else Path("results/engine_speed.json")
        file = options.json or default
        found = measure_cells(cells, options.against, options.runs, options.seconds, file, command, options.fresh)
    print_table(found)


def print_table(records: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(row["backend"] for record in records for row in record["rows"]))
    print(f"{'network':8} {'pattern':26} {'size':>8} {'T':>2} {'MACs':>6}" + "".join(f"{name:>13}" for name in names))
    for record in records:
        medians = {row["backend"]: f"{row['median_ms']:.0f} ms" for row in record["rows"]}
        print(f"{record['network']:8} {record['pattern']:26} {'x'.join(map(str, record['size'])):>8} {record['threads']:2} "
              f"{record['density_macs']:6.1%}" + "".join(f"{medians.get(name, ''):>13}" for name in names)
              + f"   {ratio_of(record)}")  # fmt: skip


if __name__ == "__main__":
    try:
        main()
    except MirlError as error:
        sys.exit(f"engine.py: {error}")
