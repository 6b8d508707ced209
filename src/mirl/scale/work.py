"""What a worker does: open the ticket once, then restore one photo after the other, from place to place."""

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.memory import keep_large_blocks
from mirl.engine.photos import Choices
from mirl.errors import MirlError, one_line
from mirl.image import MAX_MEGAPIXELS, encode_photo, read_photo, target_format
from mirl.scale.places import read, write
from mirl.ticket import DEFAULT, find_ticket, read_ticket

DIED = "its worker died again and again, as for want of memory; restore it alone with a smaller --tile"
_AMOUNTS = ("strength", "denoise", "dehaze")
ATTEMPTS = 3  # how many workers one photo may cost


@dataclass(frozen=True)
class Settings:
    """What every worker of a run gets. `ticket` is the bytes of a .mirl file, `backend` the name of one, never auto."""

    ticket: bytes
    backend: str
    threads: int = 1
    choices: Choices = field(default_factory=Choices)

    def digest(self) -> str:
        """Return 16 hex digits that name what decides the files: ticket, backend and choices, the largest size aside."""
        options = {name: float(v) if name in _AMOUNTS else v for name, v in asdict(self.choices.options).items()}
        choices = asdict(replace(self.choices, max_megapixels=MAX_MEGAPIXELS)) | {"options": options}  # 1 is 1.0
        text = json.dumps([self.backend, choices], sort_keys=True).encode()
        return hashlib.sha256(text + self.ticket).hexdigest()[:16]


def open_settings(
    ticket: str = DEFAULT, backend: str = "auto", threads: int | None = None, choices: Choices | None = None
) -> Settings:
    """Read the ticket and settle the backend, which is the same for every worker; one thread each unless told otherwise.

    Raises MirlError as `load_ticket` and `open_backend` do.
    """
    path = find_ticket(ticket)
    count = 1 if threads is None else threads
    name = open_backend(read_ticket(path), backend, count).name
    return Settings(path.read_bytes(), name, count, choices or Choices())


@dataclass(frozen=True)
class Task:
    """One photo to restore: places that any worker finds, and its number in the run."""

    number: int
    source: str
    target: str

    def line(self) -> str:
        """Return the task as ASCII JSON; a file name need not be valid Unicode."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Outcome:
    """What became of a task: the sha256 of the written file, or the reason of the failure in one line."""

    number: int
    sha256: str | None = None
    reason: str | None = None

    def line(self) -> str:
        """Return the outcome as ASCII JSON."""
        return json.dumps(asdict(self))


class Restorer:
    """One opened engine. Raises MirlError when the ticket or the backend cannot be opened."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._ticket = read_ticket(settings.ticket)
        self._backend = open_backend(self._ticket, settings.backend, settings.threads)
        keep_large_blocks()

    def restore(self, task: Task) -> Outcome:
        """Restore one photo; whatever goes wrong becomes the reason of the outcome."""
        try:
            return Outcome(task.number, sha256=self._restore(task))
        except MirlError as error:
            return Outcome(task.number, reason=one_line(error))
        except FileNotFoundError:
            return Outcome(task.number, reason=f"{task.source} does not exist any more; expected a photo")
        except MemoryError:
            return Outcome(task.number, reason="out of memory; use a smaller --tile or a smaller image")
        except Exception as error:  # never fatal: a run of a million photos goes on
            return Outcome(task.number, reason=f"{type(error).__name__}: {one_line(error)}")

    def _restore(self, task: Task) -> str:
        choices = self._settings.choices
        photo = read_photo(read(task.source), choices.max_megapixels)
        format = target_format(photo, Path(task.target))  # refuses what it cannot hold, before the work
        pixels = restore_pixels(self._backend, photo.pixels, choices.options)
        content = encode_photo(replace(photo, pixels=pixels), format, choices.quality)
        write(task.target, content)
        return hashlib.sha256(content).hexdigest()


def parse_task(line: str) -> Task:
    """Return the task of a line."""
    return Task(**json.loads(line))


def parse_outcome(line: Any) -> Outcome:
    """Return the outcome of a line."""
    return Outcome(**json.loads(str(line)))
