"""The main job on bundled photographs: find a ticket, audit it, report, restore, and say how well.

    make demo        (or: python examples/demo.py [--out runs/demo])

Every step is a command a user could type; it is printed before it runs. Started again, it goes on where it was.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from mirl.data.bundled import held_out_photos
from mirl.evaluate.metrics import psnr
from mirl.evaluate.report import verdict
from mirl.evaluate.runs import read_runs
from mirl.files import write_json
from mirl.image import read_pixels
from mirl.ticket import SHIPPED, read_ticket

TASKS = ("denoise25", "derain", "dehaze")


def mirl(*arguments: object) -> None:
    """Print and run one `mirl` command; stops the demo with its exit code when it fails."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ mirl {' '.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "mirl", *words], check=False).returncode
    if code:
        sys.exit(code)


def mean_psnr(folder: Path, targets: Path) -> float:
    """Mean PSNR in dB of the photos in `folder` against the targets of the same pair."""
    scores = []
    for target in sorted(targets.iterdir()):
        (photo,) = folder.glob(f"{target.name.removesuffix('_gt.png')}_*.png")
        scores.append(psnr(read_pixels(photo), read_pixels(target)))
    return float(np.mean(scores))


def main() -> None:
    """Run all steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/demo"))
    out: Path = parser.parse_args().out
    began = time.monotonic()
    run, pairs, restored = out / "run", out / "pairs", out / "restored"
    mirl("search", "--recipe", "tiny", "--keep", "0.10", "--out", run)
    mirl("verify", run)
    mirl("report", run, "-o", out / "report.html")
    photos = held_out_photos()
    for task in TASKS:
        if not (pairs / task_folder(task)).exists():
            mirl("data", "synth", photos[0].parent, "-o", pairs, "--task", task)
    tickets = {"found": run / "ticket.mirl"} | {path.stem: path for path in sorted(SHIPPED.glob("*.mirl"))}
    table = Table("photos with", "input", *(f"ticket {name}" for name in tickets), title="mean PSNR in dB")
    summary: dict[str, dict[str, float]] = {}
    for task in TASKS:
        source = pairs / task_folder(task) / photos[0].parent.name
        row = [mean_psnr(source / "input", source / "target")]
        for name, ticket in tickets.items():
            target = restored / name / task
            mirl("restore", source / "input", "-o", target, "--ticket", ticket)
            row.append(mean_psnr(target, source / "target"))
        summary[task] = dict(zip(("input", *tickets), row, strict=True))
        table.add_row(task, f"{row[0]:.2f}", *(f"{value:.2f} ({value - row[0]:+.2f})" for value in row[1:]))
    print()
    Console(width=100).print(table)
    found = read_ticket(run / "ticket.mirl")
    worse = [task for task, row in summary.items() if row["found"] < row["input"]]
    if worse:
        print(f"worse than left alone: {', '.join(worse)} (minutes of training are too few for it)")
    (read,) = read_runs([run])
    print(verdict([read], read.tasks))
    print(f"{len(photos)} photographs that never trained anything; ticket: {found.kept:,} of {found.total:,} parameters "
          f"({found.density:.2%}), {(run / 'ticket.mirl').stat().st_size:,} bytes")  # fmt: skip
    for name, path in {
        "ticket": run / "ticket.mirl",
        "report": out / "report.html",
        "degraded": pairs,
        "restored": restored,
    }.items():
        print(f"{name:9} {path}")
    seconds = time.monotonic() - began
    facts = {"command": "make demo", "density": found.density, "seconds": seconds, "mean_psnr_db": summary}
    write_json(out / "summary.json", facts)
    print(f"{seconds:.0f} s")


def task_folder(task: str) -> str:
    """The folder that `mirl data synth` writes a task's pairs into."""
    from mirl.degrade.tasks import TASKS as REGISTRY

    return task if REGISTRY[task].kind == "denoise" else REGISTRY[task].kind


if __name__ == "__main__":
    main()
