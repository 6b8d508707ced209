"""Many photos at once: every engine gives the same files and manifest, and nothing that dies or is bad stops a run."""

import contextlib
import gc
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image

from conftest import make_ticket
from mirl.cli import main
from mirl.engine.options import Options
from mirl.engine.photos import Choices, restore_files
from mirl.errors import MirlError
from mirl.scale import places
from mirl.scale.batch import BatchResult, Engine, restore_batch
from mirl.scale.manifest import Manifest, Record
from mirl.scale.ray import _blocks, _Ledger
from mirl.scale.work import DIED, Outcome, Settings, open_settings
from mirl.ticket import write_ticket

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")  # of Ray about itself


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scale") / "t.mirl"
    write_ticket(make_ticket(keep=0.9), path)
    return path


@pytest.fixture(scope="module")
def settings(ticket: Path) -> Settings:
    return open_settings(str(ticket))


@pytest.fixture(scope="module")
def ray() -> Iterator[object]:
    """A Ray of two processors that all tests of this file share."""
    from mirl.scale.ray import _connect, _import

    module = _import()
    _connect(module, None, 2)
    yield module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # Ray forgets its own processes before it has waited for them
        module.shutdown()
        gc.collect()


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Engine:
    """The engine that a test names; for Ray, with Ray running."""
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param


