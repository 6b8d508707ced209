"""Images of any size, whole, through the native engine and through a dense one: largest difference, seconds, peak memory.

    python bench/sizes.py [--sizes 1x1 8x8 17x23 321x481 1023x767 2000x3000] [--threads 2] [--json results/sizes.json]

A ticket of the network small, 90 % pruned layer by layer, initial weights scaled so that every layer shows in the output.
Each forward is the first of a process of its own: the seconds are those of one run, for orientation only. The reference is
PyTorch where its memory suffices, else ONNX Runtime, which the row names. Differences are of values up to `largest_value`.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mirl.engine.engine import open_backend
from mirl.evaluate.speed import machine, parse_size
from mirl.evaluate.worker import memory_mb
from mirl.files import write_json
from mirl.layers import parameters
from mirl.ticket import Ticket, read_ticket, write_ticket

SIZES = ("1x1", "8x8", "17x23", "321x481", "1023x767", "2000x3000")
REFERENCES = ("torch", "onnx")


def scaled(ticket: Ticket) -> Ticket:
    """Give every convolution a gain of one, so that features keep their size on the way."""
    weights = {name: weight.copy() for name, weight in ticket.weights.items()}
    for p in parameters(ticket.network):
        if p.kind in ("conv", "pointwise", "depthwise"):
            weights[p.name] /= np.sqrt(np.square(weights[p.name]).sum() / p.shape[0]) or 1
    return replace(ticket, weights=weights)


def forward_once(name: str, file: Path, image: Path, output: Path, threads: int, memory_bytes: int) -> None:
    """Restore the image in this process, in so much memory, and print the figures as JSON."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))  # an error here, not the system's killer
    backend, pixels = open_backend(read_ticket(file), name, threads), np.load(image)
    began = time.perf_counter()
    restored = backend.forward(pixels)
    seconds = time.perf_counter() - began
    np.save(output, restored)
    print(json.dumps({"seconds": seconds, "peak_mb": memory_mb()[1]}))


def measure(name: str, file: Path, image: Path, threads: int) -> dict[str, Any]:
    """Run `forward_once` in a process of its own; raises CalledProcessError where the memory does not suffice."""
    output = image.with_name(f"{name}.npy")
    words = [sys.executable, __file__, "--one", name, file, image, output, threads, int(0.9 * available_bytes())]
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=True)
    return {**json.loads(result.stdout), "restored": np.load(output)}


def available_bytes() -> float:
    """Memory that the system can give without swapping."""
    fields = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(fields["MemAvailable"].split()[0]) * 1024


def compare(size: tuple[int, int], file: Path, folder: Path, threads: int) -> dict[str, Any]:
    image = folder / "image.npy"
    np.save(image, np.random.default_rng(0).random((*size, 3), dtype=np.float32))
    native = measure("native", file, image, threads)
    row: dict[str, Any] = {"size": list(size), "seconds": native["seconds"], "peak_mb": native["peak_mb"], "left_out": []}
    for name in REFERENCES:
        try:
            dense = measure(name, file, image, threads)
        except subprocess.CalledProcessError as error:
            row["left_out"].append(f"{name}: {(error.stderr.strip().splitlines() or ['ended'])[-1]}")
            continue
        difference = float(np.abs(dense["restored"] - native["restored"]).max())
        largest = float(np.abs(dense["restored"]).max())
        return row | {
            "max_abs_diff": difference, "largest_value": largest, "reference": name,
            "reference_seconds": dense["seconds"], "reference_peak_mb": dense["peak_mb"],
        }  # fmt: skip
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=list(SIZES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, default=Path("results/sizes.json"))
    options = parser.parse_args()
    from patterns import NETWORKS, make_ticket  # with PyTorch, which must not count in the native engine's process

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "small.mirl"
        write_ticket(scaled(make_ticket(NETWORKS["small"], "layer-90")), file, "float32")
        for size in options.sizes:
            rows.append(row := compare(parse_size(size), file, Path(folder), options.threads))
            told = f"{row['max_abs_diff']:.1e} from {row['reference']}" if "reference" in row else "no reference fits"
            print(
                f"{size:>10}: {told}, {row['seconds']:.2f} s, {row['peak_mb']:.0f} MB",
                *row["left_out"],
                sep="  ",
                flush=True,
            )
    command = f"python bench/sizes.py --threads {options.threads}"
    setting = {"network": "small", "pattern": "layer-90, gains of one", "threads": options.threads, "runs": 1}
    write_json(options.json, {"command": command, **setting, "rows": rows, "machine": machine()})


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        name, *paths, threads, memory = sys.argv[2:]
        forward_once(name, *map(Path, paths), int(threads), int(memory))
    else:
        main()
