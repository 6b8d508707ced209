"""The queue: trainings of days, from a frozen copy of the code, under whatever else this machine is used for.

    make queue [COMMIT=HEAD] [AT=../frozen-COMMIT] [DATA=../shared/data/train]    start it in the background, or go on
    make queue-status       for each job: how far it is, how fast, what it has cost, what is left
    make queue-pause        hold the trainings (30 minutes at most), to measure speed; make queue-go lets them go on
    make queue-stop         save and end; make queue goes on
    make queue-snapshot     write snapshots/, to be committed: another machine goes on from there

The jobs are the table of evidence/jobs.py, the first ones first, two at a time with one thread each. `make queue` freezes
HEAD the first time and trains from that copy ever after; COMMIT=... moves to another one. State lies in ../queue-runs:
run folders, what the jobs print, and log.jsonl with every start and end, processor, commit and core seconds.
This file runs anywhere; what reads run folders runs under the frozen copy's Python.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from freeze import Frozen, freeze, full_hash
from jobs import JOBS, QueueError, check
from machine import is_held
from places import Places, load, save

ROOT = Path(__file__).resolve().parents[1]
START_SECONDS = 60.0
STOP_SECONDS = 420.0


def main() -> None:
    """Carry one command out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=[*COMMANDS])
    parser.add_argument("--folder", type=Path, default=ROOT.parent / "queue-runs", help="state of the queue")
    parser.add_argument("--commit", help="commit to freeze; as before, or HEAD the first time")
    parser.add_argument("--at", type=Path, help="where the frozen copy lies or is made; ../frozen-COMMIT")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data" / "train")
    parser.add_argument("--snapshots", type=Path, default=ROOT / "snapshots")
    parser.add_argument("--foreground", action="store_true", help="start: do not return before the queue ends")
    parser.add_argument("--minutes", type=float, default=30.0, help="pause: let them go on after so long")
    parser.add_argument("--force", action="store_true", help="snapshot: also within three hours of the last one")
    options = parser.parse_args()
    places = Places(options.folder.resolve())
    try:
        COMMANDS[options.command](places, options)
    except QueueError as error:
        sys.exit(f"error: {error}")


def start(places: Places, options: argparse.Namespace) -> None:
    """Freeze the code unless that is done, and run the queue from it, in the background."""
    check(JOBS)
    if process := places.process():
        raise QueueError(f"the queue in {places.folder} runs already, as process {process}; make queue-status says how far")
    if not options.data.is_dir():
        raise QueueError(f"no training data in {options.data}; name their folder with --data (DATA=...)")
    frozen = chosen(places, options)
    freeze(ROOT, frozen)
    places.remember(frozen)
    words = [str(frozen.python), __file__, "run", "--folder", str(places.folder), "--data", str(options.data.resolve()),
             "--snapshots", str(options.snapshots.resolve())]  # fmt: skip
    if options.foreground:
        os.execv(words[0], words)
    output = places.output("queue")
    output.parent.mkdir(parents=True, exist_ok=True)
    with output.open("ab") as stream:
        child = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True)
    deadline = time.monotonic() + START_SECONDS
    while load(places.state).get("pid") != child.pid:
        if child.poll() is not None:
            if child.returncode == 0:
                print("all jobs are done")
                return
            raise QueueError(f"the queue has ended: {output.read_text().strip().splitlines()[-1]} (all of it: {output})")
        if time.monotonic() > deadline:
            raise QueueError(f"the queue, process {child.pid}, does not answer; see {output}")
        time.sleep(0.1)
    print(f"the queue runs as process {child.pid} from {frozen.at}; make queue-status tells more")


def chosen(places: Places, options: argparse.Namespace) -> Frozen:
    """The frozen copy to train from: the one asked for, the one of before, that of a snapshot, or HEAD."""
    before = places.frozen()
    commit = options.commit or (before.commit if before else load(options.snapshots / "snapshot.json").get("commit", "HEAD"))
    commit = before.commit if before and commit == before.commit else full_hash(ROOT, commit)
    if options.at is None and before and before.commit == commit:
        return before
    return Frozen((options.at or ROOT.parent / f"frozen-{commit[:12]}").resolve(), commit)


def run(places: Places, options: argparse.Namespace) -> None:
    """Run the queue in this process; under the frozen copy's Python."""
    frozen = require_frozen(places)
    from snapshot import restore
    from supervisor import Supervisor

    held = places.hold()
    try:
        for name in restore(check(JOBS), places, options.snapshots):
            print(f"{name} goes on from the snapshot in {options.snapshots}, with moments anew", flush=True)
        queue = Supervisor(check(JOBS), places, frozen, frozen.python, options.data)
        sys.exit(0 if queue.run() else 1)
    finally:
        os.close(held)


def status(places: Places, options: argparse.Namespace) -> None:
    """Print how far every job is."""
    under_frozen(places)
    from report import report

    print(report(JOBS, places))


def snapshot(places: Places, options: argparse.Namespace) -> None:
    """Write the snapshot."""
    under_frozen(places)
    from snapshot import write

    print(write(check(JOBS), places, options.snapshots, options.force))


def pause(places: Places, options: argparse.Namespace) -> None:
    """Hold the trainings, and return once they are."""
    require_process(places)
    save(places.pause, {"until": time.time() + 60 * options.minutes})
    wait_for(lambda: load(places.state).get("held", False) and all(map(is_held, processes(places))), "hold")
    print(f"held for {options.minutes:g} minutes at most; make queue-go lets them go on")


def go(places: Places, options: argparse.Namespace) -> None:
    """Let held trainings go on."""
    require_process(places)
    places.pause.unlink(missing_ok=True)
    wait_for(lambda: not load(places.state).get("held", False), "go on")
    print("going on")


def stop(places: Places, options: argparse.Namespace) -> None:
    """Let the trainings save and end, and return once they have."""
    process = require_process(places)
    os.kill(process, signal.SIGTERM)
    wait_for(lambda: places.process() is None, "end", STOP_SECONDS)
    print("stopped; make queue goes on")


COMMANDS = {"start": start, "run": run, "status": status, "pause": pause, "go": go, "stop": stop, "snapshot": snapshot}


def processes(places: Places) -> list[int]:
    """The processes of the trainings."""
    return list(load(places.state).get("processes", {}).values())


def require_process(places: Places) -> int:
    """The process that runs the queue. Raises QueueError when none does."""
    if process := places.process():
        return process
    raise QueueError(f"no queue runs in {places.folder}; make queue starts it")


def require_frozen(places: Places) -> Frozen:
    """The frozen copy of the queue. Raises QueueError when there is none."""
    frozen = places.frozen()
    if frozen is None or not frozen.ready:
        raise QueueError(f"{places.folder} knows no frozen copy that is here; make queue makes one")
    return frozen


def under_frozen(places: Places) -> None:
    """Go on under the frozen copy's Python, whose mirl knows the run folders."""
    frozen = require_frozen(places)
    if Path(sys.prefix).resolve() != (frozen.at / ".venv").resolve():
        os.execv(str(frozen.python), [str(frozen.python), *sys.argv])


def wait_for(true: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something is so. Raises QueueError when it is not in time."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise QueueError(f"the queue does not {what} within {seconds:.0f} seconds; look at its output")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
