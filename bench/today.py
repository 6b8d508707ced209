"""What windows and the tone split do for a network that was trained without them: issue 20's "today's ticket", measured.

    python bench/today.py --data ../shared/data/test [--ticket small-laboratory] [--like small] [--json FILE]

The ticket gets windows of 128 pixels and the haze head of another (`mirl haze-head T -o NEW --like small --window 128`), and
`mirl evaluate --suite all` measures it, native engine, one thread, on the sets named below. The JSON
(results/today_windows_tone.json) holds its rows, the issue's figures beside what it asks for, and the commands.
"""

import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from mirl.cli import main as mirl
from mirl.files import write_json

SETS = ("denoise/CBSD68", "derain/Rain100L", "dehaze/SOTS", "dehaze/HSTS", "real/PolyU", "wild/tone", "wild/haze")
PAPER = ("denoise15", "denoise25", "denoise50", "derain", "dehaze")
TASKS = (*PAPER, "real", "development", "tone", "wild")
ASKED = {
    "polyu_db": "at least 35.5",
    "tone_over_4": "at most 2 pictures",
    "tone_over_10": "none",
    "haze_median_levels": "at least 8",
    "dehaze_db": "at least 24.0",
}


def figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """Return the issue's figures: means in dB over pictures, pictures counted, levels of 255."""

    def mean(*tasks: str) -> float:
        chosen = [row for row in rows if row["task"] in tasks]
        return sum(row["images"] * row["psnr"] for row in chosen) / sum(row["images"] for row in chosen)

    tone = next(row for row in rows if (row["task"], row["set"]) == ("tone", "tone"))
    haze = next(row for row in rows if row["task"] == "wild-haze")
    found = {
        "polyu_db": mean("real", "development"),  # the ten scenes of the development set too: 45 pictures
        "tone_over_4": tone["blocks_over_4"],
        "tone_over_10": tone["blocks_over_10"],
        "haze_median_levels": haze["block_shift"],
        **{f"{task}_db": mean(task) for task in PAPER},
    }
    return {name: round(value, 3) for name, value in found.items()}


def main() -> None:
    """Give the ticket a head, measure it on the sets alone, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--ticket", default="small-laboratory")
    parser.add_argument("--like", default="small")
    parser.add_argument("--json", type=Path, default=Path("results/today_windows_tone.json"))
    options = parser.parse_args()
    if lacking := [name for name in SETS if not (options.data / name).is_dir()]:
        sys.exit(f"today: {options.data} lacks {', '.join(lacking)}; expected the test sets of the data pack")
    with tempfile.TemporaryDirectory() as folder:
        ticket, tests, out = (str(Path(folder) / name) for name in ("today.mirl", "tests", "rows.json"))
        for name in SETS:
            (place := Path(tests) / name).parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to((options.data / name).resolve())
        commands = (
            ["haze-head", options.ticket, "-o", ticket, "--like", options.like, "--window", "128"],
            ["evaluate", "--ticket", ticket, "--data", tests, "--suite", "all", "--tasks", *TASKS, "--backend", "native",
             "--threads", "1", "--json", out],
        )  # fmt: skip
        for command in commands:
            if mirl(command):
                sys.exit(f"today: mirl {shlex.join(command)} failed")
        measured = json.loads(Path(out).read_text())
        said = [shlex.join(["mirl", *command]).replace(folder + "/", "") for command in commands]
    rows = [{**row, "method": "today"} if "method" in row else row for row in measured["rows"]]
    found = figures(rows)
    made_by = f"python bench/today.py --data {options.data} --ticket {options.ticket} --like {options.like}"
    value = {"made_by": made_by, "commands": said, "sets": SETS, "figures": found, "asked": ASKED, "rows": rows}
    write_json(options.json, value)
    for name, figure in found.items():
        print(f"{name:20} {figure:8.3f}   {ASKED.get(name, '')}")


if __name__ == "__main__":
    main()
