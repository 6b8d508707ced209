"""mirl restore."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro

from mirl.errors import MirlError


def restore(
    inputs: tyro.conf.Positional[tuple[Path, ...]],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    ticket: str = "small",
    backend: Literal["auto", "native", "onnx", "torch"] = "auto",
    strength: float = 1.0,
    threads: int | None = None,
    tile: int | None = None,
    format: Literal["keep", "jpeg", "png", "webp", "tiff", "bmp"] = "keep",
    quality: int | None = None,
    max_megapixels: float = 100.0,
    recursive: bool = False,
) -> None:
    """Restore photographs: same size, name and, unless you ask for another, format; metadata kept; inputs never overwritten.

    A single photo and an output with an image suffix make that file; otherwise the output is a folder. - is stdin or stdout.

    Args:
        inputs: Photos or folders of photos.
        out: Output folder, or file for a single photo.
        ticket: Name of a shipped ticket, or a .mirl file.
        backend: What runs the network: the native sparse engine, ONNX Runtime, PyTorch, or the fastest that is installed.
        strength: 0 gives the input back, 1 the restored photo, between them a blend.
        threads: Processor threads; the backend's own number when left out.
        tile: Tile side in pixels; 0 restores the whole photo at once; chosen from the memory it needs when left out.
        format: Save as this format, the suffix of the name included; keep is the photo's own.
        quality: 1 to 100, of JPEG and WebP; a fine JPEG keeps its own and a lossless WebP stays so when left out, else 95.
        max_megapixels: Refuse larger photos.
        recursive: Look into sub-folders too.
    """
    from mirl.cli.progress import counting_progress
    from mirl.engine.engine import open_backend
    from mirl.engine.memory import keep_large_blocks
    from mirl.engine.photos import STREAM, restore_files
    from mirl.ticket import load_ticket

    opened = open_backend(load_ticket(ticket), backend, threads)
    keep_large_blocks()
    with counting_progress("restoring") as count:
        result = restore_files(
            inputs, out, opened, strength=strength, tile=tile, format=format, quality=quality, max_megapixels=max_megapixels,
            recursive=recursive, progress=lambda done, total, path: count(done, total, path.name),
        )  # fmt: skip
    if out != STREAM:
        for path in result.done:
            print(path)
    for path, message in result.failed:
        print(f"mirl: {message}" if str(path) in message else f"mirl: {path}: {message}", file=sys.stderr)
    if result.failed:
        raise MirlError(f"{len(result.failed)} of {len(result.failed) + len(result.done)} photos were not restored")
