"""A snapshot: what another machine needs to go on with the queue, small enough to be committed now and then.

snapshots/JOB.tar.xz       one parcel a job (evidence/parcel.py)
snapshots/log.jsonl        the log; of the beats of a stint the last one alone
snapshots/snapshot.json    when and of which commit; updates and patches of each job
snapshots/README.md        the same to be read
"""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import ledger
from halves import MANTISSA
from jobs import Job, QueueError
from machine import this_machine
from mirl.lottery.run import RunFolder
from parcel import Source, collect, pack, unpack
from places import Places, load, save
from report import HOUR, Row, rows
from standing import standing

LIMIT = 8_000_000  # bytes of all files together: each snapshot stays in git's history for ever
ROOM = 10_000  # bytes for README.md and snapshot.json
HOURS = 3.0
PRECISIONS = (MANTISSA, 8, 6, 5, 4)  # bits of mantissa
HEAD = """# Where the trainings are

`make queue-snapshot` wrote this folder: weights in half precision and masks of the training that each job is in.
`make queue` on a machine that has less starts from here, with moments anew. Not a result: results are in `results/`.

"""


def write(jobs: tuple[Job, ...], places: Places, folder: Path, force: bool = False, limit: int = LIMIT) -> str:
    """Write a snapshot in place of the one before; returns a line about it.

    Raises QueueError within three hours of the one before unless `force`, and when it does not fit into `limit` bytes.
    """
    before = load(folder / "snapshot.json")
    if before and not force:
        hours = ledger.seconds_between(before["time"], ledger.now()) / HOUR
        if hours < HOURS:
            raise QueueError(
                f"the last snapshot is {hours:.1f} hours old; expected {HOURS:.0f}, as git keeps each for ever (or --force)"
            )
    table = {row.job: row for row in rows(jobs, places)}
    saved = {job.name: standing(job, places.runs).saved for job in jobs}
    sources = {job.name: collect(job, places.runs, weights) for job, weights in chosen(jobs, places, table)}
    if not sources:
        raise QueueError(f"nothing in {places.runs} has begun; there is nothing to write")
    log = "".join(json.dumps(line) + "\n" for line in without_old_beats(ledger.read(places.log))).encode()
    bits, parcels = packed_into(sources, limit - len(log) - ROOM)
    frozen, machine, now = places.frozen(), this_machine(), datetime.now(UTC)
    story: dict[str, Any] = {
        "time": ledger.now(), "commit": frozen.commit if frozen else "", "machine": asdict(machine), "mantissa_bits": bits,
        "jobs": {name: {"updates": saved[name], "patches": table[name].patches} for name in parcels},
    }  # fmt: skip
    text = f"{HEAD}{now:%Y-%m-%d %H:%M} UTC, {machine.processor} ({machine.instructions}), commit `{story['commit']}`, "
    text += f"{bits} bits of mantissa.\n\n| job | state | training | updates | patches of 64x64 | core hours |\n"
    text += "| --- | --- | --- | --- | --- | --- |\n" + "".join(map(line_of, (table[name] for name in parcels)))
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for name, content in parcels.items():
        (folder / f"{name}.tar.xz").write_bytes(content)
    (folder / ledger.NAME).write_bytes(log)
    (folder / "README.md").write_text(text)
    save(folder / "snapshot.json", story)
    size = sum(file.stat().st_size for file in folder.iterdir())
    return f"{folder}: {', '.join(parcels)}; {size / 1e6:.1f} MB, {bits} bits of mantissa; commit it"


def chosen(jobs: tuple[Job, ...], places: Places, table: dict[str, Row]) -> list[tuple[Job, bool]]:
    """The jobs to write, and whether with weights: those that go on, and those that one of them still needs."""
    found = []
    for job in jobs:
        if not (job.folder(places.runs) / "recipe.json").exists() or (job.control and not table[job.name].updates):
            continue
        waiting = [other for other in jobs if other.after == job.name and table[other.name].state != "done"]
        if table[job.name].state != "done":
            found.append((job, True))
        elif waiting:
            found.append((job, any(other.control or not table[other.name].updates for other in waiting)))
    return found


def packed_into(sources: dict[str, Source], limit: int) -> tuple[int, dict[str, bytes]]:
    """Pack with as many bits of mantissa as fit. Raises QueueError when the fewest do not."""
    parcels: dict[str, bytes] = {}
    for bits in PRECISIONS:
        parcels = {name: pack(source, bits) for name, source in sources.items()}
        if sum(map(len, parcels.values())) <= limit:
            return bits, parcels
    sizes = ", ".join(f"{name} {len(content) / 1e6:.1f} MB" for name, content in parcels.items())
    raise QueueError(f"a snapshot takes {sizes} at {PRECISIONS[-1]} bits of mantissa; expected {limit / 1e6:.1f} MB in all")


def without_old_beats(lines: list[ledger.Line]) -> list[ledger.Line]:
    """Leave the beats out that a later line of their stint contains."""
    last = {line["stint"]: number for number, line in enumerate(lines) if "stint" in line}
    return [line for number, line in enumerate(lines) if line["event"] != "beat" or last[line["stint"]] == number]


def line_of(row: Row) -> str:
    """A job's line of the README."""
    return (
        f"| {row.job} | {row.state} | {row.training} | {row.updates:,} of {row.all_updates:,} | {row.patches:,.0f} "
        f"of {row.wanted:,} | {sum(row.core_seconds.values()) / HOUR:.2f} |\n"
    )


def restore(jobs: tuple[Job, ...], places: Places, folder: Path) -> list[str]:
    """Take over each job of a snapshot that is further than what is here; returns their names.

    The log of the snapshot is merged into the one here. What was here of such a job is moved aside.
    """
    story = load(folder / "snapshot.json")
    if not story:
        return []
    places.folder.mkdir(parents=True, exist_ok=True)
    ledger.merge(places.log, folder / ledger.NAME)
    taken = []
    for job in jobs:
        file, run = folder / f"{job.name}.tar.xz", RunFolder(job.folder(places.runs))
        if not file.exists():
            continue
        here, there = standing(job, places.runs).saved, story["jobs"][job.name]["updates"]
        missing = not (run.control(job.control).path if job.control else run.path / "recipe.json").exists()
        if here >= there and not missing:
            continue
        place = run.control(job.control).path if job.control else run.path
        if place.exists():
            place.rename(place.with_name(f".{place.name}-{datetime.now(UTC):%Y%m%d%H%M%S}"))
        unpack(file.read_bytes(), run)
        ledger.append(places.log, "from-snapshot", job=job.name, updates=there, instead_of=here, snapshot=story["time"],
                      mantissa_bits=story["mantissa_bits"], commit=story["commit"])  # fmt: skip
        taken.append(job.name)
    return taken
