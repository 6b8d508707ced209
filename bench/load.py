"""From the shell to a restored photo: whole processes of `mirl restore`, native engine against PyTorch.

    python bench/load.py [--size 512] [--threads 1] [--runs 7] [--json results/load.json]

A ticket of the network small (10 % of its weights kept, layer by layer, initial values) restores a bundled photograph with
noise. The commands run in turns, each in a fresh process, with the environment of the shell; `imports` says which of torch,
onnxruntime and numpy such a process has loaded at its end. `seconds_read` and `seconds_open` are taken in a fresh process
whose imports are done: the .mirl file into a ticket, and the ticket into an engine.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mirl.evaluate.speed import example_image, interleave, machine, parse_size
from mirl.files import write_json
from mirl.ticket import write_ticket
from patterns import NETWORKS, make_ticket

BACKENDS = ("native", "torch")
IMPORTS = (
    "import json, sys; from mirl.cli import main; code = main(sys.argv[1:]); "
    "print(json.dumps([name in sys.modules for name in ('torch', 'onnxruntime', 'numpy')])); sys.exit(code)"
)
OPEN = """
import importlib, json, sys, time
from pathlib import Path
from mirl.engine.engine import BACKENDS, open_backend
from mirl.ticket import read_ticket
file, name, threads = sys.argv[1:]
importlib.import_module(BACKENDS[name].module)
began = time.perf_counter()
ticket = read_ticket(Path(file))
read = time.perf_counter()
open_backend(ticket, name, int(threads))
print(json.dumps([read - began, time.perf_counter() - read]))
"""


class Command:
    """`mirl restore` with one backend, a process each time."""

    def __init__(self, name: str, ticket: Path, photo: Path, threads: int):
        self.name, self.threads, self.ticket = name, threads, ticket
        self.out = photo.with_name(f"{name}.png")
        self.words = ["restore", str(photo), "-o", str(self.out), "--ticket", str(ticket), "--backend", name,
                      "--threads", str(threads)]  # fmt: skip

    def restore(self) -> float:
        """Restore the photo; returns the seconds from the start of the process to its end."""
        began = time.perf_counter()
        _run(str(Path(sys.executable).with_name("mirl")), *self.words)
        return time.perf_counter() - began

    def imports(self) -> dict[str, bool]:
        """Say which libraries the command loads."""
        last = _run(sys.executable, "-c", IMPORTS, *self.words).splitlines()[-1]
        return dict(zip(("torch", "onnxruntime", "numpy"), json.loads(last), strict=True))

    def opening(self) -> list[float]:
        """Return the seconds to read the ticket and to open it, in a fresh process that has imported what it needs."""
        return list(json.loads(_run(sys.executable, "-c", OPEN, str(self.ticket), self.name, str(self.threads))))


def _run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def measure(ticket: Path, photo: Path, threads: int, runs: int) -> list[dict[str, Any]]:
    """Return a row for each backend."""
    commands = [Command(name, ticket, photo, threads) for name in BACKENDS]
    times = interleave(commands, runs)
    native, other = (np.asarray(Image.open(command.out), int) for command in commands)
    rows = []
    for command in commands:
        opened = [command.opening() for _ in range(runs)]
        rows.append(
            {
                "backend": command.name,
                "seconds_median": statistics.median(times[command.name]),
                "seconds_least": min(times[command.name]),
                "seconds_most": max(times[command.name]),
                "seconds_read": statistics.median(read for read, _ in opened),
                "seconds_open": statistics.median(made for _, made in opened),
                "imports": command.imports(),
                "largest_difference_of_255": int(np.abs(native - other).max()),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, default=Path("results/load.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ticket, photo = Path(folder) / "small.mirl", Path(folder) / "photo.png"
        made = make_ticket(NETWORKS["small"], "layer-90")
        write_ticket(made, ticket)
        image = example_image(parse_size(options.size))
        Image.fromarray(np.rint(255 * np.clip(image, 0, 1)).astype(np.uint8)).save(photo)
        rows = measure(ticket, photo, options.threads, options.runs)
        size = ticket.stat().st_size
    for row in rows:
        print(f"{row['backend']:7} {row['seconds_median']:.2f} s ({row['seconds_least']:.2f} to {row['seconds_most']:.2f}); "
              f"ticket read in {row['seconds_read']:.3f} s, opened in {row['seconds_open']:.3f} s; "
              f"imports {', '.join(name for name, loaded in row['imports'].items() if loaded)}")  # fmt: skip
    command = f"python bench/load.py --size {options.size} --threads {options.threads} --runs {options.runs}"
    about = {"command": command, "size": list(image.shape[:2]), "threads": options.threads, "runs": options.runs}
    about |= {"density": made.density, "ticket_bytes": size, "machine": machine()}
    ratio = rows[1]["seconds_median"] / rows[0]["seconds_median"]
    write_json(options.json, {**about, "torch_over_native": ratio, "rows": rows})


if __name__ == "__main__":
    main()
