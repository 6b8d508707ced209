"""Crops of free photographs, 1:1: degraded, dense, ticket, clean, side by side; of every task the best, median and worst.

The photographs are the package's held-out ones, which never train anything; test sets of others may not be shown.
"""

import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mirl.data.bundled import held_out_photos
from mirl.degrade.tasks import task_named
from mirl.engine.engine import open_backend, restore_pixels
from mirl.evaluate.metrics import psnr
from mirl.evaluate.page import CROP, crop_window
from mirl.files import atomic_write, make_folder, write_json
from mirl.image import cut_centre, quantise, read_pixels
from mirl.ticket import Ticket

SIDE = 512  # of the part of the photograph that is restored and measured
GAP = 8  # white pixels between two crops
RANKS = ("best", "median", "worst")
JPEG_QUALITY = 95


@dataclass(frozen=True)
class Strip:
    """One picture of four crops: what it shows, and PSNR in dB of the whole photographs it was cut from."""

    file: str
    task: str
    rank: str
    photo: str
    degraded: float
    dense: float
    ticket: float


def write_strips(dense: Ticket, ticket: Ticket, tasks: tuple[str, ...], folder: Path) -> list[Strip]:
    """Restore the held-out photographs with every task's degradation by both tickets; write TASK-RANK.jpg and crops.json.

    Ranked by what `ticket` gains over the degraded photograph. With fewer than three photographs a rank may repeat one.
    """
    backends = [open_backend(each) for each in (dense, ticket)]
    make_folder(folder)
    strips = []
    for task in tasks:
        found = []
        for path in held_out_photos():
            clean = cut_centre(quantise(read_pixels(path)), SIDE)
            degraded = task_named(task).degrade(clean, np.random.default_rng(zlib.crc32(f"{task}/{path.stem}".encode())))
            restored = [quantise(restore_pixels(backend, degraded)) for backend in backends]
            scores = [psnr(image, clean) for image in (degraded, *restored)]
            found.append((scores[2] - scores[0], path.stem, scores, (degraded, *restored, clean)))
        found.sort(key=lambda each: (-each[0], each[1]))
        for rank, index in zip(RANKS, (0, len(found) // 2, -1), strict=True):
            _, photo, scores, images = found[index]
            strip = Strip(f"{task}-{rank}.jpg", task, rank, photo, *scores)
            with atomic_write(folder / strip.file) as file:
                _strip(images).save(file, "JPEG", quality=JPEG_QUALITY, subsampling=0)
            strips.append(strip)
    write_json(folder / "crops.json", [asdict(strip) for strip in strips])
    return strips


def _strip(images: tuple[np.ndarray, ...]) -> Image.Image:
    """Cut the window where the first image is furthest from the last out of all, and set them side by side."""
    top, left = crop_window(images[0], images[-1])
    cuts = [image[top : top + CROP, left : left + CROP] for image in images]
    white = np.ones((cuts[0].shape[0], GAP, 3), np.float32)
    row = np.concatenate([part for cut in cuts for part in (cut, white)][:-1], axis=1)
    return Image.fromarray(np.rint(row * 255).astype(np.uint8))
