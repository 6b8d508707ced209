"""Where photos are: paths of this machine, and URLs such as s3://bucket/in that fsspec lists, reads and writes.

A place is text. `file://` is a path too. A reader of any place sees the old file or the whole new one: object stores show an
object only once it is complete, and everywhere else a file is written beside and renamed.
"""

import functools
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mirl.errors import MirlError, one_line
from mirl.files import make_folder, write_bytes
from mirl.image import SUFFIXES

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_WHOLE = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "memory"}  # an object appears when all of it is there
_FILE = "file://"
_ODD = {"", ".", ".."}  # parts of a key that no path below a folder has
_VERSIONS = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated", "modificationTime", "created")


def is_url(place: str) -> bool:
    """Tell whether a place is a URL rather than a path of this machine."""
    return bool(_URL.match(place)) and "://" in place


def local_path(place: str) -> Path | None:
    """Return the path of a place on this machine, None for any other."""
    if place.startswith(_FILE):
        return Path(place.removeprefix(_FILE))
    return None if is_url(place) else Path(place)


def in_memory(place: str) -> bool:
    """Tell whether a place belongs to one process alone, so that no worker can see it."""
    return place.startswith("memory://")


def join(folder: str, name: str) -> str:
    """Return the place `name` below a folder."""
    return f"{folder.rstrip('/')}/{name}" if is_url(folder) else str(Path(folder) / name)


def same_name(place: str) -> str:
    """Return a text that is equal for two names of one place; links are followed on this machine."""
    if (path := local_path(place)) is not None:
        return _FILE + os.path.realpath(path)
    store, name = open_store(place)
    text = str(store.unstrip_protocol(name))
    return _FILE + os.path.realpath(text.removeprefix(_FILE)) if text.startswith(_FILE) else text


def absolute(place: str) -> str:
    """Return the place as a worker finds it, whatever its working folder."""
    path = local_path(place)
    return place if path is None else str(path.absolute())


@functools.lru_cache(maxsize=64)
def _open(protocol: str) -> type[Any]:
    try:
        import fsspec
    except ModuleNotFoundError as error:
        raise MirlError(f"{protocol}:// needs fsspec, which is not installed; pip install 'mirl[scale]'") from error
    try:
        return fsspec.get_filesystem_class(protocol)
    except (ImportError, ValueError) as error:
        raise MirlError(f"{protocol}:// cannot be used: {one_line(error)}") from error


def open_store(url: str) -> tuple[Any, str]:
    """Return fsspec's file system of a URL and the path in it. Raises MirlError for an unknown kind or wrong settings."""
    if "::" in url:
        raise MirlError(f"{url} chains several URLs; expected a single one such as s3://bucket/folder")
    protocol = url.partition("://")[0]
    _open(protocol)
    import fsspec

    with told(f"cannot open {url}"):
        return fsspec.core.url_to_fs(url)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Raise whatever a store raises as a MirlError in one line: its clients have exceptions of their own.

    FileNotFoundError goes through.
    """
    try:
        yield
    except (MirlError, FileNotFoundError):
        raise
    except Exception as error:
        raise MirlError(f"{what}: {one_line(error)}; check the name, the network and your permissions") from error


def read(place: str) -> bytes:
    """Return a file's bytes. Raises MirlError, or FileNotFoundError when there is none."""
    with told(f"cannot read {place}"):
        if (path := local_path(place)) is not None:
            return path.read_bytes()
        store, name = open_store(place)
        return bytes(store.cat_file(name))


def write(place: str, content: bytes) -> None:
    """Write a file that appears whole or not at all. Raises MirlError; folders of this machine must exist."""
    if (path := local_path(place)) is not None:
        return write_bytes(path, content)
    store, name = open_store(place)
    with told(f"cannot write {place}"):
        if place.partition("://")[0] in _WHOLE:
            store.pipe_file(name, content)
            return
        parent, _, last = name.rpartition("/")
        store.makedirs(parent, exist_ok=True)
        beside = f"{parent}/.{last}.{secrets.token_hex(8)}.part"
        try:
            store.pipe_file(beside, content)
            _rename(store, beside, name)
        except BaseException:
            if store.exists(beside):
                store.rm_file(beside)
            raise


