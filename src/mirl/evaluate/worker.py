"""The process that a timed runtime lives in, both ends of it.

A process of its own gives every runtime its own peak of memory, and keeps its threads and allocator out of the others' way.
It speaks lines of JSON: {"ready": true, ...} once the ticket is loaded, {"seconds": ...} for each line "run" on its standard
input, and its peaks of memory for "finish", which also writes the last restored image. An error is {"error": text}.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from mirl.errors import MirlError
from mirl.evaluate.runtimes import RUNTIMES
from mirl.ticket import read_ticket


def child_environment(threads: int) -> dict[str, str]:
    """Return the environment of every process that is timed: `threads` threads, large blocks kept, short spinning.

    Page faults on fresh memory would cost some runtimes a factor of two, so all are given the allocator that keeps it.
    """
    pools = ("OMP", "OPENBLAS", "MKL", "VECLIB")
    return {
        **os.environ,
        "MALLOC_MMAP_MAX_": "0",
        "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
        "GOMP_SPINCOUNT": "2000",
        **{f"{pool}_{'MAXIMUM' if pool == 'VECLIB' else 'NUM'}_THREADS": str(threads) for pool in pools},
    }


class RuntimeProcess:
    """A process that speaks the protocol above; what it says on stderr goes to the file `log`.

    Its methods raise MirlError with its own words when it reports an error, and the last line of the log when it dies.
    """

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str], log: Path):
        self.name = name
        self.ready: dict[str, Any] = {}
        self.log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )

    def start(self) -> None:
        """Wait until the ticket is loaded; `ready` then holds load_seconds, version and facts."""
        self.ready = self._read()

    def restore(self) -> float:
        """Restore the image once and return the seconds it took."""
        return float(self._ask("run")["seconds"])

    def finish(self) -> dict[str, float]:
        """Have the restored image written and return peak_mb and working_mb; the process then ends."""
        return self._ask("finish")

    def close(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._stdin, self._stdout):
            with contextlib.suppress(BrokenPipeError):  # of what it did not read any more
                pipe.close()

    def _ask(self, order: str) -> dict[str, Any]:
        with contextlib.suppress(BrokenPipeError):  # it died; reading says how
            print(order, file=self._stdin, flush=True)
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._stdout.readline()
        if not line:
            code = self._process.wait()
            said = (self.log.read_text(errors="replace").strip().splitlines() or ["no message"])[-1]
            raise MirlError(
                f"the {self.name} runtime ended with exit code {code}: {said}; leave it out or take a smaller --size"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise MirlError(f"the {self.name} runtime failed: {answer['error']}")
        return answer

    @property
    def _stdin(self) -> IO[str]:
        assert self._process.stdin
        return self._process.stdin

    @property
    def _stdout(self) -> IO[str]:
        assert self._process.stdout
        return self._process.stdout


def memory_mb() -> tuple[float, float]:
    """Return the resident memory of this process now and at its peak, in megabytes.

    From /proc where there is one: the peak of getrusage counts what the parent held when it started this process.
    """
    with contextlib.suppress(OSError, KeyError):
        fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        now, peak = (int(fields[name].split()[0]) * 1024 / 1e6 for name in ("VmRSS", "VmHWM"))
        return now, peak
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return peak, peak


def main(arguments: Sequence[str]) -> None:
    """Serve one runtime: NAME TICKET IMAGE.npy OUTPUT.npy THREADS; ends when its standard input does."""
    name, ticket, image, output, threads = arguments
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not mix with the answers

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=channel, flush=True)

    try:
        pixels = np.load(image)
        loaded = read_ticket(Path(ticket))
        began = time.perf_counter()
        opened = RUNTIMES[name].open(loaded, int(threads), pixels.shape[0], pixels.shape[1])
        seconds = time.perf_counter() - began
        held, loading_peak = memory_mb()
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        answer(ready=True, load_seconds=seconds, version=RUNTIMES[name].version, facts=opened.facts)
        restored = pixels
        for line in sys.stdin:
            if line.strip() == "finish":
                peak = memory_mb()[1]
                np.save(output, restored)
                answer(peak_mb=max(peak, loading_peak), working_mb=max(peak - held, 0.0))
                return
            began = time.perf_counter()
            restored = opened.forward(pixels)
            answer(seconds=time.perf_counter() - began)
    except (MirlError, MemoryError) as error:
        answer(error=str(error) or "not enough memory")


if __name__ == "__main__":
    main(sys.argv[1:])