def album(folder: Path, count: int) -> Path:
    """Make a folder of photos of 24x32 pixels, no two alike."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(count)
    for number in range(count):
        photo(folder / f"{number:03d}.png", rng)
    return folder


def photo(path: Path, rng: np.random.Generator | None = None) -> Path:
    rng = rng or np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).save(path)
    return path


def files(folder: Path) -> dict[str, str]:
    found = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


def lines(result: BatchResult) -> list[dict[str, object]]:
    return [json.loads(line) for line in Path(result.manifest).read_text().splitlines()]


# the same from every engine


def test_two_hundred_photos_through_ray_and_the_pool_give_identical_files_and_manifests(
    tmp_path: Path, settings: Settings, ray: object
):
    source = album(tmp_path / "in", 200)
    (source / "042.png").write_bytes((source / "041.png").read_bytes()[:300])
    (source / "sub").mkdir()
    photo(source / "sub" / "007.jpg")
    before = files(source)
    engines = {"pool": 2, "ray": 2, "serial": None}
    for engine, workers in engines.items():
        result = restore_batch([str(source)], str(tmp_path / engine), settings, engine, workers=workers, recursive=True)
        assert [result.count(status) for status in ("restored", "skipped", "failed")] == [200, 0, 1]
    assert files(tmp_path / "ray") == files(tmp_path / "pool") == files(tmp_path / "serial")
    assert len(files(tmp_path / "ray")) == 201  # and nothing else but the manifest
    assert files(source) == before
    records = [json.loads(line) for line in (tmp_path / "ray" / "manifest.jsonl").read_text().splitlines()]
    names = [record["output"] for record in records]
    assert names == sorted(names)
    assert names[-1] == "sub/007.jpg"
    for record in records:
        assert record["input"] == str(source / record["output"])
        if record["status"] == "restored":
            assert record["sha256"] == files(tmp_path / "ray")[record["output"]]
    (bad,) = (record for record in records if record["status"] == "failed")
    assert bad["output"] == "042.png"
    assert "damaged" in bad["reason"]
    assert "\n" not in bad["reason"]
    assert bad["sha256"] is None


def test_the_files_are_those_of_restore_without_an_engine(tmp_path: Path, settings: Settings, ticket: Path):
    from mirl.engine.engine import open_backend
    from mirl.ticket import load_ticket

    source = album(tmp_path / "in", 3)
    restore_batch([str(source)], str(tmp_path / "pool"), settings, "pool", workers=1)
    restore_files([source], tmp_path / "plain", open_backend(load_ticket(ticket), "auto", 1))
    (tmp_path / "pool" / "manifest.jsonl").unlink()
    assert files(tmp_path / "pool") == files(tmp_path / "plain")


@pytest.mark.parametrize(
    "choices",
    [
        Choices(Options(strength=0.5)),
        Choices(format="webp"),
        Choices(format="jpeg", quality=50),
        Choices(max_megapixels=1e-4),
    ],
    ids=["strength", "format", "quality", "max_megapixels"],
)
def test_choices_reach_the_workers(tmp_path: Path, ticket: Path, settings: Settings, choices: Choices):
    source = album(tmp_path / "in", 1)
    chosen = Settings(settings.ticket, settings.backend, 1, choices)
    pool = restore_batch([str(source)], str(tmp_path / "pool"), chosen, "pool", workers=1)
    serial = restore_batch([str(source)], str(tmp_path / "serial"), chosen, "serial")
    plain = restore_batch([str(source)], str(tmp_path / "plain"), settings, "serial")
    assert pool.records == serial.records
    assert pool.records[0].sha256 != plain.records[0].sha256
    assert (chosen.digest() == settings.digest()) == (choices.max_megapixels == 1e-4)


# workers that die


class Trap:
    """A photo that makes its reader wait (a named pipe), so that the worker can be killed in the middle of it.

    The first `deaths` workers that open it are killed; the next one is given `content`. `before` is what `output` held when
    the last one was killed, as `identities` tells.
    """

    def __init__(self, path: Path, content: bytes, deaths: int, output: Path | None = None):
        os.mkfifo(path)
        self.path, self.content, self.deaths, self.output = path, content, deaths, output
        self.before: dict[str, tuple[int, int]] = {}
        self.killed: list[int] = []
        self.error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        try:
            with self.path.open("wb") as pipe:  # waits for the first reader; while it is open, no reader meets an end
                while not self._over.wait(0.05):
                    for reader in descendants(os.getpid()):
                        if reader not in self.killed and reads(reader, self.path):
                            if len(self.killed) == self.deaths:
                                pipe.write(self.content)
                                return
                            if self.output:
                                self.before = identities(self.output)
                            os.kill(reader, signal.SIGKILL)
                            self.killed.append(reader)
        except BaseException as error:
            self.error = error

    def close(self) -> None:
        self._over.set()
        with contextlib.suppress(OSError):  # if nobody ever came
            os.close(os.open(self.path, os.O_RDONLY | os.O_NONBLOCK))
        self._thread.join(10)
        assert not self._thread.is_alive()
        assert self.error is None


def identities(folder: Path) -> dict[str, tuple[int, int]]:
    """Return inode and time of change of every photo in a folder: a file that is written again has others."""
    return {path.name: (path.stat().st_ino, path.stat().st_mtime_ns) for path in sorted(folder.glob("[!.]*.png"))}


def reads(pid: int, path: Path) -> bool:
    try:
        return any(
            link.readlink() == path and not link.lstat().st_mode & 0o200 for link in Path(f"/proc/{pid}/fd").iterdir()
        )
    except OSError:
        return False


def descendants(pid: int) -> set[int]:
    """Return the processes below `pid`, which are the only ones a test may kill."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
    found: set[int] = set()
    while more := {child for child, parent in parents.items() if parent in found | {pid}} - found:
        found |= more
    return found


@pytest.mark.parametrize("engine", ["pool", "ray"], indirect=True)
def test_a_worker_killed_in_the_middle_is_replaced_and_its_photo_restored(
    tmp_path: Path, settings: Settings, engine: Engine
):
    source = album(tmp_path / "in", 12)
    content = (source / "005.png").read_bytes()
    calm = restore_batch(inputs(source), str(tmp_path / "calm"), settings, "serial")
    (source / "005.png").unlink()
    trap = Trap(source / "005.png", content, deaths=1)
    result = restore_batch(inputs(source), str(tmp_path / "out"), settings, engine, workers=2)
    trap.close()
    assert len(trap.killed) == 1
    assert result.count("restored") == 12
    assert {r.output: r.sha256 for r in result.records} == {r.output: r.sha256 for r in calm.records}
    there, wanted = files(tmp_path / "out"), files(tmp_path / "calm")
    assert {name: there[name] for name in wanted if name.endswith("png")} == {r.output: r.sha256 for r in calm.records}
    assert len(there) == 13


