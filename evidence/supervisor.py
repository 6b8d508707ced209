"""The queue at work: two trainings of one thread side by side, the next one when one ends, until none is left.

A training that fails is tried again, twice at most, and stops no other. SIGTERM or SIGINT passes SIGTERM on to the
trainings, which save and end. When this process is killed, the kernel sends them SIGTERM too. While pause.json is there,
they are held.
"""

import ctypes
import os
import secrets
import signal
import subprocess
import time
from collections import deque
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import ledger
from freeze import Frozen
from jobs import Job
from machine import core_seconds, this_machine
from mirl.errors import MirlError
from places import Places, load, save
from standing import standing

ATTEMPTS = 3
LAST_LINES = 15
PR_SET_PDEATHSIG = 1
ENVIRONMENT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": "2147483647",
    "GOMP_SPINCOUNT": "2000",
    "OMP_NUM_THREADS": "1",
    "PYTHONUNBUFFERED": "1",
}


@dataclass(frozen=True)
class Pace:
    """Seconds between two looks, two beats of the log, a failure and the next try; and those to save before a kill."""

    look: float = 0.5
    beat: float = 300.0
    retry: float = 60.0
    save: float = 300.0


@dataclass
class Stint:
    """A training that runs."""

    job: Job
    name: str
    process: subprocess.Popen[bytes]
    began: float
    attempt: int
    beat: float
    used: float = 0.0


