"""The page as plain files: what the service sends, and the same as a folder that any web server can send.

The service answers exactly `files()`, beside GET /v1/tickets, GET /v1/tickets/NAME.mirl and POST /v1/restore. All addresses
in the page are relative, so it works below any path. Two tags in its head say where tickets are listed and whether a server
restores; `write` changes them to those of a page without a server, whose list is the file v1/tickets.json, and adds the
policy that the service says in a header.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mirl.files import make_folder, write_bytes
from mirl.serve.shelf import Offer, Shelf

_FOLDERS = (Path(__file__).parent / "web", Path(__file__).parent.parent / "engine" / "wasm")
_MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}
# What the page may load and run; the service says it in a header, the static page in itself.
POLICY = (
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; img-src 'self' blob:; worker-src 'self'; style-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'none'"
)
_STATIC = {  # what the served page says -> what the static one does
    '<meta charset="utf-8">': f'<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
    'name="mirl-tickets" content="v1/tickets"': 'name="mirl-tickets" content="v1/tickets.json"',
    'name="mirl-restore" content="v1/restore"': 'name="mirl-restore" content=""',
}


@dataclass(frozen=True)
class SiteFile:
    """A file of the page: its bytes and its Content-Type."""

    content: bytes
    media_type: str


def files() -> dict[str, SiteFile]:
    """Return the files of the page by their address, "/" being index.html."""
    found = {}
    for folder in _FOLDERS:
        for path in sorted(folder.iterdir()):
            if media_type := _MEDIA_TYPES.get(path.suffix):
                address = "/" if path.name == "index.html" else f"/{path.name}"
                found[address] = SiteFile(path.read_bytes(), media_type)
    return found


def write(folder: Path, offers: Sequence[Offer]) -> list[Path]:
    """Write the page and the tickets as static files, older ones being replaced, and return them. Raises MirlError."""
    content = {path.lstrip("/") or "index.html": file.content for path, file in files().items()}
    for served, static in _STATIC.items():
        content["index.html"] = content["index.html"].replace(served.encode(), static.encode())
    content["v1/tickets.json"] = json.dumps(Shelf(offers).listing(), indent=1).encode()
    content |= {f"v1/tickets/{offer.name}.mirl": offer.content for offer in offers}
    make_folder(folder / "v1" / "tickets")
    written = [folder / name for name in content]
    for path, each in zip(written, content.values(), strict=True):
        write_bytes(path, each)
    return written