@pytest.mark.parametrize("engine", ["pool", "ray"], indirect=True)
def test_a_photo_that_kills_every_worker_fails_and_the_others_are_restored(
    tmp_path: Path, settings: Settings, engine: Engine
):
    source = album(tmp_path / "in", 6)
    (source / "002.png").unlink()
    trap = Trap(source / "002.png", b"a fourth worker", deaths=3)
    result = restore_batch(inputs(source), str(tmp_path / "out"), settings, engine, workers=2)
    trap.close()
    assert len(set(trap.killed)) == 3
    assert [(r.output, r.reason) for r in result.records if r.status != "restored"] == [("002.png", DIED)]
    assert len(files(tmp_path / "out")) == 6


@pytest.mark.parametrize("engine", ["pool", "ray"], indirect=True)
def test_photos_done_before_their_worker_was_killed_are_not_written_again(
    tmp_path: Path, settings: Settings, engine: Engine
):
    """In Ray the twelve photos are four blocks of three; the last photo of the second kills, and Ray repeats the block."""
    source, out = album(tmp_path / "in", 12), tmp_path / "out"
    assert _blocks(12, 1) == 4
    content = (source / "005.png").read_bytes()
    (source / "005.png").unlink()
    trap = Trap(source / "005.png", content, deaths=2, output=out)
    result = restore_batch(inputs(source), str(out), settings, engine, workers=1)
    trap.close()
    assert len(trap.killed) == 2
    assert result.count("restored") == 12
    assert {"003.png", "004.png"} <= set(trap.before) < set(identities(out))
    assert {name: identities(out)[name] for name in trap.before} == trap.before


def test_the_ledger_gives_a_finished_photo_back_and_gives_one_up_at_the_fourth_time():
    ledger, done = _Ledger(), Outcome(1, sha256="ab")
    assert ledger.begin(1) is None
    assert ledger.begin(2) is None
    ledger.end(done)
    assert [ledger.begin(1) for _ in range(5)] == [done] * 5
    assert [ledger.begin(2) for _ in range(3)] == [None, None, Outcome(2, reason=DIED)]


def test_a_million_photos_are_blocks_that_one_driver_can_follow():
    assert _blocks(1_000_000, 16) == 10_000
    assert _blocks(10_000_000, 16) == 10_000
    assert _blocks(8_000, 16) == 1_000  # eight a block, so that what is done is soon on record
    assert _blocks(20, 8) == 20  # and enough for every actor
    assert _blocks(1, 8) == 1


def inputs(folder: Path) -> list[str]:
    """Name every photo: of a folder, named pipes are not taken."""
    return [str(path) for path in sorted(folder.iterdir())]


def test_a_worker_that_cannot_begin_ends_the_run_in_one_error(tmp_path: Path, settings: Settings):
    broken = Settings(settings.ticket[:-1], settings.backend)
    with pytest.raises(MirlError, match="truncated"):
        restore_batch([str(album(tmp_path / "in", 2))], str(tmp_path / "out"), broken, "pool", workers=2)
    assert not list((tmp_path / "out").iterdir())


# going on


