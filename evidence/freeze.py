"""A frozen copy of the code: a git worktree at one commit with its own virtual environment; standard library alone.

What is trained for days must not change under it, and the tree it was made from goes on. The copy needs nothing of that tree
afterwards. The marker in its virtual environment, written last, says that it is whole and of which commit.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs import QueueError

MARKER = ".venv/.frozen.json"
Run = Callable[[list[str]], object]


@dataclass(frozen=True)
class Frozen:
    """A frozen copy of a commit (its full hash) at a place."""

    at: Path
    commit: str

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.at / ".venv" / "bin" / "python"

    @property
    def ready(self) -> bool:
        """Whether it is whole. Raises QueueError when the place holds something else."""
        marker = self.at / MARKER
        if not marker.exists():
            if self.at.exists() and any(self.at.iterdir()) and not (self.at / ".git").exists():
                raise QueueError(f"{self.at} is no frozen copy of this project; name another place with --at")
            return False
        there = json.loads(marker.read_text())["commit"]
        if there != self.commit:
            raise QueueError(f"{self.at} is frozen at {there[:12]}, not at {self.commit[:12]}; name another place with --at")
        return True


def full_hash(root: Path, commit: str) -> str:
    """Return the full hash of a commit. Raises QueueError when the repository does not hold it."""
    words = ["git", "-C", root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}"]
    found = subprocess.run(words, capture_output=True, text=True, check=False)
    if found.returncode:
        raise QueueError(f"{root} holds no commit {commit!r}; expected a hash, a branch or a tag")
    return found.stdout.strip()


def plan(root: Path, frozen: Frozen) -> list[list[str]]:
    """Return the commands that are left to make the copy, in order."""
    steps = []
    if not (frozen.at / ".git").exists():
        steps.append(["git", "-C", str(root), "worktree", "add", "--force", "--detach", str(frozen.at), frozen.commit])
    pip = [str(frozen.python), "-m", "pip", "install", "--quiet", "--quiet", "--disable-pip-version-check"]
    steps.append([sys.executable, "-m", "venv", str(frozen.at / ".venv")])
    steps.append([*pip, "--constraint", str(frozen.at / "constraints.txt"), "--editable", f"{frozen.at}[train]"])
    return steps


def freeze(root: Path, frozen: Frozen, run: Run | None = None) -> None:
    """Make the copy unless it is there; one that was begun and not finished is made whole.

    `run` carries a command out. Raises QueueError when a command fails, or when something else is at the place.
    """
    if frozen.ready:
        return
    for words in plan(root, frozen):
        (run or _run)(words)
    marker = frozen.at / MARKER
    part = marker.with_suffix(".part")
    part.write_text(json.dumps({"commit": frozen.commit}) + "\n")
    part.replace(marker)


def _run(words: list[str]) -> None:
    print(" ".join(words), file=sys.stderr, flush=True)
    # What a hook of git or another virtual environment says of itself must not reach the copy.
    env = {key: value for key, value in os.environ.items() if not key.startswith(("GIT_", "PYTHON", "VIRTUAL_ENV"))}
    if code := subprocess.run(words, env=env, check=False).returncode:
        raise QueueError(f"`{' '.join(words)}` failed with exit code {code}; the same command goes on once that is mended")
