"""Tickets among other programs, also where those win: a table, and PSNR against CPU time and against bytes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirl.evaluate import plots
from mirl.evaluate.scores import COLUMNS, HEADS, Scored, table
from mirl.files import read_json

PLOTTED = ("denoise25", "derain", "dehaze")


def peers_part(file: Path, lasts: Sequence[Scored], scored: Sequence[Scored], files: dict[str, str]) -> list[str]:
    """Return the lines of a page about the programs in `file` and our tickets; plots are added to `files`.

    `lasts` holds the last level of every run, `scored` all levels. Nothing is said where `file` is missing. Raises MirlError
    when it is damaged.
    """
    if not file.exists():
        return []
    peers = read_json(file, "the table of other programs", dict)
    rows = [_our_row(last) for last in lasts] + [_their_row(peer) for peer in peers["rows"]]
    lines = ["## Beside other programs", "", f"Theirs: {peers['source']}. Time: {peers['time']}; ours through the native "
             "engine, in turns with that network on one photograph of this size.", ""]  # fmt: skip
    lines += table(["method", "serves", "parameters", "MB", "time", *HEADS, "note"], rows)
    for column, head in zip(COLUMNS, HEADS, strict=True):
        if column in PLOTTED:
            for cost in ("time", "size"):
                name = f"peers-{column}-{cost}.svg"
                files[name] = _plot(head, column, cost, peers["rows"], scored)
                lines.append(f"![{head}: PSNR against {cost}](FILES/{name})")
    return [*lines, ""]


def _our_row(last: Scored) -> list[str]:
    size = [f"{last.figures['nonzero'] / 1000:.0f} k", f"{last.figures['bytes'] / 1e6:.2f}"]
    time = "" if last.time is None else f"{last.time:.2g}"
    return [f"**ours, {last.run}**", "all, blind", *size, time, *(f"**{last.psnr[c]:.2f}**" for c in COLUMNS), ""]


def _their_row(peer: dict[str, Any]) -> list[str]:
    size = [f"{peer['parameters'] / 1000:g} k" if peer["parameters"] else "", f"{peer['megabytes'] or ''}"]
    cells = [f"{peer[c]:.2f}" if c in peer else "" for c in COLUMNS]
    return [peer["method"], peer["serves"], *size, f"{peer['time']:g}", *cells, peer.get("note", "")]


def _plot(head: str, column: str, cost: str, peers: Sequence[dict[str, Any]], scored: Sequence[Scored]) -> str:
    """PSNR of one task against time or megabytes: the levels of each run as a line, programs as points."""
    ours, theirs = [], "time" if cost == "time" else "megabytes"
    for run in dict.fromkeys(s.run for s in scored):
        levels = [s for s in scored if s.run == run and s.place.startswith("level-")]
        costs = [(s.time if cost == "time" else s.figures["bytes"] / 1e6, s.psnr[column]) for s in levels]
        if known := [(x, y) for x, y in costs if x is not None]:
            x, y = zip(*known, strict=True)
            ours.append(plots.Series(f"ours, {run}: 100 % to 10 %", x, y, y, y))
    points = [(peer["method"], peer[theirs], peer[column]) for peer in peers if column in peer and peer[theirs]]
    label = "CPU time, one thread (CDnCNN-B = 1, log)" if cost == "time" else "file (MB, log)"
    return plots.psnr_against_cost(f"{head}: PSNR against {cost}", label, ours, points)
