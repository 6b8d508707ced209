"""Restore many photos, from folders or object stores, with worker processes or Ray: resumable, and no bad photo stops it.

What is done is in a manifest (`manifest.py`); the same command goes on after a stop and does only what is missing. Every
engine gives the same files and the same manifest: each photo is restored by the same `Restorer` and written in one step.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mirl.engine.memory import available_threads
from mirl.engine.photos import STREAM, Job, check_targets, no_photos, plan, renamed
from mirl.engine.photos import find_photos as find_local
from mirl.errors import MirlError
from mirl.image import KEEP, SUFFIXES, chosen_format
from mirl.scale.manifest import NAME, Manifest, Record, Status
from mirl.scale.places import (
    Facts,
    absolute,
    existing,
    facts_of,
    find_photos,
    in_memory,
    is_folder,
    join,
    leads_out,
    local_path,
    make_parent,
    same_name,
)  # fmt: skip
from mirl.scale.pool import run_pool
from mirl.scale.ray import run_ray
from mirl.scale.work import Outcome, Restorer, Settings, Task

Engine = Literal["serial", "pool", "ray"]
_LEADS_OUT = "its name has an empty part, `.` or `..` and would lead out of the output folder; rename it"


@dataclass(frozen=True)
class Photo:
    """One photo of a run: its place as given, its name below the output folder, its facts.

    `refusal` says why it is not restored, whatever is in it.
    """

    source: str
    name: str
    facts: Facts
    refusal: str | None = None


@dataclass(frozen=True)
class BatchResult:
    """What became of every photo, sorted by output, and where that is written."""

    manifest: str
    records: tuple[Record, ...]

    def count(self, status: str) -> int:
        """Return how many photos were restored, skipped or failed."""
        return sum(record.status == status for record in self.records)


def plan_batch(inputs: Sequence[str], output: str, recursive: bool = False, format: str = KEEP) -> list[Photo]:
    """Find the photos and decide every output below the folder `output` before any work, as `mirl.engine.photos.plan` does.

    Places are paths or URLs. Raises MirlError for a missing or empty input, an output that is one photo or a stream,
    two inputs with one output, or an output that is an input. A key of a store that would lead out of the output folder is a
    photo with a refusal.
    """
    if not inputs:
        raise MirlError("no input given; expected photos or folders of photos")
    if str(STREAM) in (*inputs, output):
        raise MirlError("'-' is one photo; restore it without --workers, --manifest and with --engine serial")
    if Path(output).suffix.lower() in SUFFIXES and not is_folder(output):
        raise MirlError(f"the output {output} is one photo; give an output folder, or leave --engine and --manifest out")
    try:
        return _found(inputs, output, recursive, format)
    except OSError as error:
        raise MirlError(f"cannot look at {error.filename}: {error.strerror}; check names and permissions") from error


def restore_batch(
    inputs: Sequence[str],
    output: str,
    settings: Settings,
    engine: Engine = "pool",
    *,
    workers: int | None = None,
    address: str | None = None,
    manifest: str | None = None,
    recursive: bool = False,
    progress: Callable[[int, int, str], None] | None = None,
) -> BatchResult:
    """Restore photos and folders (paths, or URLs that fsspec knows) into the folder `output` and write the manifest.

    `engine` is this process, a pool of `workers` processes (one a processor by default), or Ray Data (`address` is its
    cluster). A photo is skipped when an earlier run with equal settings restored it from an input of that name, size and
    time of change (or version, where the store states one) and the output is still there. `manifest` is
    `output`/manifest.jsonl by default; what it has of other outputs stays. `progress(done, all, name)` counts photos. Raises
    MirlError, before any photo is read, for what `plan_batch` refuses, an option that does not fit, or another run on this
    machine that works with the manifest; a bad photo is a record of the result.
    """
    if workers is not None and workers < 1:
        raise MirlError(f"--workers must be at least 1, found {workers}")
    if engine != "serial" and any(map(in_memory, (*inputs, output))):
        raise MirlError(f"memory:// is seen by this process alone; use --engine serial, found {engine}")
    photos = plan_batch(inputs, output, recursive, settings.choices.format)
    place = manifest or join(output, NAME)
    _check_manifest(place, photos, output)
    book = Manifest(place)
    with book.lock():
        records = _run(book, photos, output, settings, engine, workers, address, progress or _silent)
    return BatchResult(place, tuple(sorted(records, key=lambda record: record.output)))


def _silent(done: int, count: int, name: str) -> None:
    pass


def _run(
    book: Manifest, photos: Sequence[Photo], output: str, settings: Settings, engine: Engine, workers: int | None,
    address: str | None, tell: Callable[[int, int, str], None],
) -> list[Record]:  # fmt: skip
    """Restore what is not done yet and write the manifest; return a record of every photo."""
    earlier, digest = book.earlier(), settings.digest()
    there = existing(output, list(earlier))
    records: dict[int, Record] = {}
    tasks: list[Task] = []
    for number, photo in enumerate(photos):
        if photo.refusal:
            records[number] = _record(photo, digest, "failed", None, photo.refusal)
        elif photo.name in there and _done(past := earlier[photo.name], photo, digest):
            records[number] = _record(photo, digest, "skipped", past.sha256)
        else:
            tasks.append(Task(number, absolute(photo.source), absolute(join(output, photo.name))))
    for name in {str(Path(photo.name).parent): photo.name for photo in _welcome(photos)}.values():
        make_parent(join(output, name))
    tell(len(records), len(photos), "")
    with closing(_outcomes(engine, settings, tasks, workers, address)) as outcomes:
        try:
            for outcome in outcomes:
                photo = photos[outcome.number]
                record = _record(photo, digest, "failed" if outcome.reason else "restored", outcome.sha256, outcome.reason)
                records[outcome.number] = record
                book.add(record)
                tell(len(records), len(photos), photo.name)
        except BaseException:
            book.flush()
            raise
    book.finish(records.values())
    return list(records.values())


def _outcomes(
    engine: Engine, settings: Settings, tasks: list[Task], workers: int | None, address: str | None
) -> Generator[Outcome]:
    if not tasks:
        return
    if engine == "ray":
        yield from run_ray(settings, tasks, workers, address)
    elif engine == "pool":
        yield from run_pool(settings, tasks, workers or max(1, available_threads() // settings.threads))
    else:
        restorer = Restorer(settings)
        yield from map(restorer.restore, tasks)


def _record(photo: Photo, digest: str, status: Status, sha256: str | None, reason: str | None = None) -> Record:
    facts = photo.facts
    return Record(photo.source, photo.name, status, reason, sha256, facts.size, digest, facts.version)


def _done(past: Record, photo: Photo, digest: str) -> bool:
    """Tell whether an earlier run made this output of this input, as it is now, with these settings."""
    made_of = (past.input, Facts(past.input_bytes, past.input_version), past.settings)
    return past.sha256 is not None and made_of == (photo.source, photo.facts, digest)


def _found(inputs: Sequence[str], output: str, recursive: bool, format: str) -> list[Photo]:
    folder = local_path(output)
    paths = [local_path(place) for place in inputs]
    local = [path for path in paths if path is not None]
    if folder is not None and len(local) == len(paths):
        jobs = plan(local, folder, recursive, format)
        return [Photo(str(job.source), str(job.target.relative_to(folder)), facts_of(job.source)) for job in jobs]
    photos: list[Photo] = []
    wanted = chosen_format(format)
    for place, path in zip(inputs, paths, strict=True):
        if path is not None:
            found = find_local(path, Path(output) if folder is None else folder, recursive)
            photos += [Photo(str(photo), str(renamed(name, wanted)), facts_of(photo)) for photo, name in found]
            continue
        there = find_photos(place, output, recursive)
        if not there:
            raise no_photos(place, recursive)
        single = not is_folder(place)
        for name, facts in there.items():
            source = place if single else join(place, name)
            if leads_out(name):
                photos.append(Photo(source, name, facts, _LEADS_OUT))
            else:
                photos.append(Photo(source, str(renamed(Path(name), wanted)), facts))
    if folder is not None:
        check_targets([Job(path, folder / p.name) for p in photos if (path := local_path(p.source)) is not None])
    _check_names(photos, output)
    return photos


def _check_names(photos: Sequence[Photo], output: str) -> None:
    """Raise MirlError when an output is an input or is wanted twice, whatever the names say."""
    inputs = {same_name(photo.source): photo.source for photo in photos}
    taken: dict[str, str] = {}
    for photo in _welcome(photos):
        target = join(output, photo.name)
        name = same_name(target)
        if source := inputs.get(name):
            raise MirlError(
                f"the output {target} is the input {source}; inputs are never overwritten, choose another output"
            )
        if (first := taken.get(name)) is not None:
            raise MirlError(f"{first} and {photo.source} would both become {target}; restore them to two folders")
        taken[name] = photo.source


def _check_manifest(place: str, photos: Sequence[Photo], output: str) -> None:
    taken = {same_name(photo.source) for photo in photos} | {same_name(join(output, p.name)) for p in _welcome(photos)}
    if is_folder(place) or same_name(place) in taken:
        raise MirlError(f"the manifest {place} is a folder or one of the photos; choose another --manifest")


def _welcome(photos: Sequence[Photo]) -> list[Photo]:
    """Return the photos that are to be restored; only their names are paths below the output."""
    return [photo for photo in photos if not photo.refusal]