def _rename(store: Any, beside: str, name: str) -> None:
    try:
        store.mv(beside, name)
    except Exception:  # some stores (HDFS) rename onto nothing only
        if not store.exists(beside) or not store.exists(name):
            raise
        store.rm_file(name)
        store.mv(beside, name)


def make_parent(place: str) -> None:
    """Make the folder of a place on this machine; other stores get theirs when a file is written."""
    if (path := local_path(place)) is not None:
        make_folder(path.parent)


def is_folder(place: str) -> bool:
    """Tell whether a place is a folder that exists."""
    if (path := local_path(place)) is not None:
        return path.is_dir()
    store, name = open_store(place)
    with told(f"cannot look at {place}"):
        return bool(store.isdir(name))


@dataclass(frozen=True)
class Facts:
    """What tells whether a file changed: bytes, and its time of change or the version that its store states, "" for none."""

    size: int
    version: str


def facts_of(path: Path) -> Facts:
    """Return the facts of a file of this machine. Raises OSError when it cannot be looked at."""
    info = path.stat()
    return Facts(info.st_size, str(info.st_mtime_ns))


def _stated(info: dict[str, Any]) -> Facts:
    """The facts that fsspec's entry of a file states, which are named otherwise by every store."""
    version = next((info[name] for name in _VERSIONS if info.get(name)), "")
    return Facts(int(info.get("size") or 0), str(version))


def list_files(folder: str, recursive: bool = True) -> dict[str, Facts]:
    """Return the names of all files below a folder, sorted, with their facts; nothing for one that is not there."""
    if (path := local_path(folder)) is not None:
        found = [p for p in (path.rglob("*") if recursive else path.glob("*")) if p.is_file()]
        return {str(p.relative_to(path)): facts_of(p) for p in sorted(found)}
    store, root = open_store(folder)
    with told(f"cannot list {folder}"):
        try:
            listed = store.find(root, maxdepth=None if recursive else 1, detail=True)
        except FileNotFoundError:
            return {}
    start = len(root.rstrip("/")) + 1
    return {name[start:]: _stated(listed[name]) for name in sorted(listed) if len(name) > start}


def existing(folder: str, names: list[str]) -> set[str]:
    """Return those of `names` that are files below a folder."""
    if (path := local_path(folder)) is not None:
        return {name for name in names if (path / name).is_file()}
    return set(list_files(folder)).intersection(names) if names else set()


def leads_out(name: str) -> bool:
    """Tell whether a key of a store is no path below a folder: /x, a//b, ../x, or one that no file can have."""
    return "\0" in name or not _ODD.isdisjoint(name.split("/"))


def find_photos(place: str, output: str, recursive: bool) -> dict[str, Facts]:
    """Return the photos below a folder of a store by name, with their facts: no hidden ones, none below `output`.

    Of a place that is a file, its last name. Names are keys as the store has them, see `leads_out`. Raises MirlError for a
    place that is neither.
    """
    store, root = open_store(place)
    with told(f"cannot look at {place}"):
        if store.isfile(root):
            return {root.rpartition("/")[2]: _stated(store.info(root))}
    found = list_files(place, recursive)
    if not found and not is_folder(place):
        raise MirlError(f"{place} does not exist; expected a photo or a folder of photos")
    base, earlier = same_name(place).rstrip("/") + "/", same_name(output).rstrip("/") + "/"
    return {
        name: facts
        for name, facts in found.items()
        if PurePosixPath(name).suffix.lower() in SUFFIXES
        and not any(part.startswith(".") and part not in _ODD for part in name.split("/"))
        and (earlier == base or not (base + name).startswith(earlier))
    }


def remove(places: list[str]) -> None:
    """Remove files."""
    for place in places:
        if (path := local_path(place)) is not None:
            path.unlink(missing_ok=True)
        else:
            store, name = open_store(place)
            with told(f"cannot remove {place}"), suppress(FileNotFoundError):
                store.rm_file(name)
