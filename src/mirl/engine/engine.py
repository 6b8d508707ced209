"""Restore an image of any size with a ticket: backends behind one Protocol, strength, tiles."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mirl.engine.tiles import OVERLAP, choose_tile, cut_tiles, map_tiles
from mirl.errors import MirlError
from mirl.image import as_pixels
from mirl.ticket import Ticket

Pixels = NDArray[np.float32]

_SMALLEST_TILE = 32
_ROWS = 256  # blended in bands of rows, to keep temporaries small


class Backend(Protocol):
    """What runs a ticket's network. `bytes_per_pixel` is the working memory of `forward`."""

    name: str
    bytes_per_pixel: float

    def forward(self, pixels: Pixels) -> Pixels:
        """Map degraded float32 (h, w, 3) in [0, 1], any h, w >= 1, to restored (h, w, 3), not clipped."""

    def shared_statistics(self, tiles: Sequence[Pixels], on_tile: Callable[[int], None]) -> AbstractContextManager[None]:
        """Make `forward` see all `tiles` of one photo where it looks at a whole image (attention, prompts).

        Inside the context the statistics of all tiles count for each; `on_tile(done)` reports the pass that sums them.
        """


@dataclass(frozen=True)
class BackendKind:
    """Where a backend's class `kind(ticket, threads)` lives, and how to get what it needs."""

    module: str
    kind: str
    install: str


BACKENDS = {
    "native": BackendKind(
        "mirl.engine.sparse",
        "NativeBackend",
        "install mirl where there are a C compiler (gcc or clang) and Python's headers (python3-dev)",
    ),
    "onnx": BackendKind("mirl.engine.onnx", "OnnxBackend", "pip install 'mirl[onnx]'"),
    "torch": BackendKind("mirl.engine.torch", "TorchBackend", "pip install 'mirl[train]'"),
}
_PREFERENCE = ("native", "onnx", "torch")  # what "auto" tries, fastest first
_OPENED: WeakKeyDictionary[Ticket, dict[tuple[str, int | None], Backend]] = WeakKeyDictionary()


def open_backend(ticket: Ticket, name: str = "auto", threads: int | None = None) -> Backend:
    """Return the backend called `name` for the ticket, opened once and kept as long as the ticket lives.

    "auto" takes the fastest that is installed, and warns when that is not the native one. `threads=None` uses the
    backend's own number. Raises MirlError for an unknown name, fewer than one thread, or a backend whose library is
    not installed.
    """
    if name != "auto" and name not in BACKENDS:
        raise MirlError(f"unknown backend {name!r}; expected auto or one of {', '.join(BACKENDS)}")
    if threads is not None and threads < 1:
        raise MirlError(f"--threads must be at least 1, found {threads}")
    opened = _OPENED.setdefault(ticket, {})
    missing = {}
    for candidate in _PREFERENCE if name == "auto" else (name,):
        if (candidate, threads) not in opened:
            kind = BACKENDS[candidate]
            try:
                opened[candidate, threads] = getattr(importlib.import_module(kind.module), kind.kind)(ticket, threads)
            except ModuleNotFoundError as error:
                missing[candidate] = f"the {candidate} backend needs {error.name}: {kind.install}"
                continue
            except ImportError as error:  # its compiled part is not there, or not for this machine
                missing[candidate] = f"the {candidate} backend does not load ({error}): {kind.install}"
                continue
            if "native" in missing:
                advice = f"the native engine was not built, so the slower {candidate} restores; {BACKENDS['native'].install}"
                warnings.warn(advice, stacklevel=1)  # of one place, whoever calls: Python shows it once
        return opened[candidate, threads]
    raise MirlError(f"no backend can run: {'; '.join(missing.values())}")


def restore_pixels(
    backend: Backend,
    pixels: Pixels,
    strength: float = 1.0,
    tile: int | None = None,
    overlap: int = OVERLAP,
    on_tile: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Restore float32 (h, w, 3) pixels in [0, 1] to the same shape and range; the input stays as it is.

    `strength` blends: 0 returns the input exactly, 1 the restored image. `tile` is the side of the square
    tiles in pixels, 0 the whole image at once, None what memory allows. `on_tile(done, all)` reports
    progress. Raises MirlError for a strength outside [0, 1], a tile below 32, or a network whose output is no
    number.
    """
    check_options(strength, tile)
    if overlap < 0:
        raise MirlError(f"overlap must be at least 0 pixels, found {overlap}")
    height, width = pixels.shape[:2]
    if strength == 0:
        return pixels.copy()
    if tile is None:
        size = choose_tile(height, width, backend.bytes_per_pixel, overlap)
    else:
        size = (tile or height, tile or width)
    tiles = cut_tiles(pixels, size, overlap)
    if len(tiles) == 1:
        restored = map_tiles(backend.forward, pixels, size, overlap, on_tile)
    else:  # two passes: what the network sums over the image, then the image
        told = on_tile or (lambda done, count: None)
        every = 2 * len(tiles)
        with backend.shared_statistics(tiles, lambda done: told(done, every)):
            restored = map_tiles(backend.forward, pixels, size, overlap, lambda done, count: told(done + count, every))
    for top in range(0, height, _ROWS):
        rows = restored[top : top + _ROWS]
        if not np.isfinite(rows).all():
            raise MirlError(f"the {backend.name} backend gave NaN or infinite pixels; check the ticket: mirl inspect")
        np.clip(rows, 0, 1, out=rows)
        if strength < 1:
            source = pixels[top : top + _ROWS]
            rows -= source
            rows *= np.float32(strength)
            rows += source
            np.clip(rows, 0, 1, out=rows)  # rounding
    return restored


def check_options(strength: float, tile: int | None) -> None:
    """Raise MirlError for a strength outside [0, 1] or a tile that is neither None, 0 nor at least 32."""
    if not 0 <= strength <= 1:
        raise MirlError(f"strength must lie between 0 (the input) and 1 (fully restored), found {strength}")
    if tile is not None and tile != 0 and tile < _SMALLEST_TILE:
        raise MirlError(f"tile must be 0 (the whole image) or at least {_SMALLEST_TILE} pixels, found {tile}")


def restore(
    image: Any,
    ticket: Ticket,
    *,
    strength: float = 1.0,
    backend: str = "auto",
    tile: int | None = None,
    threads: int | None = None,
) -> Any:
    """Restore a PIL image or an array and return the same kind, size and type; transparency is kept.

    Arrays: (h, w), (h, w, 3) or (h, w, 4), uint8, uint16 or floats in [0, 1]. Options as in `restore_pixels`
    and `open_backend`, and so are the errors raised.
    """
    pixels, back = as_pixels(image)
    return back(restore_pixels(open_backend(ticket, backend, threads), pixels, strength, tile))
