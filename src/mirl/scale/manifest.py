"""The manifest of an output: a line of JSON for each photo, sorted by output, without times of the work.

Every engine writes the same bytes, and what earlier runs recorded of other outputs stays. While a run works, what is done
goes into small files in a folder beside the manifest every few seconds (object stores cannot append). A run that was stopped
in any way goes on from there; at the end they become the manifest and are removed.
"""

import json
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from mirl.errors import MirlError
from mirl.files import lock, make_folder
from mirl.scale.places import join, list_files, local_path, make_parent, read, remove, write

Status = Literal["restored", "skipped", "failed"]
NAME = "manifest.jsonl"
_SECONDS = 10.0  # between two files of what is done


@dataclass(frozen=True)
class Record:
    """What became of one photo.

    `input` is its place as given, `output` its name below the output folder; `reason` is one line for a failed photo,
    `sha256` the restored file's; `settings` names ticket, backend and options that made it; `input_version` is the input's
    time of change, or what its store calls the version ("" in older manifests).
    """

    input: str
    output: str
    status: Status
    reason: str | None
    sha256: str | None
    input_bytes: int
    settings: str
    input_version: str = ""

    def line(self) -> str:
        """Return the record as a line of ASCII JSON."""
        return json.dumps(asdict(self)) + "\n"


def parse_line(line: str) -> Record:
    """Return the record of a line. Raises ValueError or TypeError for anything else."""
    record = Record(**json.loads(line))
    if record.status not in get_args(Status) or not isinstance(record.output, str):
        raise ValueError(f"status {record.status!r}")
    return record


class Manifest:
    """The manifest at a place, and the files of what is done beside it."""

    def __init__(self, place: str):
        self.place = place
        self._folder = f"{place}.parts"
        self._parts: list[str] = []
        self._earlier: dict[str, Record] = {}
        self._fresh: list[Record] = []
        self._written = time.monotonic()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold a manifest on this machine for one run; raises MirlError when another one works on it.

        Stores know no locks: of two runs at the same time with a manifest there, the one that ends last writes it.
        """
        path = local_path(self.place)
        if path is None:
            yield
            return
        make_folder(path.parent)
        with lock(path.with_name(f".{path.name}.lock"), self.place):
            yield

    def earlier(self) -> dict[str, Record]:
        """Return what earlier runs recorded, by output. Raises MirlError for a file that is no manifest."""
        records: dict[str, Record] = {}
        with suppress(FileNotFoundError):
            records |= self._read(self.place)
        self._parts = [join(self._folder, name) for name in list_files(self._folder)]
        for place in self._parts:
            if not place.rpartition("/")[2].startswith("."):  # a killed run may leave a .part
                records |= self._read(place)
        self._earlier = records
        return records

    def add(self, record: Record) -> None:
        """Note what became of a photo; it is on disk within seconds, or after `flush`."""
        self._fresh.append(record)
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time."""
        if self._fresh:
            # in the order of time: a later record of a photo counts; and never the name of another run's
            place = join(self._folder, f"{time.time_ns():020d}-{secrets.token_hex(4)}.jsonl")
            make_parent(place)
            write(place, _text(self._fresh))
            self._parts.append(place)
            self._fresh = []
        self._written = time.monotonic()

    def finish(self, records: Iterable[Record]) -> None:
        """Write the manifest in one step: the photos of this run, and those of earlier ones with other outputs.

        The files of what was done are removed.
        """
        known = self._earlier | {record.output: record for record in records}
        write(self.place, _text(known[output] for output in sorted(known)))
        remove(self._parts)
        if (folder := local_path(self._folder)) is not None:
            with suppress(OSError):  # something of others is in it, or it was never made
                folder.rmdir()

    def _read(self, place: str) -> dict[str, Record]:
        records: dict[str, Record] = {}
        for number, line in enumerate(read(place).decode("utf-8", "replace").splitlines(), 1):
            try:
                record = parse_line(line)
            except (ValueError, TypeError) as error:
                raise MirlError(
                    f"{place} is no manifest of mirl restore (line {number}); move it away or choose another --manifest"
                ) from error
            records[record.output] = record
        return records


def _text(records: Iterable[Record]) -> bytes:
    return "".join(record.line() for record in records).encode()
