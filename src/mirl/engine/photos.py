"""What `mirl restore IN... -o OUT` does: photos and folders in, restored photos out, no input overwritten."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from mirl.engine.engine import Backend, open_backend, restore_pixels
from mirl.engine.options import Options, Tone
from mirl.errors import MirlError
from mirl.files import make_folder
from mirl.image import (
    FORMATS,
    KEEP,
    MAX_MEGAPIXELS,
    OTHER_PICTURES,
    SUFFIXES,
    check_format,
    check_quality,
    chosen_format,
    encode_photo,
    read_photo,
    target_format,
    write_photo,
)
from mirl.ticket import Ticket

STREAM = Path("-")  # stdin as an input, stdout as the output


@dataclass(frozen=True)
class Job:
    """One photo to restore; `-` is stdin or stdout."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Choices:
    """What may be chosen for all photos of a call. Raises MirlError for a value that is none of the possible ones.

    `format` is one of `mirl.image.CHOICES`, `quality` as in `encode_photo`.
    """

    options: Options = field(default_factory=Options)
    format: str = KEEP
    quality: int | None = None
    max_megapixels: float = MAX_MEGAPIXELS

    def __post_init__(self) -> None:
        chosen_format(self.format)
        check_quality(self.quality)
        if not self.max_megapixels > 0:
            raise MirlError(f"--max-megapixels must be above 0, found {self.max_megapixels}")


@dataclass
class RestoreResult:
    """What was written, and which photos failed with what message."""

    done: list[Path] = field(default_factory=list)
    failed: list[tuple[Path, str]] = field(default_factory=list)


def plan(inputs: Sequence[Path], output: Path, recursive: bool = False, format: str = KEEP) -> list[Job]:
    """Decide every output before any work; nothing is read or written.

    A single photo and an `output` with an image suffix make that file. Otherwise `output` is a folder: names
    are kept but for the suffix of another `format`, and sub-folders when `recursive`. Of a folder, files with an
    image suffix are taken, hidden ones and those below `output` not. Raises MirlError for a missing or empty input,
    two inputs with one output, an output that is an input, through links too, or one whose suffix is not of `format`.
    """
    if not inputs:
        raise MirlError("no input given; expected photos or folders of photos")
    try:
        if STREAM in inputs or output == STREAM:
            jobs = [_stream_job(inputs, output)]
        else:
            jobs = _file_jobs(inputs, output, recursive, chosen_format(format))
    except OSError as error:
        raise MirlError(f"cannot look at {error.filename}: {error.strerror}; check names and permissions") from error
    wanted = chosen_format(format)
    for job in jobs:
        if wanted and job.target != STREAM and SUFFIXES.get(job.target.suffix.lower()) != wanted:
            raise MirlError(f"the output {job.target} is not named as --format {format} asks; leave one of the two out")
    return jobs


def _file_jobs(inputs: Sequence[Path], output: Path, recursive: bool, format: str | None) -> list[Job]:
    named = output.suffix.lower() in SUFFIXES and not output.is_dir()
    if output.suffix.lower() in OTHER_PICTURES and not output.is_dir():
        raise MirlError(f"{output} is named as a format that is not written here; expected one of {', '.join(SUFFIXES)}")
    if output.exists() and not output.is_dir() and not named:
        raise MirlError(f"{output} is a file without an image suffix; expected a folder or a name such as out.png")
    jobs: list[Job] = []
    for path in inputs:
        if path.is_dir() and named:
            raise MirlError(f"{path} is a folder, but the output {output} is one photo; give an output folder")
        found = find_photos(path, output, recursive)
        jobs += [Job(photo, output if named else output / renamed(name, format)) for photo, name in found]
    if named and len(jobs) > 1:
        raise MirlError(f"{len(jobs)} inputs, but the output {output} is one photo; give an output folder")
    check_targets(jobs)
    return jobs


def find_photos(path: Path, output: Path, recursive: bool = False) -> list[tuple[Path, Path]]:
    """Return the photos of a folder with their paths below it, sorted, or a single photo with its name.

    Of a folder, as `plan` says. Raises MirlError when there is none, OSError for a folder that cannot be listed.
    """
    if not path.is_dir():
        if not path.exists():
            raise MirlError(f"{path} does not exist; expected a photo or a folder of photos")
        return [(path, Path(path.name))]
    found = [(photo, photo.relative_to(path)) for photo in _photos_in(path, output, recursive)]
    if not found:
        raise no_photos(path, recursive)
    return found


def no_photos(folder: object, recursive: bool) -> MirlError:
    """Return the error of a folder without photos."""
    hint = "" if recursive else "; add --recursive to look into its sub-folders"
    return MirlError(f"no photos in {folder}; expected files ending in {', '.join(SUFFIXES)}{hint}")


def restore_files(
    inputs: Sequence[Path],
    output: Path,
    backend: Backend,
    choices: Choices | None = None,
    *,
    recursive: bool = False,
    progress: Callable[[float, int, Path], None] | None = None,
    stdin: BinaryIO | None = None,
    stdout: BinaryIO | None = None,
) -> RestoreResult:
    """Restore what `plan` finds; a bad photo is recorded and the others go on.

    Names and metadata are kept, and so is the format unless `choices` ask for another.
    An older output is replaced in one step, and a folder made for photos that all failed is taken away.
    `progress(finished, all, photo)` counts photos, with the fraction of the one in work. `stdin` and `stdout` default to the
    process's. Raises MirlError, before any photo is read, for what `plan` refuses or an output folder that cannot be made.
    """
    choices = choices or Choices()
    jobs = plan(inputs, output, recursive, choices.format)
    folders = list(dict.fromkeys(job.target.parent for job in jobs if job.target != STREAM))
    made = {place for folder in folders for place in (folder, *folder.parents) if not place.exists()}
    for folder in folders:
        make_folder(folder)
    result = RestoreResult()
    for number, job in enumerate(jobs):

        def on_tile(done: int, count: int, job: Job = job, number: int = number) -> None:
            if progress:
                progress(number + done / count, len(jobs), job.source)

        if progress:
            progress(number, len(jobs), job.source)
        try:
            _restore_one(job, backend, choices, on_tile, stdin, stdout)
            result.done.append(job.target)
        except MirlError as error:
            result.failed.append((job.source, str(error)))
        if progress:
            progress(number + 1, len(jobs), job.source)
    for folder in sorted(made, key=lambda place: -len(place.parts)):
        with suppress(OSError):  # where a photo lies in it
            folder.rmdir()
    return result


