"""The tickets a service offers: read once, listed with their figures, sent to browsers, opened for the server's own work."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mirl.engine.engine import Backend, open_backend
from mirl.errors import MirlError
from mirl.hub import is_hub_name, split_name
from mirl.serve.refusal import Refusal
from mirl.ticket import Ticket, describe_ticket, find_ticket, read_ticket, shipped

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_FIGURES = ("parameters", "nonzero", "density", "density_prunable", "density_macs", "bytes", "dense_bytes", "tasks")


@dataclass(frozen=True)
class Offer:
    """One ticket as it is offered: its name, the bytes of its file, and what they hold."""

    name: str
    content: bytes
    ticket: Ticket

    def describe(self) -> dict[str, Any]:
        """Return its entry in `GET /v1/tickets`."""
        figures = describe_ticket(self.ticket, len(self.content))
        return {"name": self.name} | {key: figures[key] for key in _FIGURES}


class Shelf:
    """The offered tickets by name, the first being the default, and the backends opened for them."""

    def __init__(self, offers: Sequence[Offer], backend: str = "auto", threads: int | None = None):
        if threads is not None and threads < 1:
            raise MirlError(f"--threads must be at least 1, found {threads}")
        self.offers = {offer.name: offer for offer in offers}
        self.default = offers[0].name
        self._backend, self._threads = backend, threads
        self._opening = threading.Lock()

    def find(self, name: str | None) -> Offer:
        """Return the offer called `name`, the default without one. Raises Refusal."""
        offer = self.offers.get(name or self.default)
        if offer is None:
            raise Refusal(404, "unknown_ticket", f"no such ticket; expected one of {', '.join(self.offers)}")
        return offer

    def open(self, offer: Offer) -> Backend:
        """Return what runs the ticket, opened once; takes tens of milliseconds or more the first time."""
        with self._opening:
            return open_backend(offer.ticket, self._backend, self._threads)

    def listing(self) -> dict[str, Any]:
        """Return the JSON of `GET /v1/tickets`."""
        return {"default": self.default, "tickets": [offer.describe() for offer in self.offers.values()]}


def read_offers(files: Sequence[Path]) -> list[Offer]:
    """Read the given tickets, as `find_ticket` finds them, then the shipped ones of other names. The first is the default.

    Raises MirlError for a bad file, two of one name, a name that cannot stand in an address, or no ticket at all.
    """
    offers: dict[str, Offer] = {}
    for path in files:
        name = split_name(path)[0].partition("/")[2] if is_hub_name(path) else path.stem
        if name in offers:
            raise MirlError(f"two tickets are called {name}; rename one of the files")
        offers[name] = _read(find_ticket(path), name)
    for name, path in shipped().items():
        if name not in offers:
            offers[name] = _read(path, name)
    if not offers:
        raise MirlError("no ticket to serve: none ships with this version; give one with --ticket FILE")
    return list(offers.values())


def _read(path: Path, name: str) -> Offer:
    if not _NAME.fullmatch(name):
        raise MirlError(f"{path}: its name becomes part of an address; expected letters, digits, '.', '_', '-' before .mirl")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MirlError(f"cannot read the ticket {path}: {error.strerror}; expected a .mirl file") from error
    try:
        return Offer(name, content, read_ticket(content))
    except MirlError as error:
        raise MirlError(f"{path}: {error}") from error
