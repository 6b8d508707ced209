"""Cells of a table of speeds, measured one by one into a JSON file: a run that is cut goes on where it stopped."""

import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirl.evaluate.speed import choose_runtimes, measure_speed
from mirl.files import read_json, write_bytes, write_json
from mirl.lottery.prune import empty_layers
from mirl.ticket import write_ticket
from patterns import NETWORKS, make_ticket

COLUMNS = (
    "network", "pattern", "height", "width", "threads", "density", "density_macs", "backend", "median_ms", "min_ms",
    "max_ms", "runs", "speedup_over_best_other", "max_abs_diff", "peak_mb", "working_mb", "gflop", "share_of_peak",
    "compute_bound_ms", "memory_bound_ms",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One ticket on one image with so many threads."""

    network: str
    pattern: str
    size: tuple[int, int]
    threads: int

    def __str__(self) -> str:
        return f"{self.network} {self.pattern} {self.size[0]}x{self.size[1]} threads {self.threads}"


def measure_cells(
    cells: Sequence[Cell],
    against: Sequence[str],
    runs: int,
    seconds: float | None,
    file: Path,
    command: str,
    fresh: bool = False,
) -> list[dict[str, Any]]:
    """Measure `cells`, writing `file` after each, and return those asked for; cells in the file already are not repeated.

    A CSV with a line for each cell and runtime is written beside the file. `fresh` drops what the file holds.
    """
    names, left_out = choose_runtimes(against)
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    found = read_json(file, "a table of speeds") if file.exists() and not fresh else {"cells": []}
    done = {key_of(record): record for record in found["cells"]}
    with tempfile.TemporaryDirectory() as folder:
        for number, cell in enumerate(cells, 1):
            if cell in done and {row["backend"] for row in done[cell]["rows"]} >= set(names):
                continue
            began, path = time.monotonic(), Path(folder) / "ticket.mirl"
            ticket = make_ticket(NETWORKS[cell.network], cell.pattern)
            write_ticket(ticket, path)
            speed = measure_speed(path, cell.size, cell.threads, names, runs, seconds)
            emptied = len(empty_layers(ticket.masks))
            record = {"network": cell.network, "pattern": cell.pattern, "emptied_tensors": emptied}
            record |= speed.to_json(f"{cell.network} {cell.pattern}", command)
            done[cell] = record
            write_json(file, {"command": command, "cells": list(done.values())})
            _write_csv(file.with_suffix(".csv"), list(done.values()))
            medians = ", ".join(f"{row.backend} {row.median_ms:.0f}" for row in speed.rows)
            took = f"{time.monotonic() - began:.0f} s"
            print(f"{number}/{len(cells)} {cell}: {medians} ms; {ratio_of(record)}; {took}", flush=True)
    return [done[cell] for cell in cells]


def key_of(record: dict[str, Any]) -> Cell:
    """Return the cell that a record of the file is of."""
    return Cell(record["network"], record["pattern"], (record["size"][0], record["size"][1]), record["threads"])


def ratio_of(record: dict[str, Any]) -> str:
    """Say how much faster the native engine is than the best other runtime."""
    ratio = record["speedup_over_best_other"]
    return "no ratio" if ratio is None else f"native {ratio:.2f}x"


def _write_csv(file: Path, records: Sequence[dict[str, Any]]) -> None:
    lines = [",".join(COLUMNS)]
    for record in records:
        shared = {**record, **record["roofline"], "height": record["size"][0], "width": record["size"][1]}
        for row in record["rows"]:
            values = {**shared, **row}
            lines.append(",".join(_text(values[column]) for column in COLUMNS))
    write_bytes(file, ("\n".join(lines) + "\n").encode())


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
