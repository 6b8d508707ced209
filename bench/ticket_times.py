"""CPU time of tickets against CDnCNN-B, the yardstick of results/peers.json, in turns on one photograph, one thread each."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mirl.data import bundled
from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.memory import keep_large_blocks
from mirl.evaluate.speed import machine
from mirl.files import sha256
from mirl.image import read_pixels
from mirl.ticket import read_ticket

HEIGHT, WIDTH = 384, 512  # as the peers were timed


def cdncnn() -> nn.Sequential:
    """CDnCNN-B (Zhang et al. 2017, arXiv 1608.03981), batch normalisation merged: time does not ask for trained weights."""
    inner = [layer for _ in range(18) for layer in (nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(inplace=True))]
    return nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(inplace=True), *inner, nn.Conv2d(64, 3, 3, padding=1))


def measure_times(tickets: dict[str, Path], rounds: int) -> dict[str, Any]:
    """Median milliseconds and ratio to CDnCNN-B of each ticket through the native engine; medians of `rounds` turns."""
    keep_large_blocks()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        photo = read_pixels(bundled.held_out_photos()[0])[:HEIGHT, :WIDTH]
        batch = torch.from_numpy(np.ascontiguousarray(photo)).permute(2, 0, 1)[None].contiguous()
        network = cdncnn().eval()
        works: dict[str, Callable[[], Any]] = {"CDnCNN-B": lambda: network(batch)}
        for name, path in tickets.items():
            backend = open_backend(read_ticket(path), "native", threads=1)
            works[name] = lambda backend=backend: restore_pixels(backend, photo)  # type: ignore[misc]
        seconds: dict[str, list[float]] = {name: [] for name in works}
        with torch.inference_mode():
            for turn in range(rounds + 1):
                for name, work in works.items():
                    began = time.process_time()
                    work()
                    if turn:  # the first is warm-up
                        seconds[name].append(time.process_time() - began)
    finally:
        torch.set_num_threads(threads)
    yardstick = seconds.pop("CDnCNN-B")
    rows = [
        {"place": name, "sha256": sha256(tickets[name]), "median_ms": 1000 * statistics.median(mine),
         "ratio": statistics.median(a / b for a, b in zip(mine, yardstick, strict=True))}
        for name, mine in seconds.items()
    ]  # fmt: skip
    return {"size": [HEIGHT, WIDTH], "threads": 1, "rounds": rounds, "yardstick": "CDnCNN-B in PyTorch",
            "yardstick_ms": 1000 * statistics.median(yardstick), "machine": machine(), "rows": rows}  # fmt: skip
