"""Files that appear whole or not at all, and files that are held by one process at a time."""

import os
import stat
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from mirl.errors import MirlError
from mirl.files import atomic_write, lock, write_bytes


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a file that nobody came to close
def test_a_signal_between_any_two_steps_of_a_writing_leaves_the_old_file_or_the_new_one_and_nothing_else(tmp_path: Path):
    """A worker that is told to end raises wherever it is: here, before each line of `atomic_write` in turn."""
    path = tmp_path / "out"
    code = atomic_write.__wrapped__.__code__  # type: ignore[attr-defined]
    for number in range(100):
        path.write_bytes(b"old")
        lines = 0

        def trace(frame: FrameType, event: str, argument: object) -> Any:
            nonlocal lines
            if frame.f_code is not code:
                return trace if event == "call" else None
            if event == "line":
                lines += 1
                if lines == number + 1:  # noqa: B023  # called within this round
                    sys.settrace(None)
                    raise SystemExit
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            write_bytes(path, b"new")
        except SystemExit:
            pass
        finally:
            sys.settrace(before)
        assert [entry.name for entry in tmp_path.iterdir()] == ["out"], number
        assert path.read_bytes() in (b"old", b"new")
        if lines <= number:
            break
    assert 8 < number < 99  # it ended, as no line was left
    assert path.read_bytes() == b"new"


def test_a_written_file_has_the_rights_that_a_new_file_gets(tmp_path: Path):
    before = os.umask(0o027)
    try:
        write_bytes(tmp_path / "out", b"new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o640


def test_a_writing_that_fails_names_the_file_and_leaves_nothing(tmp_path: Path):
    with pytest.raises(MirlError, match=r"cannot write .*none/out: No such file"):
        write_bytes(tmp_path / "none" / "out", b"")
    (tmp_path / "out").mkdir()
    with pytest.raises(MirlError, match=r"cannot write .*/out: Is a directory"):
        write_bytes(tmp_path / "out", b"")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_lock_is_gone_after_its_holder_and_that_of_a_killed_one_is_free(tmp_path: Path):
    path = tmp_path / ".lock"
    code = (
        "import os, sys; from pathlib import Path; from mirl.files import lock\nwith lock(Path(sys.argv[1]), 1): os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)]).returncode == 9
    assert path.exists()  # and yet nobody holds it
    for _ in range(2):
        with lock(path, "it"), pytest.raises(MirlError, match="another mirl process works on it"), lock(path, "it"):
            pass
    assert not path.exists()
    with pytest.raises(MirlError, match=r"cannot hold .*No such file"), lock(tmp_path / "none" / ".lock", "it"):
        pass


def test_a_lock_that_was_removed_while_one_came_to_it_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import fcntl

    path, flock, seen = tmp_path / ".lock", fcntl.flock, []

    def late(handle: int, how: int) -> None:
        if not seen:
            path.unlink()  # the holder ends between opening and locking
        seen.append(os.fstat(handle).st_nlink)
        flock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    with lock(path, "it"), pytest.raises(MirlError, match="another mirl process"), lock(path, "it"):
        pass
    assert seen[:2] == [0, 1]
