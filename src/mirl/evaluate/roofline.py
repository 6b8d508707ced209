"""What a ticket's work costs at least: multiply-accumulates and bytes against measured peaks of the machine.

A multiply-accumulate is two floating-point operations. Peaks are measured by a process with the environment of the timed
ones: for arithmetic a product of two 2048 x 2048 float32 matrices (numpy's BLAS), for memory a copy of 400 MB by as many
threads, read and write counted. Roofline: Williams, Waterman and Patterson 2009, doi 10.1145/1498765.1498785.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from mirl.errors import MirlError
from mirl.evaluate.worker import child_environment
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameters, stage_widths
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

_SIDE = 2048
_FLOATS = 100_000_000  # 400 MB: no cache holds it
_SECONDS = 1.0


@dataclass(frozen=True)
class Peak:
    """Measured peaks of this machine with so many threads: 1e9 operations and 1e9 bytes a second."""

    gflops: float
    gb_per_second: float


@dataclass(frozen=True)
class Work:
    """What one image costs, attention products included: 1e9 operations, and bytes.

    `dense_gflop` is what a runtime does that multiplies by zero, `ticket_gflop` what the masks leave, `attention_gflop` the
    part of both that no mask can shrink. `weight_bytes`: 8 for each kept weight of a masked tensor (value and place), 4 for
    others. `feature_bytes`: see `feature_bytes_per_pixel`.
    """

    dense_gflop: float
    ticket_gflop: float
    attention_gflop: float
    weight_bytes: float
    feature_bytes: float


@dataclass(frozen=True)
class Roofline:
    """Peaks, work, and the least milliseconds by arithmetic and by memory, for what the native engine does of the work."""

    peak_gflops: float
    peak_gb_per_second: float
    dense_gflop: float
    ticket_gflop: float
    native_gflop: float
    attention_gflop: float
    weight_mb: float
    feature_mb: float
    compute_bound_ms: float
    memory_bound_ms: float


def count_work(ticket: Ticket, height: int, width: int) -> Work:
    """Count the work of a ticket on an image, padded to multiples of 8 as the network pads it."""
    pixels = (height + -height % 8) * (width + -width % 8)
    kept = {p.name: p.size for p in parameters(ticket.network)}
    kept |= {name: int(np.count_nonzero(mask)) for name, mask in ticket.masks.items()}
    attention = attention_macs_per_pixel(ticket.network)
    masked = sum(kept[p.name] * p.uses_per_pixel for p in parameters(ticket.network))
    gflop = 2e-9 * pixels
    return Work(
        dense_gflop=gflop * (macs_per_pixel(ticket.network) + attention),
        ticket_gflop=gflop * (masked + attention),
        attention_gflop=gflop * attention,
        weight_bytes=float(sum((8 if name in ticket.masks else 4) * count for name, count in kept.items())),
        feature_bytes=pixels * feature_bytes_per_pixel(ticket.network),
    )


def feature_bytes_per_pixel(network: NetworkConfig) -> float:
    """Estimate the bytes of features that a fused float32 engine moves for each input pixel when no cache holds them.

    A block of c channels is three passes: x in, v out (2c); v and x in, x out (3c); x in, x out (2c). What is between
    them, such as the hidden channels of the feed-forward, stays in the cache. Other convolutions read and write once.
    """
    stages = stage_widths(network)
    blocks = sum(count * 7 * channels / scale**2 for channels, _, count, scale in stages.values())
    convolutions = sum(
        (p.shape[0] + p.shape[1]) * p.uses_per_pixel
        for p in parameters(network)
        if p.uses_per_pixel and p.name.split(".")[0] not in stages
    )
    return 4 * (blocks + convolutions)


def roofline(work: Work, peak: Peak, facts: dict[str, Any] | None, pixels: int) -> Roofline:
    """Put the work against the peaks.

    The bounds are for the work of the native engine where its `facts` say what compaction leaves, else for the masks'.
    `pixels` are those of the padded image.
    """
    native = 2e-9 * facts["macs_per_pixel"] * pixels if facts else work.ticket_gflop
    weight_bytes = float(facts["plan_bytes"]) if facts and "plan_bytes" in facts else work.weight_bytes
    return Roofline(
        peak_gflops=peak.gflops,
        peak_gb_per_second=peak.gb_per_second,
        dense_gflop=work.dense_gflop,
        ticket_gflop=work.ticket_gflop,
        native_gflop=native,
        attention_gflop=work.attention_gflop,
        weight_mb=weight_bytes / 1e6,
        feature_mb=work.feature_bytes / 1e6,
        compute_bound_ms=1e3 * native / peak.gflops,
        memory_bound_ms=1e-6 * (weight_bytes + work.feature_bytes) / peak.gb_per_second,
    )


def measure_peak(threads: int) -> Peak:
    """Measure both peaks in a process of its own, about three seconds. Raises MirlError when that process fails."""
    environment = child_environment(threads)
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):  # a forced kernel is not the machine's peak
        environment.pop(name, None)
    command = [sys.executable, "-m", "mirl.evaluate.roofline", str(threads)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise MirlError(f"measuring the machine's peak failed: {last}; close other programs that take memory")
    return Peak(**json.loads(result.stdout))


def main(arguments: Sequence[str]) -> None:
    """Print both peaks for THREADS threads as JSON."""
    threads = int(arguments[0])
    left = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    product = np.empty_like(left)
    seconds = _best(lambda: np.matmul(left, left, out=product))
    source, target = np.ones(_FLOATS, np.float32), np.zeros(_FLOATS, np.float32)
    parts = [slice(_FLOATS * i // threads, _FLOATS * (i + 1) // threads) for i in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        copying = _best(lambda: list(pool.map(lambda part: np.copyto(target[part], source[part]), parts)))
    print(json.dumps({"gflops": 2e-9 * _SIDE**3 / seconds, "gb_per_second": 2e-9 * source.nbytes / copying}))


def _best(work: Callable[[], object]) -> float:
    """Return the shortest of the times that `work` takes within a second, at least three."""
    times: list[float] = []
    while sum(times) < _SECONDS or len(times) < 3:
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


if __name__ == "__main__":
    main(sys.argv[1:])
