"""mirl restore."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from mirl.errors import MirlError

if TYPE_CHECKING:
    from mirl.engine.photos import Choices

MOST_SHOWN = 20  # failures on the screen; the manifest has all


def restore(
    inputs: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="[PATH|URL [PATH|URL ...]]")]],
    out: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="PATH|URL")],
    ticket: str = "small",
    backend: Literal["auto", "native", "onnx", "torch"] = "auto",
    strength: float = 1.0,
    denoise: float = 1.0,
    dehaze: float = 1.0,
    tone: Literal["auto", "keep"] = "auto",
    window: int | None = None,
    threads: int | None = None,
    tile: int | None = None,
    format: Literal["keep", "jpeg", "png", "webp", "tiff", "bmp"] = "keep",
    quality: int | None = None,
    max_megapixels: float = 100.0,
    recursive: bool = False,
    engine: Literal["auto", "serial", "pool", "ray"] = "auto",
    workers: int | None = None,
    manifest: Annotated[str | None, tyro.conf.arg(metavar="PATH|URL")] = None,
    address: str | None = None,
) -> None:
    """Restore photographs: same size, name and, unless you ask for another, format; metadata kept; inputs never overwritten.

    A single photo and an output with an image suffix make that file; otherwise the output is a folder. - is stdin or stdout.
    For very many photos: worker processes or Ray (--engine), folders of object stores (any URL of fsspec), and a manifest of
    what became of each photo; with a manifest the same command goes on after a stop, and skips what is done.

    Args:
        inputs: Photos or folders of photos; URLs such as s3://bucket/in.
        out: Output folder, or file for a single photo; a folder's URL.
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        backend: What runs the network: the native sparse engine, ONNX Runtime, PyTorch, or the fastest that is installed.
        strength: 0 gives the input back, 1 the restored photo, between them a blend.
        denoise: How much of the fine change is applied, 0 to 1: noise, rain, traces of coding.
        dehaze: How much of the change of tone and contrast is applied, 0 to 1, where the ticket sees haze.
        tone: auto: tone changes as far as the ticket sees haze; keep: tone stays as it is.
        window: Side of the windows that are restored each on its own, in pixels, a multiple of 8; 0 takes the statistics of
            the whole photo; what the ticket says when left out.
        threads: Processor threads; the backend's own number when left out.
        tile: With --window 0: tile side in pixels; 0 restores the whole photo at once; chosen from the memory it needs when
            left out.
        format: Save as this format, the suffix of the name included; keep is the photo's own.
        quality: 1 to 100, of JPEG and WebP; a fine JPEG keeps its own and a lossless WebP stays so when left out, else 95.
        max_megapixels: Refuse larger photos.
        recursive: Look into sub-folders too.
        engine: serial: one photo after the other; pool: worker processes here; ray: Ray Data, on one machine or many;
            auto: serial, and pool for URLs or with --workers or --manifest.
        workers: Photos restored at the same time, each on --threads threads (1 when left out); all processors when left out.
        manifest: Where the manifest of a pool or of Ray goes; manifest.jsonl in the output folder when left out.
        address: Ray cluster to use, auto for the one on this machine; that of RAY_ADDRESS or a new one when left out.
    """
    from mirl.engine.options import Options
    from mirl.engine.photos import Choices
    from mirl.scale.places import in_memory, is_url

    choices = Choices(Options(strength, denoise, dehaze, tone, window, tile), format, quality, max_megapixels)
    places = (*inputs, out)
    urls = any(map(is_url, places))
    if engine == "auto":
        many = urls or workers is not None or manifest is not None
        engine = "pool" if many and not any(map(in_memory, places)) else "serial"
    if engine == "serial" and workers is not None:
        raise MirlError("--workers is for --engine pool and ray; use --threads with one photo at a time")
    if engine != "ray" and address is not None:
        raise MirlError(f"--address is a Ray cluster's; use it with --engine ray, found {engine}")
    if engine != "serial" or urls or manifest is not None:
        _restore_many(inputs, out, choices, ticket, backend, threads, engine, workers, address, manifest, recursive)
    else:
        _restore_here(inputs, Path(out), choices, ticket, backend, threads, recursive)


def _restore_here(
    inputs: tuple[str, ...], out: Path, choices: "Choices", ticket: str, backend: str, threads: int | None, recursive: bool
) -> None:
    from mirl.cli.progress import counting_progress
    from mirl.engine.engine import open_backend
    from mirl.engine.memory import keep_large_blocks
    from mirl.engine.photos import STREAM, restore_files
    from mirl.ticket import load_ticket

    opened = open_backend(load_ticket(ticket), backend, threads)
    keep_large_blocks()
    with counting_progress("restoring") as count:
        result = restore_files(
            [Path(place) for place in inputs], out, opened, choices, recursive=recursive,
            progress=lambda done, total, path: count(done, total, path.name),
        )  # fmt: skip
    if out != STREAM:
        for path in result.done:
            print(path)
    for path, message in result.failed:
        print(f"mirl: {message}" if str(path) in message else f"mirl: {path}: {message}", file=sys.stderr)
    _say_left_out(inputs, out, recursive)
    if result.failed:
        raise MirlError(f"{len(result.failed)} of {len(result.failed) + len(result.done)} photos were not restored")


def _say_left_out(inputs: tuple[str, ...], out: Path, recursive: bool) -> None:
    """Name the pictures in folders that nothing was tried with, or their owner would never know."""
    from mirl.engine.photos import left_out
    from mirl.scale.places import is_url

    others = left_out([Path(place) for place in inputs if not is_url(place)], out, recursive)
    if others:
        names = ", ".join(path.name for path in others[:MOST_SHOWN])
        more = f" and {len(others) - MOST_SHOWN} more" if len(others) > MOST_SHOWN else ""
        print(f"mirl: left out, of no format that is read here: {names}{more}", file=sys.stderr)


def _restore_many(
    inputs: tuple[str, ...], out: str, choices: "Choices", ticket: str, backend: str, threads: int | None,
    engine: Literal["serial", "pool", "ray"], workers: int | None, address: str | None, manifest: str | None,
    recursive: bool,
) -> None:  # fmt: skip
    from mirl.cli.progress import counting_progress
    from mirl.scale.batch import restore_batch
    from mirl.scale.work import open_settings

    settings = open_settings(ticket, backend, threads, choices)
    with counting_progress("restoring") as count:
        result = restore_batch(
            inputs, out, settings, engine, workers=workers, address=address, manifest=manifest, recursive=recursive,
            progress=count,
        )  # fmt: skip
    restored, skipped, failed = map(result.count, ("restored", "skipped", "failed"))
    print(f"restored {restored}, skipped {skipped} done before, failed {failed}: {result.manifest}")
    bad = [record for record in result.records if record.reason]
    for record in bad[:MOST_SHOWN]:
        print(f"mirl: {record.input}: {record.reason}", file=sys.stderr)
    _say_left_out(inputs, Path(out), recursive)
    if failed:
        raise MirlError(f"{failed} of {len(result.records)} photos were not restored; reasons are in {result.manifest}")
