"""Ray Data: stateful actors on one machine or a cluster, one engine each. A dead actor is restarted and its photos restored.

Photos travel as places, a few to a block; actors read and write them by themselves. Ray repeats the block of a dead actor
for ever, so a ledger (an actor of its own) knows which photos were finished, to be done once, and which cost too many.
"""

import contextlib
import logging
import os
import socket
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from mirl.engine.memory import available_threads
from mirl.errors import MirlError, one_line
from mirl.scale.work import ATTEMPTS, DIED, Outcome, Restorer, Settings, Task, parse_outcome, parse_task

_BLOCK = 8  # photos whose outcomes arrive together
_MOST_BLOCKS = 10_000  # of which Ray's driver keeps track; a million photos arrive by the hundred
_STORE_BYTES = 100_000_000  # of a Ray started here: no photo goes through it
_SECONDS = 10.0  # for a cluster to take a connection
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # a line for every actor otherwise
}


class _Ledger:
    """What was begun and what became of it; outlives the actors that restore."""

    def __init__(self) -> None:
        self._begun = Counter[int]()
        self._outcomes: dict[int, Outcome] = {}

    def begin(self, number: int) -> Outcome | None:
        """Return what became of a photo, or None when it is to be restored: at most three times."""
        self._begun[number] += 1
        if number not in self._outcomes and self._begun[number] > ATTEMPTS:
            return Outcome(number, reason=DIED)
        return self._outcomes.get(number)

    def end(self, outcome: Outcome) -> None:
        self._outcomes[outcome.number] = outcome


class _Actor:
    """What Ray keeps alive in every worker process."""

    def __init__(self, settings: Settings, ledger: Any):
        self._restorer = Restorer(settings)
        self._ledger = ledger

    def __call__(self, row: dict[str, Any]) -> dict[str, str]:
        import ray

        task = parse_task(row["task"])
        outcome = ray.get(self._ledger.begin.remote(task.number))
        if outcome is None:
            outcome = self._restorer.restore(task)
            ray.get(self._ledger.end.remote(outcome))
        return {"outcome": outcome.line()}


def run_ray(settings: Settings, tasks: Sequence[Task], workers: int | None, address: str | None) -> Iterator[Outcome]:
    """Restore with Ray Data and yield what became of each photo, as blocks end.

    Uses the Ray this process is connected to, else the cluster at `address` (or RAY_ADDRESS), else starts one here; a
    cluster of `ray start` only when "auto" asks for it: Ray tries a dead one for a quarter of an hour. `workers=None` lets
    the actors grow to what the cluster has. A photo whose worker dies goes to another one, and fails when it cost three.
    Raises MirlError when Ray is not installed, does not answer, or an actor cannot open the ticket.
    """
    ray = _import()
    started = not ray.is_initialized()
    if started:
        _connect(ray, address, (workers or available_threads()) * settings.threads)
    try:
        for row in _plan(ray, settings, tasks, workers).iter_rows():
            yield parse_outcome(row["outcome"])
    except ray.exceptions.RayError as error:
        raise MirlError(f"Ray gave up: {_cause(error)}; the same command goes on") from error
    finally:
        if started:
            ray.shutdown()


def _plan(ray: Any, settings: Settings, tasks: Sequence[Task], workers: int | None) -> Any:
    """Return the data set of outcomes; nothing is restored before it is read."""
    most = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // settings.threads)
    blocks = _blocks(len(tasks), most)
    most = min(most, blocks)
    here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    ledger = ray.remote(num_cpus=0, scheduling_strategy=here)(_Ledger).remote()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's about itself
        data = ray.data.from_items([{"task": task.line()} for task in tasks], override_num_blocks=blocks)
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        return data.map(
            _Actor,
            fn_constructor_args=(settings, ledger),
            compute=ray.data.ActorPoolStrategy(
                min_size=most if workers else 1, max_size=most, max_tasks_in_flight_per_actor=1
            ),
            num_cpus=settings.threads,
        )


def _blocks(photos: int, actors: int) -> int:
    """Return into how many blocks photos go: enough for all actors, yet no more than Ray's driver bears."""
    size = max(_BLOCK, -(-photos // _MOST_BLOCKS))
    return max(-(-photos // size), min(photos, 4 * actors))


def _cause(error: BaseException) -> str:
    """Return the last line of what an actor said: its own error below all tracebacks."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _import() -> Any:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
        import ray.data
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise MirlError(
            f"--engine ray needs {error.name}, which is not installed; pip install 'mirl[ray]', or use --engine pool"
        ) from error
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    return ray


def _connect(ray: Any, address: str | None, processors: int) -> None:
    quiet = {"logging_level": logging.CRITICAL, "log_to_driver": False, "include_dashboard": False}
    wanted = address or os.environ.get("RAY_ADDRESS")
    with _no_stderr():
        try:
            if wanted is None:
                ray.init(address="local", num_cpus=processors, object_store_memory=_STORE_BYTES, **quiet)
            else:
                _knock(wanted)
                ray.init(address=wanted, **quiet)
        except Exception as error:  # Ray raises plain ones too
            raise MirlError(
                f"no Ray answers at {wanted or 'this machine'}: {one_line(error)}; "
                "try `ray status`, with the cluster's RAY_AUTH_MODE and RAY_AUTH_TOKEN"
            ) from error


def _knock(address: str) -> None:
    """Raise OSError when nothing listens at host:port: Ray would try for many minutes without a word."""
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), _SECONDS).close()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Drop what native code writes to stderr; what goes wrong comes as an exception."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - no Path
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
