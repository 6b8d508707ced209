"""Tickets on the Hugging Face hub, named `hf:owner/name` or `hf:owner/name@revision`, through huggingface_hub (extra `hub`).

A repository holds its ticket as `ticket.mirl`. Where the hub is (HF_ENDPOINT), who you are (HF_TOKEN, `hf auth login`) and
where the cache is (HF_HOME) are huggingface_hub's own affair; without a connection what is in the cache is taken.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mirl.errors import MirlError, one_line

PREFIX = "hf:"
FILE = "ticket.mirl"
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_REVISION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,249}")


def is_hub_name(name: str | Path) -> bool:
    """Return whether `name` is of the hub rather than a file or a shipped ticket."""
    return str(name).startswith(PREFIX)


def split_name(name: str | Path) -> tuple[str, str | None]:
    """Return owner/name and the revision of `hf:owner/name[@revision]`. Raises MirlError for another form."""
    repository, at, revision = str(name).removeprefix(PREFIX).partition("@")
    if not is_hub_name(name) or (at and not _REVISION.fullmatch(revision)):
        raise MirlError(f"{str(name)!r:.120} names no ticket of the hub; expected hf:owner/name or hf:owner/name@revision")
    return check_repository(repository), revision or None


def check_repository(name: str) -> str:
    """Return `name` when it has the form owner/name. Raises MirlError."""
    if not _REPOSITORY.fullmatch(name) or ".." in name or "--" in name:
        raise MirlError(f"{name!r:.120} is no repository of the hub; expected owner/name of letters, digits, '.', '_', '-'")
    return name


def fetch(name: str | Path) -> Path:
    """Return the file of the ticket `hf:owner/name[@revision]` in the cache, fetched unless it is there and current.

    Raises MirlError when there is no such repository, revision or ticket, when it cannot be reached and is not in the
    cache, or when huggingface_hub is not installed.
    """
    repository, revision = split_name(name)
    hub = _library()
    try:
        return Path(hub.hf_hub_download(repository, FILE, revision=revision))
    except Exception as error:  # its errors have no class in common
        raise _failure(hub, error, str(name)) from error


def upload(repository: str, files: Mapping[str, bytes], private: bool = False, message: str = "Add a ticket") -> str:
    """Commit `files` (contents by name) to `owner/name`, made where there is none; return its address.

    `private` counts for a new repository. Raises MirlError when the hub refuses or cannot be reached.
    """
    check_repository(repository)
    hub = _library()
    try:
        api = hub.HfApi(library_name="mirl")
        address = api.create_repo(repository, private=private, exist_ok=True)
        added = [hub.CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(repository, added, commit_message=message)
    except Exception as error:
        raise _failure(hub, error, repository) from error
    return str(address)


def _library() -> Any:
    try:
        import huggingface_hub
    except ModuleNotFoundError as error:
        raise MirlError(f"tickets of the hub need {error.name}, which is not installed; pip install 'mirl[hub]'") from error
    return huggingface_hub


def _failure(hub: Any, error: Exception, name: str) -> MirlError:
    kinds, status = hub.errors, getattr(getattr(error, "response", None), "status_code", None)
    login = "log in with `hf auth login` or set HF_TOKEN"
    if isinstance(error, kinds.GatedRepoError):
        return MirlError(f"{name} is gated on the hub; ask for access on its page, then {login}")
    if isinstance(error, kinds.RevisionNotFoundError):
        return MirlError(f"{name}: the hub has no such revision; expected a branch, a tag or a commit of that repository")
    if isinstance(error, kinds.RemoteEntryNotFoundError):
        return MirlError(f"{name} holds no {FILE} on the hub; expected a repository made by `mirl push`")
    if isinstance(error, kinds.LocalEntryNotFoundError | kinds.OfflineModeIsEnabled):
        return MirlError(f"{name}: the hub cannot be reached and the cache has no copy; try again with a connection")
    if isinstance(error, kinds.LocalTokenNotFoundError) or status in (401, 403):
        return MirlError(f"{name}: the hub does not let you; {login}, with a token that may do this")
    if isinstance(error, kinds.RepositoryNotFoundError):
        return MirlError(f"{name}: the hub has no such repository, or it is private; check the name, or {login}")
    return MirlError(f"{name}: the hub failed: {one_line(error):.200}; try again later")
