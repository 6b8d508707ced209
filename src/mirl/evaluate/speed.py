"""Time the runtimes of a ticket against each other: the same image, the same threads, one at a time, in turns.

Every round each runtime restores the image once, and each round another one begins, so what else happens on the machine
meets all alike. Every runtime lives in a process of its own (`evaluate.worker`).
"""

import os
import platform
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mirl.data.bundled import held_out_photos
from mirl.degrade.noise import add_gaussian_noise
from mirl.errors import MirlError
from mirl.evaluate.roofline import Roofline, count_work, measure_peak, roofline
from mirl.evaluate.runtimes import RUNTIMES, lacks
from mirl.evaluate.worker import RuntimeProcess, child_environment
from mirl.ticket import describe_ticket, read_ticket

_LARGEST_SIDE = 16384


class Restorer(Protocol):
    """What is timed: `restore` restores the one image and returns the seconds that took."""

    name: str

    def restore(self) -> float:
        """Restore the image once."""


@dataclass(frozen=True)
class Row:
    """Figures of one runtime. Memory in megabytes: `peak` of its process, `working` what it took beyond the loaded ticket.

    `gflop` is what one image makes it compute, 1e9 operations; `share_of_peak` of the arithmetic peak for these threads.
    """

    backend: str
    version: str
    times_ms: tuple[float, ...]
    peak_mb: float
    working_mb: float
    load_seconds: float
    max_abs_diff: float
    gflop: float
    share_of_peak: float

    @property
    def median_ms(self) -> float:
        """Median of the rounds."""
        return statistics.median(self.times_ms)

    def to_json(self) -> dict[str, Any]:
        """Return the row of the JSON of `mirl bench`."""
        return {
            "backend": self.backend, "median_ms": self.median_ms, "min_ms": min(self.times_ms),
            "max_ms": max(self.times_ms), "peak_mb": self.peak_mb, "max_abs_diff": self.max_abs_diff,
            "working_mb": self.working_mb, "load_seconds": self.load_seconds, "version": self.version,
            "gflop": self.gflop, "gflops": 1e3 * self.gflop / self.median_ms, "share_of_peak": self.share_of_peak,
            "times_ms": list(self.times_ms),
        }  # fmt: skip


@dataclass(frozen=True)
class Speed:
    """What `measure_speed` found. `reference` is the backend whose output the others' is compared with."""

    size: tuple[int, int]
    threads: int
    rows: tuple[Row, ...]
    reference: str
    density: float
    density_macs: float
    roofline: Roofline
    facts: dict[str, Any] | None
    machine: dict[str, Any]

    @property
    def best_other(self) -> Row | None:
        """The fastest runtime besides the native one."""
        others = [row for row in self.rows if row.backend != "native"]
        return min(others, key=lambda row: row.median_ms) if others else None

    @property
    def speedup_over_best_other(self) -> float | None:
        """Median of the best other runtime over the native engine's; None without one of the two."""
        native = [row for row in self.rows if row.backend == "native"]
        return self.best_other.median_ms / native[0].median_ms if native and self.best_other else None

    def to_json(self, ticket: str, command: str) -> dict[str, Any]:
        """Return the JSON of `mirl bench`; `ticket` and `command` as the user named them."""
        return {
            "size": list(self.size), "threads": self.threads, "runs": len(self.rows[0].times_ms),
            "rows": [row.to_json() for row in self.rows], "speedup_over_best_other": self.speedup_over_best_other,
            "ticket": ticket, "density": self.density, "density_macs": self.density_macs, "reference": self.reference,
            "roofline": asdict(self.roofline), "native": self.facts, "machine": self.machine, "command": command,
        }  # fmt: skip


def parse_size(text: str) -> tuple[int, int]:
    """Read a side such as 512, or HEIGHTxWIDTH such as 321x481, in pixels. Raises MirlError for anything else."""
    match = re.fullmatch(r"(\d{1,6})(?:x(\d{1,6}))?", text.strip())
    size = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
    if not all(1 <= side <= _LARGEST_SIDE for side in size):
        raise MirlError(
            f"--size {text!r} is not understood; expected a side of 1 to {_LARGEST_SIDE} pixels such as 512, "
            "or HEIGHTxWIDTH such as 321x481"
        )
    return size


