"""Restore an image of any size with a ticket: backends behind one Protocol, in windows or tiles."""

import importlib
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from mirl.engine.haze import amount_of_haze
from mirl.engine.options import Options, Tone
from mirl.engine.tiles import OVERLAP, choose_tile, cut_tiles, map_tiles, map_windows
from mirl.engine.tone import apply_change
from mirl.errors import MirlError
from mirl.haze_head import HazeHead
from mirl.image import as_pixels
from mirl.ticket import Ticket
from mirl.windows import Windows

Pixels = NDArray[np.float32]
_PLAIN = Options()


class Backend(Protocol):
    """What runs a ticket's network. `bytes_per_pixel` is the working memory of `forward`; windows and head the ticket's."""

    name: str
    bytes_per_pixel: float
    windows: Windows
    haze_head: HazeHead | None

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
    options: Options = _PLAIN,
    *,
    overlap: int = OVERLAP,
    on_tile: Callable[[int, int], None] | None = None,
) -> Pixels:
    """Restore float32 (h, w, 3) pixels in [0, 1] to the same shape and range; the input stays as it is.

    `overlap` is that of tiles. `on_tile(done, all)` reports windows or tiles. Raises MirlError for an overlap below 0 or a
    network whose output is no number.
    """
    if overlap < 0:
        raise MirlError(f"overlap must be at least 0 pixels, found {overlap}")
    if options.strength == 0:
        return pixels.copy()
    haze = haze_share(backend, pixels, options)
    windows = options.windows(backend.windows)
    if windows.size:  # each alone, whatever the memory
        restored = map_windows(backend.forward, pixels, windows.size, windows.overlap, on_tile)
    else:
        restored = _restore_whole(backend, pixels, options.tile, overlap, on_tile)
    several = windows.size if max(pixels.shape[:2]) > windows.size else 0
    return apply_change(pixels, restored, options.strength, options.denoise, haze, several, backend.name)


def haze_share(backend: Backend, pixels: Pixels, options: Options) -> float:
    """Return how much of the dehazing is wanted: `dehaze` times what the ticket's haze head sees, 1 without a head."""
    if options.tone == "keep" or options.dehaze == 0:
        return 0.0
    return options.dehaze * (1.0 if backend.haze_head is None else amount_of_haze(pixels, backend.haze_head))


def _restore_whole(
    backend: Backend, pixels: Pixels, tile: int | None, overlap: int, on_tile: Callable[[int, int], None] | None
) -> Pixels:
    """Run the network with the statistics of the whole image: at once, or in tiles that share them; not clipped."""
    height, width = pixels.shape[:2]
    if tile is None:
        size = choose_tile(height, width, backend.bytes_per_pixel, overlap)
    else:
        size = (tile or height, tile or width)
    tiles = cut_tiles(pixels, size, overlap)
    if len(tiles) == 1:
        return map_tiles(backend.forward, pixels, size, overlap, on_tile)
    # two passes: what the network sums over the image, then the image
    told = on_tile or (lambda done, count: None)
    every = 2 * len(tiles)
    with backend.shared_statistics(tiles, lambda done: told(done, every)):
        return map_tiles(backend.forward, pixels, size, overlap, lambda done, count: told(done + count, every))


def restore(
    image: Any,
    ticket: Ticket,
    *,
    strength: float = 1.0,
    denoise: float = 1.0,
    dehaze: float = 1.0,
    tone: Tone = "auto",
    window: int | None = None,
    tile: int | None = None,
    backend: str = "auto",
    threads: int | None = None,
) -> Any:
    """Restore a PIL image or an array and return the same kind, size and type; transparency is kept.

    Arrays: (h, w), (h, w, 3) or (h, w, 4), uint8, uint16 or floats in [0, 1]. The first six options as in
    `mirl.engine.options.Options`, the others as in `open_backend`, and so are the errors raised.
    """
    options = Options(strength, denoise, dehaze, tone, window, tile)
    pixels, back = as_pixels(image)
    return back(restore_pixels(open_backend(ticket, backend, threads), pixels, options))
