"""Where the queue keeps what; standard library alone."""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from freeze import Frozen
from jobs import QueueError
from ledger import NAME


@dataclass(frozen=True)
class Places:
    """The queue's folder: runs/JOB/, output/JOB.txt, log.jsonl, queue.json (which frozen copy), and the moment's."""

    folder: Path

    @property
    def runs(self) -> Path:
        """The run folders."""
        return self.folder / "runs"

    @property
    def log(self) -> Path:
        """The log."""
        return self.folder / NAME

    @property
    def lock(self) -> Path:
        """Held while the queue runs."""
        return self.folder / "lock"

    @property
    def state(self) -> Path:
        """The process of the queue, those of its trainings, and whether they are held."""
        return self.folder / "state.json"

    @property
    def pause(self) -> Path:
        """There while the trainings are to be held; says until when."""
        return self.folder / "pause.json"

    def output(self, name: str) -> Path:
        """What a job, or the queue itself, has printed."""
        return self.folder / "output" / f"{name}.txt"

    def frozen(self) -> Frozen | None:
        """The copy that the queue has trained from so far."""
        values = load(self.folder / "queue.json")
        return Frozen(Path(values["at"]), values["commit"]) if values else None

    def remember(self, frozen: Frozen) -> None:
        """Train from this copy from now on."""
        self.folder.mkdir(parents=True, exist_ok=True)
        save(self.folder / "queue.json", {"at": str(frozen.at), "commit": frozen.commit})

    def process(self) -> int | None:
        """The process that runs the queue; None when none does, even where one that was killed has left its lock."""
        try:
            with self.lock.open("r+") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return None
        except BlockingIOError:
            return int(self.lock.read_text() or 0)
        return None

    def hold(self) -> int:
        """Hold the lock until this process ends. Raises QueueError while another process does."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(self.lock, os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(handle)
            raise QueueError(f"the queue in {self.folder} runs already, as process {self.lock.read_text()}") from error
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        return handle


def load(file: Path) -> dict[str, Any]:
    """Read a JSON object; empty when the file is not there."""
    return dict(json.loads(file.read_text())) if file.exists() else {}


def save(file: Path, values: dict[str, Any]) -> None:
    """Write a JSON object in one step."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(values, indent=1) + "\n")
    part.replace(file)
