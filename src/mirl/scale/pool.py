"""Worker processes on this machine, one photo at a time each: a killed worker is replaced and its photo restored."""

import multiprocessing
import os
import signal
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from mirl.errors import MirlError
from mirl.scale.work import ATTEMPTS, DIED, Outcome, Restorer, Settings, Task

_PATIENCE = 10.0  # seconds for a worker to end by itself
_PROCESSES = multiprocessing.get_context("spawn")  # a fork of a process with threads may hang


class _Worker:
    """The parent's end of one process; `task` is the photo it works on."""

    def __init__(self, settings: Settings):
        self.connection, other = _PROCESSES.Pipe()
        self.process = _PROCESSES.Process(target=_serve, args=(settings, other), daemon=True)
        self.process.start()
        other.close()  # so that the death of the process ends the connection
        self.task: Task | None = None
        self.ready = False

    def give(self, task: Task) -> None:
        self.task = task
        with suppress(OSError):  # it died: its connection says so
            self.connection.send(task)

    def end(self) -> None:
        self.process.terminate()
        self.process.join(_PATIENCE)
        self.process.kill()  # nothing, when it has ended
        self.process.join()
        self.process.close()
        self.connection.close()


def run_pool(settings: Settings, tasks: Sequence[Task], workers: int) -> Iterator[Outcome]:
    """Restore in `workers` processes and yield what became of each photo, as they come.

    A photo whose worker dies goes to another one, and fails when it cost three. Raises MirlError when a worker cannot start.
    """
    waiting, deaths = deque(tasks), Counter[int]()
    crew = [_Worker(settings) for _ in range(min(workers, len(tasks)))]
    try:
        left = len(tasks)
        while left:
            for connection in wait([worker.connection for worker in crew]):
                worker = next(worker for worker in crew if worker.connection is connection)
                outcome: Outcome | None = None
                try:
                    answer = worker.connection.recv()
                    if isinstance(answer, MirlError):
                        raise answer
                    worker.ready, worker.task, outcome = True, None, answer
                except (EOFError, OSError):
                    crew.remove(worker)
                    task = worker.task
                    worker.end()
                    if not worker.ready:
                        raise MirlError(
                            "a worker process ended before it began; give it more memory or fewer --workers, "
                            "and from Python call this below `if __name__ == '__main__':`"
                        ) from None
                    crew.append(worker := _Worker(settings))
                    if task is not None:
                        deaths[task.number] += 1
                        if deaths[task.number] < ATTEMPTS:
                            waiting.appendleft(task)
                        else:
                            outcome = Outcome(task.number, reason=DIED)
                if worker.ready and waiting:
                    worker.give(waiting.popleft())
                if outcome is not None:
                    left -= 1
                    yield outcome
    finally:
        for worker in crew:
            worker.end()


def _serve(settings: Settings, connection: Connection) -> None:
    """Restore what comes until the parent is gone. The first answer is None, or the MirlError that forbids to begin."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # after a tile; takes away what is half written
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.threads))
    try:
        restorer = Restorer(settings)
    except MirlError as error:
        connection.send(error)
        return
    with suppress(EOFError, OSError):
        connection.send(None)
        while True:
            connection.send(restorer.restore(connection.recv()))
