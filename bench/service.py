"""The service in a process of its own, without the page: what bench/serve.py, bench/serve_fuzz.py and tests talk to."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

_START = """
import sys
from pathlib import Path
from mirl.engine.memory import keep_large_blocks
from mirl.serve.app import Settings, create_app
from mirl.serve.run import run
from mirl.serve.shelf import Shelf, read_offers
ticket, workers, queue, seconds, megapixels = sys.argv[1:]
keep_large_blocks()
settings = Settings(int(workers), int(queue), float(seconds), float(megapixels))
run(create_app(Shelf(read_offers([Path(ticket)]), "auto", 1), settings, {}), "127.0.0.1", 0, float(seconds))
"""


@contextmanager
def service(
    ticket: Path, log: Path, workers: int = 2, queue: int = 16, seconds: float = 60, megapixels: float = 24
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a service and yield its process and address once it is ready; killed at the end if it still runs."""
    words = [str(ticket), str(workers), str(queue), str(seconds), str(megapixels)]
    with log.open("w") as errors:
        process = subprocess.Popen([sys.executable, "-c", _START, *words], stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert process.stdout
            address = process.stdout.readline().strip()
            while httpx.get(f"{address}/readyz").status_code != 200:
                time.sleep(0.05)
            yield process, address
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


def resident_mb(process: subprocess.Popen[str]) -> float:
    """Return the resident memory of a process in MB (Linux)."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1e3
