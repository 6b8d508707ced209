"""What a JPEG does to a spoiled photograph before it is restored: PSNR in and out, by task, coding and ticket.

    python bench/coded.py [--json results/coded.json]

The package's held-out photographs, centre of 512 pixels, spoiled as a task says, then coded; half a minute.
"""

import argparse
import statistics
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.bundled import held_out_photos
from mirl.degrade.codec import code_jpeg
from mirl.degrade.tasks import task_named
from mirl.engine.engine import open_backend, restore_pixels
from mirl.evaluate.crops import SIDE
from mirl.evaluate.metrics import psnr
from mirl.files import sha256, write_json
from mirl.image import cut_centre, quantise, read_pixels
from mirl.ticket import read_ticket, shipped

TASKS = ("denoise25", "derain", "dehaze")
CODINGS: dict[str, tuple[int, bool] | None] = {  # quality of JPEG, and whether it keeps the full resolution of colour
    "as it is": None,
    "JPEG 95, 4:4:4": (95, True),
    "JPEG 95, 4:2:0": (95, False),
    "JPEG 80, 4:2:0": (80, False),
}


def coded(image: np.ndarray, coding: tuple[int, bool] | None) -> np.ndarray:
    """Return what a reader sees of an image (h, w, 3) in [0, 1] after it was coded; None leaves it as it is."""
    if coding is None:
        return image
    picture = code_jpeg(Image.fromarray(np.rint(image * 255).astype(np.uint8)), *coding)
    return np.asarray(picture, np.float32) / np.float32(255)


def measure() -> list[dict[str, object]]:
    """Return a row for each task and coding: mean PSNR in dB of the input and of what every shipped ticket makes of it."""
    backends = {name: open_backend(read_ticket(path)) for name, path in shipped().items()}
    photos = {path.stem: cut_centre(quantise(read_pixels(path)), SIDE) for path in held_out_photos()}
    rows: list[dict[str, object]] = []
    for task in TASKS:
        spoiled = {
            name: task_named(task).degrade(clean, np.random.default_rng(zlib.crc32(f"{task}/{name}".encode())))
            for name, clean in photos.items()
        }
        for coding, choice in CODINGS.items():
            inputs = {name: coded(quantise(image), choice) for name, image in spoiled.items()}
            row: dict[str, object] = {"task": task, "coding": coding}
            row["input"] = statistics.fmean(psnr(inputs[name], clean) for name, clean in photos.items())
            for ticket, backend in backends.items():
                outputs = {name: quantise(restore_pixels(backend, image)) for name, image in inputs.items()}
                row[ticket] = statistics.fmean(psnr(outputs[name], clean) for name, clean in photos.items())
            rows.append(row)
            print(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = measure()
    if options.json:
        write_json(options.json, {
            "command": "python bench/coded.py --json results/coded.json", "photos": len(held_out_photos()),
            "tickets": {name: sha256(path) for name, path in shipped().items()}, "rows": rows,
        })  # fmt: skip


if __name__ == "__main__":
    main()
