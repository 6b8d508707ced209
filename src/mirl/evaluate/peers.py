"""Tickets among other programs, also where those win: a table, and PSNR against CPU time and against bytes."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mirl.evaluate import plots
from mirl.evaluate.scores import COLUMNS, HEADS, Scored, ratio, table
from mirl.files import read_json

PLOTTED = ("denoise25", "derain", "dehaze")
OTHER = ("HazeRD", "SOTS-indoor")  # haze of other domains, in columns of their own


def peers_part(file: Path, offered: Sequence[Scored], scored: Sequence[Scored], files: dict[str, str]) -> list[str]:
    """Return the lines of a page about the programs in `file` and our tickets; plots are added to `files`.

    `offered` are our tickets that users can take, `scored` all that was measured. Nothing is said where `file` is missing.
    Raises MirlError when it is damaged.
    """
    if not file.exists():
        return []
    peers = read_json(file, "the table of other programs", dict)
    rows = [_our_row(each) for each in offered] + [_their_row(peer) for peer in peers["rows"]]
    lines = ["## Beside other programs", "", f"Theirs: {peers['source']}. Time: {peers['time']}; ours through the native "
             "engine, in turns with that network on one photograph of this size.", ""]  # fmt: skip
    lines += table(["method", "serves", "parameters", "MB", "time", *HEADS, *OTHER, "licence", "note"], rows)
    for column, head in zip(COLUMNS, HEADS, strict=True):
        if column in PLOTTED:
            for cost in ("time", "size"):
                name = f"peers-{column}-{cost}.svg"
                files[name] = _plot(head, column, cost, peers["rows"], offered, scored)
                lines.append(f"![{head}: PSNR against {cost}](FILES/{name})")
    return [*lines, ""]


def _our_row(each: Scored) -> list[str]:
    size = [f"{each.figures['nonzero'] / 1000:.0f} k", f"{each.figures['bytes'] / 1e6:.2f}"]
    time = "" if each.time is None else ratio(each.time)
    others = ([float(i["psnr"]) for i in each.images if i["task"] == "dehaze" and i["set"] == name] for name in OTHER)
    cells = [*(f"{each.psnr[c]:.2f}" for c in COLUMNS), *(f"{statistics.fmean(o):.2f}" if o else "" for o in others)]
    return [f"**ours, {each.run}**", "all, blind", *size, time, *cells, "MIT", ""]


def _their_row(peer: dict[str, Any]) -> list[str]:
    size = [f"{peer['parameters'] / 1000:g} k" if peer["parameters"] else "", f"{peer['megabytes'] or ''}"]
    cells = [f"{peer[c]:.2f}" if c in peer else "" for c in (*COLUMNS, *OTHER)]
    return [peer["method"], peer["serves"], *size, f"{peer['time']:g}", *cells, peer["licence"], peer.get("note", "")]


def _plot(
    head: str, column: str, cost: str, peers: Sequence[dict[str, Any]], offered: Sequence[Scored], scored: Sequence[Scored]
) -> str:
    """PSNR of one task against time or megabytes: the levels behind each offered ticket as a line, that ticket as a point
    where it is none of them; programs as points.
    """
    ours, theirs = [], "time" if cost == "time" else "megabytes"
    for ticket in offered:
        levels = [s for s in scored if s.run == ticket.run and s.place.startswith("level-")]
        drawn = [(f"{ticket.run}: 100 % to 10 %", levels)]
        drawn += [] if ticket in levels else [(f"{ticket.run}, in the package", [ticket])]
        for label, tickets in drawn:
            costs = [(s.time if cost == "time" else s.figures["bytes"] / 1e6, s.psnr[column]) for s in tickets]
            if known := [(x, y) for x, y in costs if x is not None]:
                x, y = zip(*known, strict=True)
                ours.append(plots.Series(f"ours, {label}", x, y, y, y))
    points = [(peer["method"], peer[theirs], peer[column]) for peer in peers if column in peer and peer[theirs]]
    label = "CPU time, one thread (CDnCNN-B = 1, log)" if cost == "time" else "file (MB, log)"
    return plots.psnr_against_cost(f"{head}: PSNR against {cost}", label, ours, points)
