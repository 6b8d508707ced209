"""The manifest of a run: a line of JSON for each photo, sorted by output, without times: every engine writes the same bytes.

While a run works, what is done goes into small files in a folder beside the manifest every few seconds (object stores cannot
append). A run that was stopped in any way goes on from there; at the end they become the manifest and are removed.
"""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from mirl.errors import MirlError
from mirl.scale.places import join, list_files, local_path, make_parent, read, remove, write

Status = Literal["restored", "skipped", "failed"]
NAME = "manifest.jsonl"
_SECONDS = 10.0  # between two files of what is done


@dataclass(frozen=True)
class Record:
    """What became of one photo.

    `input` is its place as given, `output` its name below the output folder; `reason` is one line for a failed photo,
    `sha256` the restored file's; `settings` names ticket, backend and options that made it.
    """

    input: str
    output: str
    status: Status
    reason: str | None
    sha256: str | None
    input_bytes: int
    settings: str

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
        self._fresh: list[Record] = []
        self._number = 0
        self._written = time.monotonic()

    def earlier(self) -> dict[str, Record]:
        """Return what earlier runs recorded, by output. Raises MirlError for a file that is no manifest."""
        records: dict[str, Record] = {}
        with suppress(FileNotFoundError):
            records |= self._read(self.place)
        names = [name for name in list_files(self._folder) if not name.startswith(".")]  # a killed run may leave a .part
        for name in names:
            records |= self._read(join(self._folder, name))
        self._number = len(names)  # they are never removed one by one
        return records

    def add(self, record: Record) -> None:
        """Note what became of a photo; it is on disk within seconds, or after `flush`."""
        self._fresh.append(record)
        if time.monotonic() - self._written > _SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write what was added since the last time."""
        if self._fresh:
            place = join(self._folder, f"{self._number:08d}.jsonl")
            make_parent(place)
            write(place, _text(self._fresh))
            self._number += 1
            self._fresh = []
        self._written = time.monotonic()

    def finish(self, records: Iterable[Record]) -> None:
        """Write the manifest of all photos of the run, in one step, and remove the files of what was done."""
        write(self.place, _text(sorted(records, key=lambda record: record.output)))
        remove([join(self._folder, name) for name in list_files(self._folder)])
        if (folder := local_path(self._folder)) is not None and folder.is_dir():
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