def test_an_interrupted_run_goes_on_and_ends_as_one_that_was_not(tmp_path: Path, settings: Settings):
    source, out = album(tmp_path / "in", 9), tmp_path / "out"
    (source / "003.png").write_bytes(b"GIF89a")

    def interrupt(done: int, count: int, name: str) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_batch([str(source)], str(out), settings, "pool", workers=1, progress=interrupt)
    assert not (out / "manifest.jsonl").exists()
    assert not list(out.glob(".*"))  # nothing half written
    times = {path.name: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(times) >= 4
    result = restore_batch([str(source)], str(out), settings, "pool", workers=1)
    assert [result.count(status) for status in ("restored", "skipped", "failed")] == [4, 4, 1]
    skipped = [record["output"] for record in lines(result) if record["status"] == "skipped"]
    assert all((out / name).stat().st_mtime_ns == times[name] for name in skipped)
    whole = restore_batch([str(source)], str(tmp_path / "whole"), settings, "serial")
    assert {r.output: r.sha256 for r in result.records} == {r.output: r.sha256 for r in whole.records}
    assert sorted(files(out)) == sorted(files(tmp_path / "whole"))  # the files of what was done are gone


def test_a_run_that_was_killed_goes_on_from_what_it_had_written(tmp_path: Path, settings: Settings, ticket: Path):
    source, out = album(tmp_path / "in", 6), tmp_path / "out"
    code = (
        "import os, sys; import mirl.scale.manifest as m; m._SECONDS = 0\n"
        "from mirl.scale.batch import restore_batch; from mirl.scale.work import open_settings\n"
        "die = lambda done, count, name: os._exit(9) if done == 4 else None\n"
        "restore_batch([sys.argv[1]], sys.argv[2], open_settings(sys.argv[3]), 'serial', progress=die)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(source), str(out), str(ticket)]).returncode == 9
    (out / "manifest.jsonl.parts" / ".00000009.jsonl.x.part").write_text("torn")
    result = restore_batch([str(source)], str(out), settings, "serial")
    assert (result.count("skipped"), result.count("restored")) == (4, 2)
    assert not (out / "manifest.jsonl.parts").exists()


def test_what_is_done_is_done_again_only_when_something_changed(tmp_path: Path, settings: Settings):
    source, out = album(tmp_path / "in", 4), tmp_path / "out"
    (source / "001.png").write_bytes(b"GIF89a")

    def again(settings: Settings = settings) -> list[str]:
        records = restore_batch([str(source)], str(out), settings, "serial").records
        return [record.status for record in records]

    assert again() == ["restored", "failed", "restored", "restored"]
    assert again() == ["skipped", "failed", "skipped", "skipped"]
    photo(source / "001.png")  # it failed: tried again
    (out / "002.png").unlink()
    with (source / "003.png").open("ab") as file:
        file.write(b"edited")
    assert again() == ["skipped", "restored", "restored", "restored"]
    assert again() == ["skipped"] * 4
    assert again(Settings(settings.ticket, settings.backend, 1, Choices(Options(strength=0.5)))) == ["restored"] * 4
    assert again(Settings(settings.ticket, settings.backend, 2, Choices(Options(strength=0.5)))) == ["skipped"] * 4


def test_an_input_that_was_edited_is_restored_again_though_its_size_is_the_same(
    tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem
):
    def bitmap(value: int) -> bytes:
        Image.new("RGB", (8, 8), (value, value, value)).save(tmp_path / "x.bmp")
        return (tmp_path / "x.bmp").read_bytes()

    source = tmp_path / "in"
    source.mkdir()
    stores = {"local": (str(source), (source / "a.bmp").write_bytes), "memory": ("memory://in", None)}
    for name, (place, write) in stores.items():
        write = write or (lambda content: memory.pipe_file("/in/a.bmp", content))
        out, digests = str(tmp_path / name), []
        for value, status in ((10, "restored"), (10, "skipped"), (200, "restored"), (200, "skipped")):
            if status == "restored":
                write(bitmap(value))
            if name == "local" and status == "restored":
                os.utime(source / "a.bmp", ns=(value, value))  # the clock of a file system may be coarse
            (record,) = restore_batch([place], out, settings, "serial").records
            assert (name, value, record.status) == (name, value, status)
            digests.append(record.sha256)
        assert digests[0] == digests[1] != digests[2] == digests[3]


def test_a_run_over_other_photos_keeps_what_is_recorded(tmp_path: Path, settings: Settings):
    archive, single, out = album(tmp_path / "archive", 5), photo(tmp_path / "single.png"), tmp_path / "out"

    def interrupt(done: int, count: int, name: str) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_batch([str(archive)], str(out), settings, "serial", progress=interrupt)
    other = restore_batch([str(single)], str(out), settings, "serial")
    assert [record.output for record in other.records] == ["single.png"]
    assert [line["output"] for line in lines(other)] == ["000.png", "001.png", "002.png", "single.png"]
    assert not (out / "manifest.jsonl.parts").exists()
    whole = restore_batch([str(archive)], str(out), settings, "serial")
    assert (whole.count("skipped"), whole.count("restored")) == (3, 2)
    assert [line["output"] for line in lines(whole)][-1] == "single.png"


def test_a_manifest_from_before_versions_were_recorded_is_read_and_its_photos_done_again(tmp_path: Path, settings: Settings):
    source, out = album(tmp_path / "in", 2), tmp_path / "out"
    result = restore_batch([str(source)], str(out), settings, "serial")
    older = [{name: value for name, value in line.items() if name != "input_version"} for line in lines(result)]
    Path(result.manifest).write_text("".join(json.dumps(line) + "\n" for line in older))
    assert restore_batch([str(source)], str(out), settings, "serial").count("restored") == 2


# two at the same time


def test_two_runs_with_one_manifest_are_refused_and_two_manifests_are_not(tmp_path: Path, settings: Settings):
    source, out = album(tmp_path / "in", 2), tmp_path / "out"
    met: list[str] = []

    def second(done: int, count: int, name: str) -> None:
        with pytest.raises(MirlError, match=rf"another mirl process works on {out}/manifest.jsonl"):
            restore_batch([str(source)], str(out), settings, "serial")
        other = restore_batch([str(source)], str(out), settings, "serial", manifest=str(out / "other.jsonl"))
        met.append(f"{name} {other.count('failed')}")

    first = restore_batch([str(source)], str(out), settings, "serial", progress=second)
    assert met == [" 0", "000.png 0", "001.png 0"]
    assert first.count("restored") == 2
    assert sorted(path.name for path in out.iterdir()) == ["000.png", "001.png", "manifest.jsonl", "other.jsonl"]


def record(output: str) -> Record:
    return Record(f"in/{output}", output, "restored", None, "ab", 1, "cd", "7")


@pytest.mark.parametrize("kind", ["local", "memory"])
def test_what_was_done_is_never_written_over(tmp_path: Path, kind: str, memory: fsspec.AbstractFileSystem):
    place = f"memory://{kind}/list.jsonl" if kind == "memory" else str(tmp_path / "list.jsonl")
    first, second = Manifest(place), Manifest(place)
    assert first.earlier() == second.earlier() == {}
    for name, book in (("a", first), ("b", second), ("c", first)):
        book.add(record(name))
        book.flush()
    assert set(Manifest(place).earlier()) == {"a", "b", "c"}
    places.remove([places.join(f"{place}.parts", next(iter(places.list_files(f"{place}.parts"))))])  # a finish, cut off
    third = Manifest(place)
    left = set(third.earlier())
    assert len(left) == 2
    third.add(record("d"))
    third.flush()
    assert set(Manifest(place).earlier()) == {*left, "d"}


def test_files_of_others_among_what_was_done_do_not_end_a_run(tmp_path: Path, settings: Settings):
    source, out = album(tmp_path / "in", 1), tmp_path / "out"
    book = Manifest(str(out / "manifest.jsonl"))
    out.mkdir()
    book.add(record("z.png"))
    book.flush()
    late = out / "manifest.jsonl.parts" / "mine.txt"
    result = restore_batch([str(source)], str(out), settings, "serial", progress=lambda *_: late.write_text("x") and None)
    assert result.count("restored") == 1
    assert [path.name for path in late.parent.iterdir()] == ["mine.txt"]


# stores


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    store = fsspec.filesystem("memory")
    yield store
    store.store.clear()
    store.pseudo_dirs[:] = [""]


def fill(store: fsspec.AbstractFileSystem, folder: Path, root: str) -> None:
    for path in folder.iterdir():
        store.pipe_file(f"{root}/{path.name}", path.read_bytes())


def test_folders_of_a_store_are_restored_to_a_store(tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem):
    source = album(tmp_path / "in", 3)
    fill(memory, source, "/in")
    fill(memory, source, "/in/deep")
    memory.pipe_file("/in/.hidden.png", b"x")
    memory.pipe_file("/in/notes.txt", b"x")
    memory.pipe_file("/in/bad.png", b"GIF89a")
    plain = restore_batch([str(source)], str(tmp_path / "plain"), settings, "serial")
    flat = restore_batch(["memory://in"], "memory://flat", settings, "serial")
    assert [r.sha256 for r in flat.records] == [*(r.sha256 for r in plain.records), None]
    assert [r.status for r in flat.records] == ["restored"] * 3 + ["failed"]
    assert sorted(memory.find("/flat")) == [f"/flat/{name}" for name in ("000.png", "001.png", "002.png", "manifest.jsonl")]
    inside = "memory://in/restored"
    for statuses in (["restored"] * 6, ["skipped"] * 6):
        deep = restore_batch(["memory://in"], inside, settings, "serial", recursive=True)
        assert [r.status for r in deep.records if r.status != "failed"] == statuses
    assert hashlib.sha256(memory.cat_file("/in/restored/deep/002.png")).hexdigest() == plain.records[2].sha256


def test_paths_and_urls_mix(tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem):
    source = album(tmp_path / "in", 2)
    memory.pipe_file("/one/single.png", (source / "000.png").read_bytes())
    url = f"file://{source}"
    result = restore_batch(["memory://one/single.png", url], str(tmp_path / "a" / "out"), settings, "serial")
    assert [r.output for r in result.records] == ["000.png", "001.png", "single.png"]
    assert result.records[0].sha256 == result.records[2].sha256
    back = restore_batch([url], "memory://back", settings, "serial", manifest=str(tmp_path / "m" / "list.jsonl"))
    assert sorted(memory.find("/back")) == ["/back/000.png", "/back/001.png"]
    assert len(lines(back)) == 2


@pytest.mark.parametrize("output", ["local", "memory"])
def test_a_key_that_leads_out_of_the_output_is_a_failure_and_writes_nothing(
    tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem, output: str
):
    content = photo(tmp_path / "a.png").read_bytes()
    outside = tmp_path / "outside"
    keys = [f"/{outside}/x.png", "sub//y.png", "sub/../../y.png", "./y.png", "sub/\0.png", "sub/fine.png", ".hidden/z.png"]
    for key in keys:
        memory.pipe_file(f"/in/{key}", content)
    out = "memory://out" if output == "memory" else str(tmp_path / "out")
    result = restore_batch(["memory://in"], out, settings, "serial", recursive=True, manifest=str(tmp_path / "m.jsonl"))
    status = {record.input: record.status for record in result.records}
    assert status == {f"memory://in/{key}": "restored" if "fine" in key else "failed" for key in keys[:-1]}
    assert all("would lead out of the output folder" in r.reason for r in result.records if r.reason)
    assert sorted(line["output"] for line in lines(result)) == sorted(keys[:-1])
    assert not outside.exists()
    assert sorted(files(tmp_path)) == sorted(["a.png", "m.jsonl", *(["out/sub/fine.png"] if output == "local" else [])])
    assert [key for key in memory.store if not key.startswith("/in/")] == ["/out/sub/fine.png"] * (output == "memory")


@pytest.mark.parametrize("engine", ["pool", "ray"], indirect=True)
def test_workers_read_and_write_stores_by_themselves(tmp_path: Path, settings: Settings, engine: Engine):
    """local:// goes through fsspec as a store would: written beside and renamed."""
    source = album(tmp_path / "in", 3)
    result = restore_batch([f"local://{source}"], f"local://{tmp_path}/out/deep", settings, engine, workers=1)
    plain = restore_batch([str(source)], str(tmp_path / "plain"), settings, "serial")
    assert [r.sha256 for r in result.records] == [r.sha256 for r in plain.records]
    assert sorted(files(tmp_path / "out" / "deep")) == ["000.png", "001.png", "002.png", "manifest.jsonl"]
    again = restore_batch([f"local://{source}"], f"local://{tmp_path}/out/deep", settings, "serial")
    assert again.count("skipped") == 3


def test_a_store_that_cannot_replace_gets_the_whole_file_beside_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from fsspec.implementations.local import LocalFileSystem

    written: list[str] = []
    pipe, move = LocalFileSystem.pipe_file, LocalFileSystem.mv

    def note(self: LocalFileSystem, path: str, value: bytes, *more: Any, **options: Any) -> None:
        written.append(Path(path).name)
        pipe(self, path, value, *more, **options)

    def refuse(self: LocalFileSystem, source: str, target: str, *more: Any, **options: Any) -> None:
        if Path(target).exists():
            raise FileExistsError(target)
        move(self, source, target, *more, **options)

    monkeypatch.setattr(LocalFileSystem, "pipe_file", note)
    monkeypatch.setattr(LocalFileSystem, "mv", refuse)
    for content in (b"old", b"new"):
        places.write(f"local://{tmp_path}/a.png", content)
    assert (tmp_path / "a.png").read_bytes() == b"new"
    assert all(name.startswith(".a.png.") for name in written)
    monkeypatch.setattr(LocalFileSystem, "mv", lambda *_, **__: 1 / 0)
    with pytest.raises(MirlError, match=r"cannot write local://.*division"):
        places.write(f"local://{tmp_path}/b.png", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# what is refused before any work


def refuse(settings: Settings, words: str, inputs: Sequence[object], output: object, **options: Any) -> None:
    with pytest.raises(MirlError, match=words) as caught:
        restore_batch([str(place) for place in inputs], str(output), settings, **{"engine": "serial", **options})
    assert "\n" not in str(caught.value)


def test_outputs_that_clash_and_inputs_that_would_be_overwritten_are_refused(
    tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem
):
    one, two = album(tmp_path / "one", 2), album(tmp_path / "two", 2)
    before = files(tmp_path)
    fill(memory, one, "/in")
    refuse(settings, "would both become", [one, two], tmp_path / "out")
    refuse(settings, "is the input", [one], one)
    refuse(settings, "is the input", [f"local://{one}"], one)
    refuse(settings, "is the input", [one], f"local://{one}")
    refuse(settings, "is the input", ["memory://in"], "memory://in")
    refuse(settings, "is the input", ["memory://in"], "memory:///in/")
    refuse(settings, "would both become", ["memory://in", one], "memory://out")
    refuse(settings, "would both become", ["memory://in/000.png", "memory:///in/000.png"], tmp_path / "out")
    (tmp_path / "linked").symlink_to(one)
    refuse(settings, "is the input", ["memory://in/000.png", one / "001.png"], tmp_path / "linked", engine="serial")
    refuse(settings, "the manifest .* is a folder or one of the photos", [one], tmp_path / "out", manifest=str(one))
    refuse(settings, "one of the photos", [one], tmp_path / "out", manifest=str(one / "000.png"))
    assert files(tmp_path) == before
    assert sorted(memory.find("/")) == ["/in/000.png", "/in/001.png"]


def test_places_and_options_that_make_no_sense_are_refused(
    tmp_path: Path, settings: Settings, memory: fsspec.AbstractFileSystem
):
    one = album(tmp_path / "one", 1)
    out = tmp_path / "out"
    memory.pipe_file("/text/notes.txt", b"x")
    refuse(settings, "no input given", [], out)
    refuse(settings, "does not exist", [tmp_path / "none"], out)
    refuse(settings, "does not exist", ["memory://none"], out)
    refuse(settings, "no photos in memory://text", ["memory://text"], out)
    refuse(settings, "'-' is one photo", ["-"], out)
    refuse(settings, "is one photo; give an output folder", [one], tmp_path / "a.png")
    refuse(settings, "is one photo; give an output folder", [one], "memory://a.png")
    refuse(settings, "--workers must be at least 1", [one], out, workers=0)
    refuse(settings, "seen by this process alone", [one], "memory://out", engine="pool")
    refuse(settings, "chains several URLs", ["zip::memory://a.zip"], out)
    refuse(settings, "nosuch:// cannot be used", ["nosuch://a"], out)
    out.mkdir()
    (out / "manifest.jsonl").write_text("mine\n")
    refuse(settings, "is no manifest of mirl restore", [one], out)
    assert (out / "manifest.jsonl").read_text() == "mine\n"
    assert [path.name for path in out.iterdir()] == ["manifest.jsonl"]


def test_a_missing_library_is_one_error_that_names_the_extra(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
):
    one = album(tmp_path / "one", 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    refuse(settings, r"--engine ray needs ray.*pip install 'mirl\[ray\]'", [one], tmp_path / "out", engine="ray")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    places._open.cache_clear()
    refuse(settings, r"s3:// needs fsspec.*pip install 'mirl\[scale\]'", ["s3://bucket/in"], tmp_path / "out")


# the command


def command(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, list[str]]:
    capsys.readouterr()
    code = main(["restore", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_the_command_counts_names_the_failures_and_ends_with_1(
    tmp_path: Path, ticket: Path, capsys: pytest.CaptureFixture[str]
):
    source = album(tmp_path / "in", 3)
    words = [source, "-o", tmp_path / "out", "--ticket", ticket, "--workers", 1]
    code, out, err = command(capsys, *words)
    assert (code, err) == (0, [])
    assert out == f"restored 3, skipped 0 done before, failed 0: {tmp_path / 'out' / 'manifest.jsonl'}\n"
    (source / "bad.png").write_bytes(b"GIF89a")
    code, out, err = command(capsys, *words, "--manifest", tmp_path / "list.jsonl")
    assert code == 1
    assert err[0].startswith(f"mirl: {source}/bad.png: the image data is a GIF")
    assert err[1:] == [f"mirl: 1 of 4 photos were not restored; reasons are in {tmp_path}/list.jsonl"]
    assert len((tmp_path / "list.jsonl").read_text().splitlines()) == 4


def test_the_command_refuses_options_that_do_not_go_together(
    tmp_path: Path, ticket: Path, capsys: pytest.CaptureFixture[str]
):
    base = [album(tmp_path / "in", 1), "-o", tmp_path / "out", "--ticket", ticket]
    for words, message in (
        (["--engine", "serial", "--workers", 2], "--workers is for --engine pool and ray"),
        (["--engine", "pool", "--address", "auto"], "--address is a Ray cluster's"),
    ):
        code, _, err = command(capsys, *base, *words)
        assert code == 1
        assert len(err) == 1
        assert message in err[0]
    assert not (tmp_path / "out").exists()


def test_the_command_takes_urls_in_this_process_where_it_must(
    tmp_path: Path, ticket: Path, memory: fsspec.AbstractFileSystem, capsys: pytest.CaptureFixture[str]
):
    fill(memory, album(tmp_path / "in", 2), "/in")
    code, out, _ = command(capsys, "memory://in", "-o", "memory://out", "--ticket", ticket)
    assert code == 0
    assert "restored 2" in out
    assert len(memory.find("/out")) == 3


def in_a_process(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "mirl", "restore", *words], capture_output=True, text=True)


def test_the_command_starts_a_quiet_ray_of_its_own(tmp_path: Path, ticket: Path):
    source = album(tmp_path / "in", 2)
    (source / "bad.png").write_bytes(b"GIF89a")
    result = in_a_process(source, "-o", tmp_path / "out", "--ticket", ticket, "--engine", "ray", "--workers", "1")
    assert result.returncode == 1
    assert result.stdout == f"restored 2, skipped 0 done before, failed 1: {tmp_path}/out/manifest.jsonl\n"
    assert [line.startswith("mirl: ") for line in result.stderr.splitlines()] == [True, True], result.stderr


def test_a_ray_that_does_not_answer_is_one_error(tmp_path: Path, ticket: Path):
    source = album(tmp_path / "in", 1)
    words = ["--ticket", ticket, "--engine", "ray", "--address", "127.0.0.1:1"]
    result = in_a_process(source, "-o", tmp_path / "out", *words)
    assert result.returncode == 1
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("mirl: no Ray answers at 127.0.0.1:1: ")


def test_an_actor_that_cannot_begin_ends_the_run_in_one_error(tmp_path: Path, settings: Settings, ray: object):
    broken = Settings(settings.ticket[:-1], settings.backend)
    refuse(broken, "Ray gave up: .*truncated", [album(tmp_path / "in", 1)], tmp_path / "out", engine="ray", workers=1)