def example_image(size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the (height, width, 3) image that is timed: a bundled photograph, resized, with noise of sigma 25."""
    with Image.open(held_out_photos()[0]) as photo:
        resized = photo.convert("RGB").resize((size[1], size[0]), Image.Resampling.LANCZOS)
    noisy = add_gaussian_noise(np.asarray(resized, np.float32) / 255, np.random.default_rng(0), sigma_255=25.0)
    return np.ascontiguousarray(noisy, np.float32)


def choose_runtimes(against: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the runtimes to time, the native one first, and what is said about those left out.

    Without `against`, all that are installed. Raises MirlError when one that was asked for, or every one, is missing.
    """
    if unknown := set(against) - set(RUNTIMES):
        raise MirlError(f"unknown runtime {min(unknown)!r}; expected --against {' '.join(name for name in RUNTIMES)}")
    wanted = tuple(dict.fromkeys(("native", *(against or RUNTIMES))))
    missing = {name: reason for name in wanted if (reason := lacks(name))}
    if asked := [missing[name] for name in against if name in missing]:
        raise MirlError(f"cannot compare: {'; '.join(asked)}")
    chosen = tuple(name for name in wanted if name not in missing)
    if not chosen:
        raise MirlError(f"no runtime can run: {'; '.join(missing.values())}")
    return chosen, tuple(missing.values())


def interleave(
    restorers: Sequence[Restorer], runs: int, seconds: float | None = None, tell: Callable[[int, str], None] | None = None
) -> dict[str, list[float]]:
    """Return the seconds of each restoration by name: all warm up once, then rounds whose first one rotates.

    Stops after `runs` rounds, or after the first one that ends later than `seconds` from the start of the first.
    `tell(done, name)` is called after each restoration, warm-up included.
    """
    times: dict[str, list[float]] = {restorer.name: [] for restorer in restorers}
    done, began = 0, 0.0
    for number in range(-1, runs):
        if number == 0:
            began = time.monotonic()
        first = max(number, 0) % len(restorers)
        for restorer in (*restorers[first:], *restorers[:first]):
            taken = restorer.restore()
            if number >= 0:
                times[restorer.name].append(taken)
            done += 1
            if tell:
                tell(done, restorer.name)
        if seconds is not None and number >= 0 and time.monotonic() - began >= seconds:
            break
    return times


def measure_speed(
    ticket: Path,
    size: tuple[int, int],
    threads: int = 1,
    names: Sequence[str] = ("native", "torch"),
    runs: int = 5,
    seconds: float | None = None,
    progress: Callable[[float, int, str], None] | None = None,
) -> Speed:
    """Time the runtimes `names` on one image of `size` (height, width) with the ticket in the file `ticket`.

    `runs` and `seconds` as in `interleave`; `progress(done, all, name)` after each restoration. Raises MirlError for bad
    options, a bad ticket or a runtime that fails.
    """
    if threads < 1 or runs < 1:
        raise MirlError(f"--threads and --runs must be at least 1, found {threads} and {runs}")
    loaded = read_ticket(ticket)
    count = (runs + 1) * len(names)
    load_average = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirl-bench-")))
        np.save(folder / "image.npy", example_image(size))
        processes = []
        for name in names:
            output = folder / f"{name}.npy"
            words = ("mirl.evaluate.worker", name, ticket, folder / "image.npy", output, threads)
            command = [sys.executable, "-m", *map(str, words)]
            process = RuntimeProcess(name, command, child_environment(threads), folder / f"{name}.txt")
            stack.callback(process.close)
            process.start()
            processes.append(process)
        told = progress or (lambda done, total, name: None)
        times = interleave(processes, runs, seconds, lambda done, name: told(done, count, name))
        memory = {process.name: process.finish() for process in processes}
        outputs = {name: np.load(folder / f"{name}.npy") for name in names}
    if broken := [name for name in names if not np.isfinite(outputs[name]).all()]:
        raise MirlError(f"{', '.join(broken)} gave NaN or infinite pixels; check the ticket: mirl inspect")
    facts = {process.name: process.ready["facts"] for process in processes}.get("native")
    work, peak = count_work(loaded, *size), measure_peak(threads)
    bounds = roofline(work, peak, facts, (size[0] + -size[0] % 8) * (size[1] + -size[1] % 8))
    dense = [name for name in names if name != "native"]
    reference = "torch" if "torch" in dense else (dense or list(names))[0]
    rows = []
    for process in processes:
        name = process.name
        gflop = bounds.native_gflop if name == "native" else work.dense_gflop
        rows.append(
            Row(
                backend=name,
                version=process.ready["version"],
                times_ms=tuple(1e3 * taken for taken in times[name]),
                peak_mb=memory[name]["peak_mb"],
                working_mb=memory[name]["working_mb"],
                load_seconds=process.ready["load_seconds"],
                max_abs_diff=float(np.abs(outputs[name] - outputs[reference]).max()),
                gflop=gflop,
                share_of_peak=gflop / statistics.median(times[name]) / peak.gflops,
            )
        )
    return Speed(
        size, threads, tuple(rows), reference, loaded.density, describe_ticket(loaded, 0)["density_macs"], bounds, facts,
        {**machine(), "load_average_before": load_average},
    )  # fmt: skip


def machine() -> dict[str, Any]:
    """Say what this machine is: processor, cores, system and Python."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists() and (match := re.search(r"model name\s*:\s*(.+)", info.read_text())):
        cpu = match[1]
    return {
        "cpu": cpu, "cores": os.cpu_count(), "system": platform.platform(), "python": platform.python_version(),
        "numpy": np.__version__,
    }  # fmt: skip
