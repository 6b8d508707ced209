"""The queue: order, retries, safe stops, the lock, the log, the frozen copy, and its commands."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import mini_data

sys.path.append(str(Path(__file__).parents[1] / "evidence"))

import ledger
from freeze import MARKER, Frozen, freeze, full_hash, plan
from jobs import JOBS, Job, QueueError, check
from machine import core_seconds, is_held, this_machine
from places import Places, save
from report import report, rows
from standing import standing
from supervisor import Pace, Supervisor

ROOT = Path(__file__).parents[1]
QUICK = Pace(look=0.02, beat=0.1, retry=0.05, save=60.0)
TRAINING = '''
"""Counts to a number and keeps the count in a file, as a training keeps its checkpoint; SIGTERM saves and ends."""
import os, signal, sys, time
from pathlib import Path
run, last = Path(sys.argv[1]), int(sys.argv[2])
run.mkdir(parents=True, exist_ok=True)
file, asked = run / "count", []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
count = int(file.read_text()) if file.exists() else 0
with (run / "begun").open("a") as stream:
    stream.write(f"{count} {os.nice(0)} {os.environ['OMP_NUM_THREADS']} {os.environ['MALLOC_MMAP_MAX_']} {time.time()}\\n")
while count < last:
    count += 1
    if "fail" in sys.argv:
        print("nothing can be done", file=sys.stderr)
        sys.exit(3)
    time.sleep(0.02)
    file.write_text(str(count))
    if asked:
        print("stopped at a safe point")
        sys.exit(1)
(run / "ended").write_text(str(time.time()))
'''


@pytest.fixture
def places(tmp_path: Path) -> Places:
    (tmp_path / "training.py").write_text(TRAINING)
    places = Places(tmp_path / "queue")
    places.folder.mkdir()
    return places


def counting(name: str, last: int, *more: str, **fields: str) -> Job:
    return Job(name, " ".join(["python {data}/training.py {run}", str(last), *more]), 10, **fields)


def supervisor(places: Places, *jobs: Job) -> Supervisor:
    frozen = Frozen(places.folder, "c0ffee")
    python = places.folder / "python"  # this tree's mirl, wherever that of the environment comes from
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT / "src"}" "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return Supervisor(check(jobs), places, frozen, python, places.folder.parent, pace=QUICK)


def meanwhile(ready: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something beside the queue as soon as it is time to."""

    def wait() -> None:
        until(ready)
        then()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def until(true: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def events(places: Places, job: str) -> list[tuple[str, str | None]]:
    lines = [line for line in ledger.read(places.log) if line.get("job") == job and line["event"] != "beat"]
    return [(line["event"], line.get("reason")) for line in lines]


def test_two_jobs_run_at_a_time_in_order_niced_with_one_thread_and_a_job_waits_for_another(places: Places):
    jobs = (counting("a", 30), counting("b", 5), counting("c", 5, after="a"), counting("d", 5))
    assert supervisor(places, *jobs).run()
    starts = [line["job"] for line in ledger.read(places.log) if line["event"] == "start"]
    assert starts == ["a", "b", "d", "c"]
    begun = {job.name: (places.runs / job.name / "begun").read_text().split() for job in jobs}
    assert all(values[1:4] == [str(min(os.nice(0) + 10, 19)), "1", "0"] for values in begun.values())
    ended = {job.name: float((places.runs / job.name / "ended").read_text()) for job in jobs}
    assert float(begun["d"][4]) >= ended["b"]
    assert float(begun["c"][4]) >= ended["a"]
    assert all(events(places, job.name) == [("start", None), ("end", "done")] for job in jobs)
    assert supervisor(places, *jobs).run(), "nothing is left"
    assert len([line for line in ledger.read(places.log) if line["event"] == "start"]) == 4


def test_a_failing_job_is_tried_three_times_recorded_with_its_last_lines_and_stops_no_other(places: Places):
    assert not supervisor(places, counting("bad", 5, "fail"), counting("good", 20), counting("later", 2)).run()
    assert events(places, "bad") == [("start", None), ("end", "failed")] * 3
    ends = [line for line in ledger.read(places.log) if line.get("reason") == "failed"]
    assert [line["attempt"] for line in ends] == [1, 2, 3]
    assert all(line["returncode"] == 3 and line["last_lines"][-1] == "nothing can be done" for line in ends)
    assert events(places, "good") == events(places, "later") == [("start", None), ("end", "done")]
    assert [row.state for row in rows((counting("bad", 5),), places)] == ["failed 3x"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_trainings_save_and_the_next_start_goes_on(places: Places, number: signal.Signals):
    jobs, counts = (counting("a", 200), counting("b", 200)), [places.runs / name / "count" for name in "ab"]
    thread = meanwhile(lambda: all(file.exists() for file in counts), lambda: os.kill(os.getpid(), number))
    assert not supervisor(places, *jobs).run()
    thread.join()
    saved = [file.read_text() for file in counts]
    assert all(0 < int(count) < 200 for count in saved)
    assert all(events(places, name) == [("start", None), ("end", "stopped")] for name in "ab")
    assert not places.state.exists()
    jobs = (counting("a", int(saved[0]) + 3), counting("b", int(saved[1]) + 3))
    assert supervisor(places, *jobs).run()
    begun = [(places.runs / name / "begun").read_text().splitlines()[-1].split()[0] for name in "ab"]
    assert begun == saved, "it went on where it was"


def test_held_trainings_use_no_processor_and_go_on_by_themselves(places: Places):
    seen: list[float] = []

    def process() -> int:
        return json.loads(places.state.read_text())["processes"]["a"] if places.state.exists() else 0

    def hold() -> None:
        held = process()
        save(places.pause, {"until": time.time() + 1.0})
        until(lambda: is_held(held))
        seen.append(core_seconds(held))
        time.sleep(0.3)
        seen.append(core_seconds(held))
        assert [row.state for row in rows((counting("a", 20),), places)] in (["held"], ["was killed"])

    thread = meanwhile(lambda: (places.runs / "a" / "count").exists(), hold)
    assert supervisor(places, counting("a", 20)).run()
    thread.join()
    assert seen[0] == seen[1] > 0
    kinds = [line["event"] for line in ledger.read(places.log)]
    assert kinds.index("pause") < kinds.index("go") < kinds.index("end")


def test_the_lock_refuses_a_second_queue_and_that_of_a_killed_one_is_nothing(places: Places):
    script = f"import sys, time; sys.path.append({str(ROOT / 'evidence')!r}); from pathlib import Path\n"
    script += (
        f"from places import Places\nPlaces(Path({str(places.folder)!r})).hold(); print('held', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert places.process() == other.pid
        with pytest.raises(QueueError, match=f"runs already, as process {other.pid}"):
            places.hold()
        other.kill()
        other.wait()
    assert places.lock.exists()
    assert places.process() is None
    handle = places.hold()
    assert places.lock.read_text() == str(os.getpid())
    os.close(handle)


def test_a_real_search_is_resumed_and_its_figures_are_those_of_its_run_folder(places: Places):
    quick = "--recipe tiny --tasks denoise25 --steps 20 --batch 24 --patch 16 --keep 0.5 --fraction 0.9"
    job = Job("search", f"mirl search {quick} --checkpoint-seconds 0 --data {mini_data()} --out {{run}}", 60)
    checkpoint = places.runs / "search" / "level-00" / "checkpoint.safetensors"
    thread = meanwhile(checkpoint.exists, lambda: os.kill(os.getpid(), signal.SIGTERM))
    queue = supervisor(places, job)
    assert not queue.run()
    thread.join()
    at = standing(job, places.runs)
    assert 0 < at.updates < 20
    assert at.all_updates == 40
    assert at.training == "level 0 of 1"
    assert at.patches == at.updates * 24 / 16  # patches of 16 pixels, counted as those of 64
    row = rows((job,), places)[0]
    assert (row.state, row.updates, row.wanted) == ("stopped", at.updates, 60)
    assert supervisor(places, job).run()
    row = rows((job,), places)[0]
    assert (row.state, row.updates, row.all_updates, row.patches) == ("done", 40, 40, 60.0)
    ends = [line for line in ledger.read(places.log) if line["event"] == "end"]
    assert [line["updates"] for line in ends] == [at.updates, 40]
    assert sum(row.core_seconds.values()) == pytest.approx(sum(line["core_seconds"] for line in ends))
    assert all(line["commit"] == "c0ffee" and line["processor"] == this_machine().processor for line in ends)
    places.remember(Frozen(places.folder, "c0ffee"))
    text = report((job,), places)
    assert "40 of 40" in text
    assert "60 of 60" in text
    assert "does not run; commit c0ffee" in text


def test_the_core_seconds_of_a_second_process_that_nobody_waited_for_stay_counted(places: Places):
    script = places.folder.parent / "two.py"
    second = "import time\nend = time.process_time() + 1.0\nwhile time.process_time() < end: pass\ntime.sleep(0.5)"
    script.write_text(
        f"import subprocess, sys, os\nother = subprocess.Popen([sys.executable, '-c', {second!r}])\n"
        "os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)\nos._exit(0)\n"
    )
    assert supervisor(places, Job("two", "python {data}/two.py", 10, processes=2)).run()
    account = ledger.account(ledger.read(places.log), "two")
    assert account is not None
    assert sum(account.core_seconds.values()) >= 0.9


def test_core_hours_add_up_over_stints_machines_and_half_lines(tmp_path: Path):
    log, other = tmp_path / "log.jsonl", tmp_path / "other.jsonl"
    for stint, kind, seconds in (("1", "AVX-512", (0, 100, 7200)), ("2", "AVX2", (0, 300, 1800))):
        for event, used in zip(("start", "beat", "beat"), seconds, strict=True):
            ledger.append(log, event, job="a", stint=stint, core_seconds=used, wall_seconds=used, patches=2 * used,
                          instructions=kind)  # fmt: skip
    with log.open("a") as stream:
        stream.write('{"time": "2026-01-01T00:00:00Z", "event": "be')  # the machine vanished here
    ledger.append(log, "queue-start")
    account = ledger.account(ledger.read(log), "a")
    assert account is not None
    assert account.core_seconds == {"AVX-512": 7200.0, "AVX2": 1800.0}
    assert account.patches_per_second == 2.0
    assert account.state == "started"
    shutil.copy(log, other)
    ledger.append(other, "start", job="a", stint="3", core_seconds=5, wall_seconds=5, patches=0, instructions="AVX2")
    for _ in range(2):
        ledger.merge(log, other)
        account = ledger.account(ledger.read(log), "a")
        assert account is not None
        assert account.core_seconds == {"AVX-512": 7200.0, "AVX2": 1805.0}


def test_the_instruction_set_is_read_from_the_processor(tmp_path: Path):
    for flags, widest in (("sse avx2 avx512f", "AVX-512"), ("sse avx2", "AVX2"), ("sse", "SSE")):
        (tmp_path / "cpuinfo").write_text(
            f"processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: {flags}\n\nprocessor\t: 1\n"
        )
        machine = this_machine(tmp_path / "cpuinfo")
        assert (machine.processor, machine.instructions) == ("Some CPU @ 2 GHz", widest)


def test_the_table_of_jobs_is_sound_and_unsound_ones_are_refused():
    assert check(JOBS) == JOBS
    for job in JOBS:
        words = job.words(Path("py"), Path("/runs"), Path("/data"))
        assert "/data" in words
        assert f"/runs/{job.name}" in words
    with pytest.raises(QueueError, match="a name of its own"):
        check((counting("a", 1), counting("a", 1)))
    with pytest.raises(QueueError, match="no job before it"):
        check((counting("a", 1, after="b"), counting("b", 1)))
    with pytest.raises(QueueError, match="expected mirl or python"):
        Job("a", "rm -rf /", 1).words(Path("py"), Path("/runs"), Path("/data"))


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True, text=True, env=env).stdout


def test_a_commit_is_frozen_once_in_a_worktree_and_its_environment_made_whole_after_a_failure(tmp_path: Path):
    root = tmp_path / "tree"
    root.mkdir()
    git(root, "init", "-q")
    (root / "code.py").write_text("old")
    git(root, "add", "code.py")
    git(root, "commit", "-qm", "Old")
    commit = full_hash(root, "HEAD")
    (root / "code.py").write_text("new")
    git(root, "commit", "-qam", "New")
    frozen = Frozen(tmp_path / "frozen", commit)
    worktree, environment, install = plan(root, frozen)
    assert environment[-2:] == ["venv", str(frozen.at / ".venv")]
    assert install[:4] == [str(frozen.python), "-m", "pip", "install"]
    assert install[-4:] == ["--constraint", f"{frozen.at}/constraints.txt", "--editable", f"{frozen.at}[train]"]
    done: list[list[str]] = []

    def stand_in(words: list[str]) -> None:
        done.append(words)
        if words[0] == "git":
            subprocess.run(words, check=True, capture_output=True)
        elif words == install and len(done) == 3:
            raise QueueError("no network")
        else:
            frozen.python.parent.mkdir(parents=True, exist_ok=True)

    with pytest.raises(QueueError, match="no network"):
        freeze(root, frozen, stand_in)
    assert not frozen.ready
    freeze(root, frozen, stand_in)
    assert done == [worktree, environment, install, environment, install]
    assert frozen.ready
    assert (frozen.at / "code.py").read_text() == "old"
    freeze(root, frozen, stand_in)
    assert len(done) == 5, "it is made once"
    with pytest.raises(QueueError, match="is frozen at"):
        freeze(root, Frozen(frozen.at, full_hash(root, "HEAD")), stand_in)
    with pytest.raises(QueueError, match="no frozen copy"):
        freeze(root, Frozen(root / ".git", commit), stand_in)
    with pytest.raises(QueueError, match="holds no commit 'nonsense'"):
        full_hash(root, "nonsense")


def stand_in_for_a_frozen_copy(at: Path) -> Frozen:
    """A folder whose virtual environment has this one's packages."""
    venv = at / ".venv"
    (venv / "bin").mkdir(parents=True)
    shutil.copy(Path(sys.prefix) / "pyvenv.cfg", venv)
    (venv / "lib").symlink_to(Path(sys.prefix) / "lib")
    (venv / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    (at / MARKER).write_text(json.dumps({"commit": "c0ffee"}))
    return Frozen(at, "c0ffee")


def test_the_commands_start_in_the_background_say_how_far_hold_stop_and_go_on(places: Places, tmp_path: Path):
    if sys.prefix == sys.base_prefix:
        pytest.skip("runs in no virtual environment")
    scripts = tmp_path / "tree" / "evidence"
    shutil.copytree(ROOT / "evidence", scripts, ignore=shutil.ignore_patterns("__pycache__"))
    with (scripts / "jobs.py").open("a") as table:
        table.write('\nJOBS = (Job("count", "python {data}/training.py {run} 100000", 10),)\n')
    places.remember(stand_in_for_a_frozen_copy(tmp_path / "frozen"))

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        whole = [sys.executable, scripts / "train_queue.py", *words, "--folder", places.folder, "--data", tmp_path]
        return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=120)

    assert "no queue runs in" in command("stop").stderr
    started = command("start")
    assert started.returncode == 0, started.stderr
    process = places.process()
    assert process is not None
    try:
        assert f"the queue runs as process {process} from {tmp_path / 'frozen'}" in started.stdout
        again = command("start")
        assert again.returncode == 1
        assert f"runs already, as process {process}" in again.stderr
        until((places.runs / "count" / "count").exists)
        assert "count  runs" in command("status").stdout
        assert command("pause").returncode == 0
        assert "count  held" in command("status").stdout
        assert command("go").returncode == 0
        assert command("stop").stdout.startswith("stopped")
        assert places.process() is None
        count = (places.runs / "count" / "count").read_text()
        assert command("start").returncode == 0
        until(lambda: int((places.runs / "count" / "count").read_text() or 0) > int(count))
        process = places.process()
        assert process is not None
        training = json.loads(places.state.read_text())["processes"]["count"]
        os.kill(process, signal.SIGKILL)  # its trainings save and end with it
        until(lambda: is_held(training))
        assert places.process() is None
        assert "count  was killed" in command("status").stdout
    finally:
        if process := places.process():
            os.kill(process, signal.SIGKILL)