def restore_file(
    source: str | Path,
    target: str | Path,
    ticket: Ticket,
    *,
    strength: float = 1.0,
    denoise: float = 1.0,
    dehaze: float = 1.0,
    tone: Tone = "auto",
    window: int | None = None,
    tile: int | None = None,
    format: str = KEEP,
    quality: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
    max_megapixels: float = MAX_MEGAPIXELS,
) -> Path:
    """Restore one photo as `mirl restore SOURCE -o TARGET` does, metadata included, and return the file written.

    `target` is a file where its suffix is an image's, else a folder. Options as in `Options`, `Choices` and `open_backend`.
    Raises MirlError for what `plan` refuses, a wrong option, or a photo that cannot be read or written.
    """
    options = Options(strength, denoise, dehaze, tone, window, tile)
    choices = Choices(options, format, quality, max_megapixels)
    result = restore_files([Path(source)], Path(target), open_backend(ticket, backend, threads), choices)
    for _, message in result.failed:
        raise MirlError(message)
    return result.done[0]


def _stream_job(inputs: Sequence[Path], output: Path) -> Job:
    if len(inputs) != 1:
        raise MirlError(f"'-' stands for one photo, found {len(inputs)} inputs; give a single input with it")
    (source,) = inputs
    if source != STREAM and not source.is_file():
        raise MirlError(f"{source} is not a file; expected one photo when the output is '-'")
    if output != STREAM and (output.suffix.lower() not in SUFFIXES or output.is_dir()):
        raise MirlError(f"{output} names no photo; expected a file name such as out.png, or '-', for input from '-'")
    return Job(source, output)


def left_out(inputs: Sequence[Path], output: Path, recursive: bool = False) -> list[Path]:
    """Return the pictures in the folders among `inputs` that have the suffix of a format not read here, such as .heic."""
    folders = [path for path in inputs if path != STREAM and path.is_dir()]
    files = [path for folder in folders for path in _files_in(folder, output, recursive)]
    return [path for path in files if path.suffix.lower() in OTHER_PICTURES]


def _photos_in(folder: Path, output: Path, recursive: bool) -> list[Path]:
    return [path for path in _files_in(folder, output, recursive) if _is_photo(path)]


def _files_in(folder: Path, output: Path, recursive: bool) -> list[Path]:
    """Return the files of a folder, sorted, without hidden ones and earlier output below it."""
    found = []
    for root, folders, names in os.walk(folder, onerror=_raise):
        place = Path(root)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and not _same(place / name, output))
        found += [place / name for name in names if not name.startswith(".")]
        if not recursive:
            break
    return sorted(found)


def renamed(path: Path, format: str | None) -> Path:
    """Return the path with a suffix of `format`: its own if it is one, in place of another image's, else added."""
    own = SUFFIXES.get(path.suffix.lower())
    if format is None or own == format:
        return path
    return path.with_name((path.stem if own else path.name) + FORMATS[format][0])


def _raise(error: OSError) -> None:
    raise error  # os.walk would pass over a folder it cannot list


def _is_photo(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and path.is_file()


def _same(path: Path, other: Path) -> bool:
    return other.exists() and path.samefile(other)


def check_targets(jobs: Sequence[Job]) -> None:
    """Raise MirlError when an output is an input (through links too), is a folder, or is wanted twice."""
    inputs = {(info.st_dev, info.st_ino): job.source for job in jobs for info in [job.source.stat()]}
    taken: dict[str, Path] = {}
    for job in jobs:
        if job.target.is_dir():
            raise MirlError(f"the output {job.target} is a folder; move it away or choose another output")
        if job.target.exists():
            info = job.target.stat()
            if source := inputs.get((info.st_dev, info.st_ino)):
                raise MirlError(
                    f"the output {job.target} is the input {source}; inputs are never overwritten, choose another output"
                )
        place = os.path.realpath(job.target)
        if (first := taken.get(place)) is not None:
            raise MirlError(f"{first} and {job.source} would both become {job.target}; restore them to two folders")
        taken[place] = job.source


def _restore_one(
    job: Job,
    backend: Backend,
    choices: Choices,
    on_tile: Callable[[int, int], None],
    stdin: BinaryIO | None,
    stdout: BinaryIO | None,
) -> None:
    source = (stdin or sys.stdin.buffer).read() if job.source == STREAM else job.source
    photo = read_photo(source, choices.max_megapixels)
    format = chosen_format(choices.format) or photo.format
    if job.target != STREAM:
        format = target_format(photo, job.target)
    check_format(photo, format)  # before the work
    pixels = restore_pixels(backend, photo.pixels, choices.options, on_tile=on_tile)
    restored = replace(photo, pixels=pixels)
    if job.target != STREAM:
        return write_photo(restored, job.target, choices.quality)
    stream = stdout or sys.stdout.buffer
    try:
        stream.write(encode_photo(restored, format, choices.quality))
        stream.flush()
    except OSError as error:
        raise MirlError(f"cannot write the photo to stdout: {error.strerror}") from error
