"""Files written beside their place and renamed into it: a reader sees the old file or the new one, never a part."""

import csv
import hashlib
import io
import json
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from mirl.errors import MirlError


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block ends well and vanishes when it does not.

    Whatever ends the block: also an exception that a signal raises between any two steps, as the name is known before the
    file is there. Raises MirlError, naming the path, when the folder is missing, not writable or full.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{secrets.token_urlsafe(6)}.part"
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, path, str(temporary)):
            raise  # an error of the block's own about another file
        raise MirlError(
            f"cannot write {path}: {error.strerror or error}; expected an existing, writable folder with free space; "
            "choose another output or free some space"
        ) from error
    finally:
        with suppress(OSError):  # where there is no folder, or no right in it, nothing was written
            temporary.unlink()


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` in one step. Raises MirlError when it cannot be written."""
    with atomic_write(path) as file:
        file.write(content)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON with a final newline, in one step."""
    write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Return a table as CSV with a line of names, numbers in full."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def make_folder(path: Path) -> Path:
    """Make `path` and its parents, or raise MirlError saying why not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MirlError(f"cannot make the folder {path}: {error.strerror or error}; choose another output folder") from error
    return path


@contextmanager
def lock(path: Path, work: object) -> Iterator[None]:
    """Hold the file `path`, which is there only while it is held, for this process.

    Raises MirlError when another process holds it, naming the `work` that it guards, or when the file cannot be made.
    """
    import fcntl  # not on Windows, where all else here works

    while True:
        handle: int | None = None
        try:
            handle = os.open(path, os.O_CREAT | os.O_RDWR)
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if handle is not None:
                os.close(handle)
            if isinstance(error, BlockingIOError):
                raise MirlError(f"another mirl process works on {work}; wait for it or stop it") from error
            raise MirlError(f"cannot hold {path}: {error.strerror}; choose a folder that can be written") from error
        if _is(handle, path):
            break
        os.close(handle)  # a file that its last holder has just removed
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
        os.close(handle)


def read_json(path: Path, what: str, parse: Callable[[Any], Any] = lambda value: value) -> Any:
    """Read JSON from `path` and return `parse(value)`; `what` names the file in the error of a bad one."""
    try:
        return parse(json.loads(path.read_text()))
    except FileNotFoundError as error:
        raise MirlError(f"{path} is missing; expected {what}") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MirlError(f"{path} is not {what}: {error}") from error


def _is(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
