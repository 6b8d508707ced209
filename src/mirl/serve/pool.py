"""Places and workers: how many requests may be inside at once, and the threads that restore.

A request takes a place before its body is read, so memory is bounded by places. The place is given back when the answer
is sent *and* the thread has stopped: an abandoned photo still counts as long as it costs, and so does one nobody fetches.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from mirl.serve.refusal import Refusal

T = TypeVar("T")


class Stopped(Exception):  # noqa: N818 - a state, as asyncio.CancelledError is
    """The work was abandoned between two tiles: its client went away or its time is over."""


class Place:
    """One request's right to memory and a worker; `stop` abandons its work at the next tile."""

    def __init__(self, pool: "Pool"):
        self._pool = pool
        self._stop = threading.Event()
        self._work: Future[object] | None = None

    def check(self) -> None:
        """Raise Stopped, in the worker's thread, when nobody waits for the result any more."""
        if self._stop.is_set():
            raise Stopped

    def stop(self) -> None:
        """Abandon the work: it never starts, or ends at the next tile."""
        self._stop.set()
        if self._work:
            self._work.cancel()

    def start(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """Run `call` in a worker's thread as soon as one is free."""
        work = self._pool.executor.submit(call)
        self._work = work  # type: ignore[assignment]
        return asyncio.wrap_future(work)

    def leave(self) -> None:
        """Give the place back, at once or when the worker has let go."""
        self.stop()
        if self._work:
            self._work.add_done_callback(lambda work: self._pool.give_back())
        else:
            self._pool.give_back()


class Pool:
    """`workers` threads, and places for them and `queue` waiting requests."""

    def __init__(self, workers: int, queue: int):
        self.workers, self.places = workers, workers + queue
        self.executor = ThreadPoolExecutor(workers, "restore")
        self._lock = threading.Lock()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Places in use."""
        return self._taken

    def enter(self) -> Place:
        """Take a place. Raises Refusal (503, with when to come back) when there is none."""
        with self._lock:
            if self._taken >= self.places:
                raise Refusal(503, "busy", "too many photos are waiting; try again shortly", retry_after=1)
            self._taken += 1
        return Place(self)

    def give_back(self) -> None:
        """Free one place; any thread may."""
        with self._lock:
            self._taken -= 1

    def close(self) -> None:
        """Wait for what runs, and drop what has not begun."""
        self.executor.shutdown(wait=True, cancel_futures=True)
