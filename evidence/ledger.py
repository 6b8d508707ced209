"""The queue's log: one JSON object a line, only ever added to; standard library alone.

A *stint* is one process of one job, from its start to its end. Its lines are "start", "beat" (every few minutes, so that a
machine that vanishes takes little with it) and "end" with the reason "done", "stopped" or "failed". Each carries the core
seconds (processor time) and the wall seconds of the stint so far, and the updates and patches of the job so far; "start"
and "end" also the commit and the processor. Other lines: "queue-start", "queue-end", "pause", "go", "from-snapshot".
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

Line = dict[str, Any]
NAME = "log.jsonl"


def now() -> str:
    """The time in UTC, as it stands in the log."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def seconds_between(earlier: str, later: str) -> float:
    """Seconds from one time of the log to another."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def append(file: Path, event: str, **values: Any) -> None:
    """Add a line, and see it on the disk."""
    half = b""
    if file.exists():  # the half line of a machine that vanished must not swallow this one
        with file.open("rb") as stream:
            stream.seek(0, os.SEEK_END)
            if stream.tell():
                stream.seek(-1, os.SEEK_END)
                half = b"" if stream.read() == b"\n" else b"\n"
    with file.open("ab") as stream:
        stream.write(half + json.dumps({"time": now(), "event": event, **values}).encode() + b"\n")
        stream.flush()
        os.fsync(stream.fileno())


def read(file: Path) -> list[Line]:
    """Read all lines; half lines are passed over."""
    lines = []
    for text in file.read_text().splitlines() if file.exists() else ():
        try:
            lines.append(json.loads(text))
        except ValueError:
            continue
    return lines


def merge(file: Path, other: Path) -> None:
    """Take the lines of another log over that are not there yet, by time; both may come from different machines."""
    texts = {text: json.loads(text)["time"] for text in map(json.dumps, [*read(file), *read(other)])}
    part = file.with_suffix(".part")
    part.write_text("".join(text + "\n" for text in sorted(texts, key=lambda text: texts[text])))
    part.replace(file)


@dataclass(frozen=True)
class Account:
    """What the log says of one job: its last stint, and the core seconds of all of them, by instruction set."""

    started: Line
    last: Line
    core_seconds: dict[str, float]
    patches_per_second: float | None

    @property
    def state(self) -> str:
        """started, done, stopped or failed."""
        return str(self.last.get("reason", "started"))


def account(lines: Iterable[Line], job: str) -> Account | None:
    """Add up a job's stints; None when it never began."""
    own = [line for line in lines if line.get("job") == job and "stint" in line]
    if not own:
        return None
    starts = {line["stint"]: line for line in own if line["event"] == "start"}
    used: dict[str, float] = {}
    for line in own:
        used[line["stint"]] = max(used.get(line["stint"], 0.0), float(line["core_seconds"]))
    by_kind: dict[str, float] = {}
    for stint, seconds in used.items():
        kind = starts.get(stint, own[-1]).get("instructions", "unknown")
        by_kind[kind] = by_kind.get(kind, 0.0) + seconds
    last = own[-1]
    stints = [line for line in own if line["stint"] == last["stint"]]
    return Account(starts.get(last["stint"], last), last, by_kind, rate(stints))


def rate(stint: list[Line]) -> float | None:
    """Patches a second of wall time over the latest ten minutes or more of a stint; None at its first line."""
    last = stint[-1]
    earlier = [line for line in stint[:-1] if last["wall_seconds"] - line["wall_seconds"] >= 600]
    first = earlier[-1] if earlier else stint[0]
    seconds = last["wall_seconds"] - first["wall_seconds"]
    return None if seconds <= 0 else (last["patches"] - first["patches"]) / seconds
