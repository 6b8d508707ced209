"""The part of the results page about what people have, from the measurements that `bench/people.py` filed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.evaluate.people.peers import PEERS
from mirl.evaluate.scores import table
from mirl.files import read_json

RESTORED = ("real", "coded", "grey", "jpeg")  # groups whose input is degraded
KEPT = ("clean", "graphics", "tone")  # groups to which nothing should happen


@dataclass(frozen=True)
class Column:
    """One method of one measurement: its title, whether it is a classical peer, its rows by group and by test."""

    title: str
    peer: bool
    as_written: bool
    groups: dict[str, dict[str, Any]]
    tests: dict[tuple[str, str, str], dict[str, Any]]


def read_measurements(file: Path) -> list[Column]:
    """Return the methods of all measurements in `file`, in their order. Raises MirlError when it is damaged."""
    columns = []
    try:
        for each in read_json(file, "the measurements of what people have", dict)["measurements"]:
            scores, label = each["scores"], each["label"]
            for method in dict.fromkeys(row["method"] for row in scores["groups"]):
                peer = PEERS.get(method)
                groups = {row["group"]: row for row in scores["groups"] if row["method"] == method}
                tests = {(r["group"], r["task"], r["set"]): r for r in scores["rows"] if r.get("method") == method}
                title = peer.name if peer else f"{method}, {label}"
                columns.append(Column(title, peer is not None, scores["as_written"], groups, tests))
    except (KeyError, TypeError) as error:
        raise MirlError(f"{file} is no file of measurements ({error}); make it with bench/people.py") from error
    return columns


def people_part(file: Path) -> list[str]:
    """Return the lines of the page; nothing where `file` is missing."""
    if not file.exists():
        return []
    columns = read_measurements(file)
    ours = [each for each in columns if not each.peer and not each.as_written]
    if not ours:
        raise MirlError(f"{file} holds no measurement of a ticket's pixels; file one with bench/people.py")
    what = (
        "Photographs and graphics as people have them (`mirl evaluate --suite people`): real camera noise (PolyU without "
        "the ten photographs that choices were made by, CC15); noise, rain and haze behind a JPEG with 4:2:0; grey noise; "
        "JPEG alone; and, to be left as they are, clean photographs, graphics and pictures of difficult tone. `wild` has no "
        "truth. PSNR of a picture against itself counts as 60 dB; _worse_ is the share of pictures that lost over 0.1 dB. "
    )
    what += "".join(f"{peer.name}: {peer.title}. " for peer in PEERS.values() if any(c.title == peer.name for c in columns))
    lines = ["## What people have", "", what.rstrip(), ""]
    lines += [f"- {line}" for line in verdict_lines(columns)]
    lines += ["", "Gain in dB, and the share made worse:", "", *_gains(columns)]
    lines += ["What happened to tone (levels of 255, against the truth, else the input) and to fine detail:", ""]
    return [*lines, *_harm(columns), _WORDS, "", *_looked_at(file.parent)]


_WORDS = (
    "_light_, _dark_: mean absolute shift of the mean and of the darkest percentile; _block_: largest shift of the mean of "
    "32x32 pixels and one channel, median over the pictures and largest; _over 4_, _over 10_: pictures in which it is "
    "beyond that many levels; _fine detail_: energy of the truth's finest octave that is in the output (in the input)."
)


def _looked_at(folder: Path) -> list[str]:
    """Pictures of `bench/people_crops.py`, and what was seen on those that may not be shown."""
    crops, looked = folder / "people_crops.json", folder / "people_looked.json"
    lines = []
    if crops.exists():
        found = read_json(crops, "the pictures of bench/people_crops.py", dict)
        lines += [f"Crops before and after by `{found['ticket']}`, then the truth where something was degraded:", ""]
        for case in found["cases"]:
            before = f"{case['input_psnr']:.2f} to " if case["truth"] else ""
            change = f"{before}{case['psnr']:.2f} dB" + ("" if case["truth"] else " from what it was")
            lines += [f"![{case['case']}]({case['file']})", "", f"{case['case']} ({case['picture']}): {change}.", ""]
    if looked.exists():
        lines += ["Looked at, and not to be shown:", ""]
        lines += [f"- {line}" for line in read_json(looked, "what was seen", dict)["sentences"]] + [""]
    return lines


def verdict_lines(columns: Sequence[Column]) -> list[str]:
    """Say, group by group, how our last ticket stands to the input, to our first one and to the best peer."""
    ours = [each for each in columns if not each.peer and not each.as_written]
    last, first = ours[-1], ours[0]
    lines = []
    for group in (group for group in (*RESTORED, *KEPT) if group in last.groups):
        row, old = last.groups[group], first.groups.get(group) if first is not last else None
        before = "" if old is None else f" ({first.title}: {old['gain']:+.2f})"
        text = f"**{group}**: {last.title} {row['gain']:+.2f} dB{before}; {row['worse_share']:.0%} of {row['images']} made "
        text += f"worse, the worst, {row['worst_image']}, by {row['worst_gain']:+.2f}"
        peers = [each for each in columns if each.peer and group in each.groups]
        if peers:
            best = max(peers, key=lambda each: each.groups[group]["gain"])
            text += f"; best classical peer: {best.title} {best.groups[group]['gain']:+.2f}"
        if group == "tone":
            text += (
                f"; blocks moved by over 4 levels in {row['blocks_over_4']}, over 10 in {row['blocks_over_10']}, at most "
            )
            text += f"{row['largest_block_shift']:.1f}"
            text += "" if old is None else f" (before: {old['blocks_over_4']}, {old['blocks_over_10']}, "
            text += "" if old is None else f"{old['largest_block_shift']:.1f})"
        lines.append(f"{text}.")
    if haze := last.tests.get(("wild", "wild-haze", "haze")):
        lines.append(
            f"**real haze**: the largest shift of a block is {haze['block_shift']:.1f} levels in the median picture."
        )
    return lines


def _gains(columns: Sequence[Column]) -> list[str]:
    rows = []
    keys = list(dict.fromkeys(key for column in columns for key in column.tests if key[0] in (*RESTORED, *KEPT)))
    for group in (group for group in (*RESTORED, *KEPT) if any(key[0] == group for key in keys)):
        mine = [key for key in keys if key[0] == group]
        for key in mine:
            label = f"{key[1]} {key[2]}" if key[1] == group else key[1]
            rows.append([label, *_gain_cells([column.tests.get(key) for column in columns])])
        if len(mine) > 1:
            cells = _gain_cells([column.groups.get(group) for column in columns])
            rows.append([f"**{group}, all**", *(f"**{cell}**" if cell else "" for cell in cells)])
    return table(["", "pictures", "input dB", *(column.title for column in columns)], rows)


def _gain_cells(found: Sequence[dict[str, Any] | None]) -> list[str]:
    known = next(row for row in found if row)
    cells = ["" if row is None else f"{row['gain']:+.2f}, {row['worse_share']:.0%} worse" for row in found]
    return [str(known["images"]), f"{known['input_psnr']:.2f}", *cells]


def _harm(columns: Sequence[Column]) -> list[str]:
    rows = []
    for group in (*RESTORED, *KEPT, "wild"):
        for column in columns:
            if row := column.groups.get(group):
                worst = row["worst_image"] + ("" if row["worst_gain"] is None else f" {row['worst_gain']:+.2f}")
                rows.append([
                    group, column.title, worst, f"{row['brightness_shift']:.1f}", f"{row['dark_shift']:.1f}",
                    f"{row['block_shift']:.1f}, {row['largest_block_shift']:.1f}", str(row["blocks_over_4"]),
                    str(row["blocks_over_10"]), f"{row['detail']:.0%} ({row['input_detail']:.0%})",
                ])  # fmt: skip
    return table(["group", "", "worst picture, dB", "light", "dark", "block", "over 4", "over 10", "fine detail"], rows)