class Supervisor:
    """Runs the jobs of a table from a frozen copy. The caller holds the lock."""

    def __init__(self, jobs: tuple[Job, ...], places: Places, frozen: Frozen, python: Path, data: Path, *,
                 slots: int = 2, pace: Pace | None = None):  # fmt: skip
        self.jobs, self.places, self.frozen, self.python, self.data = jobs, places, frozen, python, data
        self.slots, self.pace = slots, pace or Pace()
        self.running: list[Stint] = []
        self.failures: dict[str, int] = {}
        self.not_before: dict[str, float] = {}
        self.stopping = self.held = False
        self.held_since = 0.0
        self.libc = ctypes.CDLL(None)

    def run(self) -> bool:
        """Train until no job can be started any more, or until asked to stop. Returns whether all jobs are done."""
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        self.places.pause.unlink(missing_ok=True)
        self._log("queue-start", pid=os.getpid(), jobs=[job.name for job in self.jobs], **self._origin())
        try:
            while not self.stopping:
                self._reap()
                self._hold_or_go()
                waiting = self._next()
                if not self.running and not waiting and not self._retrying():
                    break
                if waiting and not self.held:
                    self._start(waiting)
                    continue
                self._beat()
                time.sleep(self.pace.look)
        finally:
            self._end_all()
            self._log("queue-end", done=sorted(self._done()))
            self.places.state.unlink(missing_ok=True)
            for number, handler in previous.items():
                signal.signal(number, handler)
        return self._done() >= {job.name for job in self.jobs}

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self.stopping = True

    def _log(self, event: str, **values: Any) -> None:
        ledger.append(self.places.log, event, **values)

    def _origin(self) -> dict[str, Any]:
        return {"commit": self.frozen.commit, **asdict(this_machine())}

    def _done(self) -> set[str]:
        return {line["job"] for line in ledger.read(self.places.log) if line.get("reason") == "done"}

    def _retrying(self) -> bool:
        return any(0 < count < ATTEMPTS for count in self.failures.values())

    def _next(self) -> Job | None:
        """The first job of the table that can start now."""
        free = self.slots - sum(stint.job.processes for stint in self.running)
        if free <= 0:
            return None
        done, running = self._done(), {stint.job.name for stint in self.running}
        busy = {stint.job.folder(self.places.runs) for stint in self.running}  # one process holds a run folder
        for job in self.jobs:
            if job.name in done | running or self.failures.get(job.name, 0) >= ATTEMPTS:
                continue
            if (job.after and job.after not in done) or job.folder(self.places.runs) in busy:
                continue
            if job.processes > free:
                return None  # the next in turn waits for its places
            if time.monotonic() >= self.not_before.get(job.name, 0.0):
                return job
        return None

    def _start(self, job: Job) -> None:
        output = self.places.output(job.name)
        for folder in (output.parent, self.places.runs):
            folder.mkdir(parents=True, exist_ok=True)
        words = ["nice", "-n", "10", *job.words(self.python, self.places.runs, self.data)]
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "GIT_", "VIRTUAL_ENV"))}
        with output.open("ab") as stream:
            stream.write(f"--- {ledger.now()} {' '.join(words)}\n".encode())
            stream.flush()
            process = subprocess.Popen(
                words, cwd=self.frozen.at, env=kept | ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=stream,
                stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=lambda: self.libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM),
            )  # fmt: skip
        began = time.monotonic()
        attempt = self.failures.get(job.name, 0) + 1
        stint = Stint(job, secrets.token_hex(4), process, began, attempt, began)
        self.running.append(stint)
        self._tell(stint, "start", attempt=attempt, pid=process.pid, **self._origin())
        self._save_state()

    def _tell(self, stint: Stint, event: str, used: float | None = None, **values: Any) -> None:
        """Write how far a training is."""
        stint.beat = time.monotonic()
        try:
            at = standing(stint.job, self.places.runs)
            where: dict[str, Any] = {"updates": at.updates, "patches": at.patches}
        except MirlError as error:  # a damaged run folder is the job's own failure, not the queue's
            where = {"updates": 0, "patches": 0.0, "unreadable": str(error)}
        # At its end a process knows the time of those alone that it has waited for: what was seen before counts too.
        stint.used = max(stint.used, core_seconds(stint.process.pid) if used is None else used)
        self._log(event, job=stint.job.name, stint=stint.name, **where, core_seconds=round(stint.used, 1),
                  wall_seconds=round(time.monotonic() - stint.began, 1), **values)  # fmt: skip

    def _beat(self) -> None:
        for stint in self.running:
            if time.monotonic() - stint.beat >= self.pace.beat and not self.held:
                self._tell(stint, "beat")

    def _reap(self) -> None:
        """Record the trainings that have ended."""
        for stint in list(self.running):
            pid, status, usage = os.wait4(stint.process.pid, os.WNOHANG)
            if not pid:
                continue
            code = stint.process.returncode = os.waitstatus_to_exitcode(status)
            self.running.remove(stint)
            reason = "done" if code == 0 else "stopped" if self.stopping else "failed"
            values: dict[str, Any] = {}
            if reason == "failed":
                self.failures[stint.job.name] = stint.attempt
                self.not_before[stint.job.name] = time.monotonic() + self.pace.retry
                values = {"attempt": stint.attempt, "last_lines": last_lines(self.places.output(stint.job.name))}
            elif reason == "done":
                self.failures.pop(stint.job.name, None)
            used = usage.ru_utime + usage.ru_stime
            self._tell(stint, "end", used, reason=reason, returncode=code, **values, **self._origin())
            self._save_state()

    def _hold_or_go(self) -> None:
        until = load(self.places.pause).get("until", 0.0)
        if until and time.time() >= until:
            self.places.pause.unlink(missing_ok=True)
            until = 0.0
        if bool(until) != self.held:
            self.held = bool(until)
            if self.held:
                self.held_since = time.monotonic()
            for stint in () if self.held else self.running:
                stint.began += time.monotonic() - self.held_since
            self._signal(signal.SIGSTOP if self.held else signal.SIGCONT)
            self._log("pause" if self.held else "go")
            self._save_state()

    def _signal(self, number: int) -> None:
        for stint in self.running:
            try:
                os.killpg(stint.process.pid, number)
            except ProcessLookupError:
                continue

    def _end_all(self) -> None:
        """Let all trainings save and end; kill what does not in time, which costs its last minute."""
        self.stopping = True
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is held takes its signal only now
        deadline = time.monotonic() + self.pace.save
        while self.running:
            if time.monotonic() > deadline:
                self._signal(signal.SIGKILL)
            self._reap()
            time.sleep(min(self.pace.look, 0.1))
        self.places.pause.unlink(missing_ok=True)

    def _save_state(self) -> None:
        processes = {stint.job.name: stint.process.pid for stint in self.running}
        save(self.places.state, {"pid": os.getpid(), "processes": processes, "held": self.held})


def last_lines(file: Path) -> list[str]:
    """The end of what a job has printed."""
    with file.open(errors="replace") as stream:
        return [line.rstrip("\n") for line in deque(stream, LAST_LINES)]
