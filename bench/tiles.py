"""Tiles: peak memory of a 12-megapixel photo, and how far tiles are from the whole image on 1 megapixel.

    python bench/tiles.py [--ticket runs/demo/run/ticket.mirl] [--json results/tiles.json]

The large photo is a mosaic of bundled photographs, restored by the command `mirl restore` in a process of its own; its peak
resident memory is what the system reports. The comparison takes a held-out photo resized to 1152x896 in each task: PSNR
between the tiled and the whole-image result, and the step across tile borders against the mean step between neighbouring
pixels (a seam would stand out above 1).
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.bundled import held_out_photos, training_photos
from mirl.degrade.tasks import task_named
from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.memory import keep_large_blocks
from mirl.engine.options import Options
from mirl.engine.tiles import OVERLAP, starts
from mirl.evaluate.metrics import psnr
from mirl.ticket import load_ticket


def large_photo(width: int, height: int) -> Image.Image:
    mosaic = Image.new("RGB", (width, height))
    photos = [Image.open(path).convert("RGB").resize((1000, 750)) for path in training_photos()]
    for number, (top, left) in enumerate((t, x) for t in range(0, height, 750) for x in range(0, width, 1000)):
        mosaic.paste(photos[number % len(photos)], (left, top))
    return mosaic


def peak_memory(ticket: str, threads: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "large.jpg"
        large_photo(4000, 3000).save(source, quality=90)
        began = time.perf_counter()
        subprocess.run(
            [sys.executable, "-m", "mirl", "restore", source, "-o", Path(folder) / "out", "--ticket", ticket,
             "--threads", str(threads), "--backend", "torch", "--window", "0"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        seconds = time.perf_counter() - began
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    return {"megapixels": 12.0, "threads": threads, "peak_mb": megabytes, "seconds": seconds}


def tiled_against_whole(ticket: str, tile: int) -> list[dict[str, float | str]]:
    backend = open_backend(load_ticket(ticket), "torch")
    with Image.open(held_out_photos()[-1]) as photo:
        clean = np.asarray(photo.convert("RGB").resize((1152, 896), Image.Resampling.LANCZOS), np.float32) / 255
    rows: list[dict[str, float | str]] = []
    for task in ("denoise25", "derain", "dehaze", "web", "clean"):
        image = clean if task == "clean" else task_named(task).degrade(clean, np.random.default_rng(0))
        whole = restore_pixels(backend, image, Options(window=0, tile=0))
        tiled = restore_pixels(backend, image, Options(window=0, tile=tile))
        error = tiled - whole
        steps = np.abs(np.diff(error, axis=1)).mean(axis=(0, 2))
        borders = [edge - 1 for start in starts(1152, tile, OVERLAP)[1:] for edge in (start, start + OVERLAP)]
        rows.append(
            {
                "input": task,
                "tile": tile,
                "psnr_tiled_against_whole": psnr(tiled, whole),
                "psnr_restored": psnr(whole, clean) if task != "clean" else float("nan"),
                "step_at_borders_over_mean": float(steps[[b for b in borders if b < steps.size]].mean() / steps.mean()),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticket", default="runs/demo/run/ticket.mirl")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    large = peak_memory(options.ticket, options.threads)
    keep_large_blocks()
    rows = tiled_against_whole(options.ticket, options.tile)
    for row in rows:
        print(f"{row['input']:10} tiles of {row['tile']}: {row['psnr_tiled_against_whole']:.1f} dB from the whole image, "
              f"step at borders {row['step_at_borders_over_mean']:.2f} of the mean")  # fmt: skip
    print(f"12 megapixels: peak {large['peak_mb']:.0f} MB, {large['seconds']:.0f} s on {options.threads} threads")
    if options.json:
        command = f"python bench/tiles.py --ticket {options.ticket} --threads {options.threads} --tile {options.tile}"
        result = {"command": command, "large": large, "tiles": [{k: v for k, v in row.items() if v == v} for row in rows]}
        options.json.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
