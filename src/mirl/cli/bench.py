"""mirl bench."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.table import Table

from mirl.files import write_json

if TYPE_CHECKING:
    from mirl.evaluate.speed import Speed


def bench(
    ticket: str,
    size: str = "512",
    threads: int = 1,
    against: tuple[Literal["torch", "onnxruntime", "openvino"], ...] = (),
    runs: int = 5,
    seconds: float | None = None,
    json: Path | None = None,
) -> None:
    """Time the native engine against other runtimes on one image, in turns, each in a process of its own.

    Args:
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        size: Side of the image in pixels, or HEIGHTxWIDTH such as 321x481.
        threads: Processor threads of each runtime.
        against: Runtimes to compare with; all that are installed when left out.
        runs: Rounds in which every runtime restores the image once, after one to warm up.
        seconds: Stop after the round in which so many seconds have passed.
        json: Write the figures to this file.
    """
    from mirl.cli.progress import counting_progress
    from mirl.evaluate.speed import choose_runtimes, measure_speed, parse_size
    from mirl.ticket import find_ticket

    pixels, file = parse_size(size), find_ticket(ticket)
    names, left_out = choose_runtimes(against)
    for reason in left_out:
        print(f"mirl: left out: {reason}", file=sys.stderr)
    with counting_progress("measuring") as count:
        speed = measure_speed(file, pixels, threads, names, runs, seconds, count)
    if json is not None:
        command = ["mirl", "bench", "--ticket", ticket, "--size", size, "--threads", str(threads), "--runs", str(runs)]
        command += ["--seconds", f"{seconds:g}"] if seconds is not None else []
        command += ["--against", *against] if against else []
        write_json(json, speed.to_json(ticket, shlex.join(command)))
    _print(speed)


def _print(speed: "Speed") -> None:
    height, width = speed.size
    native = next((row.median_ms for row in speed.rows if row.backend == "native"), None)
    table = Table(
        "runtime", "median ms", "least to most", "to native", "peak MB", "working MB", "largest difference", "Gflop/s",
        "of peak", title=f"{width}x{height} pixels, {speed.threads} thread{'s' * (speed.threads > 1)}, "
        f"{len(speed.rows[0].times_ms)} rounds; density {speed.density:.2%}, by MACs {speed.density_macs:.2%}",
    )  # fmt: skip
    for row in speed.rows:
        table.add_row(
            row.backend,
            f"{row.median_ms:.1f}",
            f"{min(row.times_ms):.1f} to {max(row.times_ms):.1f}",
            f"{row.median_ms / native:.2f}x" if native else "",
            f"{row.peak_mb:.0f}",
            f"{row.working_mb:.0f}",
            "reference" if row.backend == speed.reference else f"{row.max_abs_diff:.1e}",
            f"{1e3 * row.gflop / row.median_ms:.1f}",
            f"{row.share_of_peak:.0%}",
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if speed.speedup_over_best_other is not None and speed.best_other is not None:
        print(f"native: {speed.speedup_over_best_other:.2f}x as fast as {speed.best_other.backend}, the best other runtime")
    line = speed.roofline
    print(
        f"roofline: {line.native_gflop:.1f} of {line.dense_gflop:.1f} Gflop ({line.attention_gflop:.1f} of attention) at "
        f"{line.peak_gflops:.0f} Gflop/s take at least {line.compute_bound_ms:.1f} ms; "
        f"{line.weight_mb + line.feature_mb:.0f} MB at {line.peak_gb_per_second:.1f} GB/s, {line.memory_bound_ms:.1f} ms, "
        "if no cache holds them"
    )
