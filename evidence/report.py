"""What `make queue-status` prints."""

from dataclasses import dataclass

import ledger
from jobs import Job
from machine import core_seconds, this_machine
from mirl.errors import MirlError
from places import Places, load
from standing import standing

HOUR = 3600.0


@dataclass(frozen=True)
class Row:
    """One job: its state, the training it is in, how far, how fast, what it has cost and what is left."""

    job: str
    state: str
    training: str
    updates: int
    all_updates: int
    patches: float
    wanted: int
    patches_per_second: float | None
    core_seconds: dict[str, float]
    processor: str

    @property
    def hours_left(self) -> float | None:
        """Wall hours to the wanted patches at the rate of now; None when nothing runs."""
        if not self.patches_per_second or self.state not in ("runs", "held"):
            return None
        return max(self.wanted - self.patches, 0.0) / self.patches_per_second / HOUR


def rows(jobs: tuple[Job, ...], places: Places) -> list[Row]:
    """One row for each job of the table."""
    lines, state = ledger.read(places.log), load(places.state)
    alive = places.process() is not None
    found = []
    for job in jobs:
        account = ledger.account(lines, job.name)
        try:
            at = standing(job, places.runs)
            training, updates, all_updates, patches = at.training, at.updates, at.all_updates, at.patches
        except MirlError as error:
            training, updates, all_updates, patches = f"unreadable: {error}", 0, 0, 0.0
        word = "waits"
        if alive and job.name in state.get("processes", {}):
            word = "held" if state.get("held") else "runs"
        elif account:
            word = "was killed" if account.state == "started" else account.state
        if word == "failed":
            word = f"failed {account.last.get('attempt', 1)}x" if account else word
        started, spent = (account.started, dict(account.core_seconds)) if account else ({}, {})
        speed = account.patches_per_second if account else None
        if account and word in ("runs", "held"):  # what the log will say at its next line
            kind = started["instructions"]
            spent[kind] += max(0.0, core_seconds(state["processes"][job.name]) - account.last["core_seconds"])
            since = ledger.seconds_between(started["time"], ledger.now())
            speed = speed or ((patches - started["patches"]) / since if since > 0 else None)
        processor = f"{started['processor']}, {started['instructions']}" if started else ""
        found.append(Row(job.name, word, training, updates, all_updates, patches, job.patches, speed, spent, processor))
    return found


def report(jobs: tuple[Job, ...], places: Places) -> str:
    """The table as text, with the machine, the commit and the sum of all core hours of the log."""
    machine, frozen, process = this_machine(), places.frozen(), places.process()
    lines = ledger.read(places.log)
    spent: dict[str, float] = {}
    for name in dict.fromkeys(line["job"] for line in lines if "stint" in line):  # jobs that left the table count too
        account = ledger.account(lines, name)
        for kind, seconds in (account.core_seconds if account else {}).items():
            spent[kind] = spent.get(kind, 0.0) + seconds
    text = [
        f"{'runs as process ' + str(process) if process else 'does not run'}; "
        f"commit {frozen.commit[:12] if frozen else 'none'}; this machine: {machine.cores} cores, {machine.processor}, "
        f"{machine.instructions}"
    ]
    table = [("job", "state", "training", "updates", "patches of 64x64", "a second", "core h", "left", "processor")]
    for row in rows(jobs, places):
        left = "" if row.hours_left is None else f"{row.hours_left:.1f} h"
        speed = "" if row.patches_per_second is None else f"{row.patches_per_second:.1f}"
        table.append((
            row.job, row.state, row.training, f"{row.updates:,} of {row.all_updates:,}",
            f"{row.patches:,.0f} of {row.wanted:,}", speed, f"{sum(row.core_seconds.values()) / HOUR:.2f}", left,
            row.processor,
        ))  # fmt: skip
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    text += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    kinds = ", ".join(f"{seconds / HOUR:.2f} on {kind}" for kind, seconds in sorted(spent.items()))
    text.append(f"core hours in all: {sum(spent.values()) / HOUR:.2f}{f' ({kinds})' if kinds else ''}; log: {places.log}")
    return "\n".join(text)
