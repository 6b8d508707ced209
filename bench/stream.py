"""Patches per second of the training stream alone, per task and mixed, and the time to start it.

    python bench/stream.py [--data ../shared/data/train] [--threads 1] [--device cpu] [--patch 64] [--batch 8]

Each row is the median of five rounds, with the slowest and fastest; `per CPU s` counts this process's own
time, which other programs on the machine disturb less. No training runs: this is the ceiling the stream sets.
The last line compares the two ways to cut crops that `mirl.data.store` uses on the CPU and on a GPU.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from mirl.data.patches import load_training_data
from mirl.data.store import ImageStore
from mirl.degrade.tasks import TASKS
from mirl.recipe import THREE_TASKS, TaskShare


def rate(make, patches, seconds):
    """Return the median, slowest and fastest patches per second of `make()`, and those per CPU second."""
    make()
    rates, made, cpu = [], 0, time.process_time()
    for _ in range(5):
        calls, start = 0, time.perf_counter()
        while (spent := time.perf_counter() - start) < seconds:
            make()
            calls += 1
        rates.append(calls * patches / spent)
        made += calls * patches
    return statistics.median(rates), min(rates), max(rates), made / (time.process_time() - cpu)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a training folder; default: the bundled photographs")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--patch", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each round")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)

    def load(shares):
        start = time.perf_counter()
        stream = load_training_data(arguments.data, shares, arguments.patch, seed=0, device=device)
        return stream, time.perf_counter() - start

    print(
        f"{arguments.data or 'bundled photographs'}, {device}, {arguments.threads} thread(s), "
        f"{arguments.patch}x{arguments.patch}, batch {arguments.batch}"
    )
    print(f"{'tasks':<12} {'start s':>8} {'patches/s':>10} {'slowest':>9} {'fastest':>9} {'per CPU s':>10}")
    mixes = {name: (TaskShare(name),) for name in TASKS}
    mixes |= {"three tasks": THREE_TASKS, "with web": (*THREE_TASKS, TaskShare("web", sampling=3.0))}
    rows = []
    for name, shares in mixes.items():
        stream, start = load(shares)
        steps = iter(range(10**9))

        def make(stream=stream, steps=steps):
            stream.batch(next(steps), arguments.batch)
            if device.type == "cuda":
                torch.cuda.synchronize()

        measured = rate(make, arguments.batch, arguments.seconds)
        print(f"{name:<12} {start:8.2f} " + "{:10.0f} {:9.0f} {:9.0f} {:10.0f}".format(*measured))
        columns = ("patches_per_second", "slowest", "fastest", "per_cpu_second")
        rows.append({"tasks": name, "start_seconds": start, **dict(zip(columns, measured, strict=True))})
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (321, 481, 3), dtype=np.uint8)
    store = ImageStore(((photo, None) for _ in range(100)), arguments.patch)
    store._on_device = torch.from_numpy(store._bytes.reshape(-1, 3))
    places = [rng.integers(0, high, 64) for high in (100, 321 - arguments.patch, 481 - arguments.patch, 8)]
    print(
        "cutting alone, CPU: "
        + ", ".join(
            f"{name} {rate(lambda cut=cut: cut(*places, arguments.patch, False), 64, arguments.seconds)[0]:.0f} patches/s"
            for name, cut in (("strided copies", store._copied), ("one gather", store._gathered))
        )
    )
    if arguments.json:
        command = f"python bench/stream.py --threads {arguments.threads} --patch {arguments.patch} --batch {arguments.batch}"
        command += f" --data {arguments.data}" if arguments.data else ""
        arguments.json.write_text(json.dumps({"command": command, "device": str(device), "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
