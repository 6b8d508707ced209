"""Files that are held by one process at a time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mirl.errors import MirlError
from mirl.files import lock


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
