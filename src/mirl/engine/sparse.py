"""The sparse backend: a ticket's network in our C library (`native/`), where zeros cost nothing. Needs no torch.

The ticket's tensors are packed once, channels that cannot reach the output dropped exactly; a forward then runs outside of
Python's lock, in memory planned beforehand and kept for the next photo.
"""

import importlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mirl.engine.memory import available_threads
from mirl.errors import MirlError, OutOfMemory
from mirl.layers import parameters
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

_native = importlib.import_module("mirl.engine._native")  # compiled; raises ImportError where there was no compiler
_ffi, _lib = _native.ffi, _native.lib
_ALIGNMENT = 64
_USUAL_SIDE = 1024  # pixels; where working memory per pixel is read off
_MOST_THREADS = 64  # MIRL_THREADS of native/mirl.h: cffi sees none of its #define


@dataclass(frozen=True)
class Facts:
    """What a packed ticket holds and costs.

    `nonzero` counts weights of convolutions that are not zero, `removed` those of them that compaction drops.
    Multiply-accumulates are for each pixel of a large image: all that are done, those of attention among them, and what a
    dense runtime does.
    """

    nonzero: int
    removed: int
    plan_bytes: int
    macs_per_pixel: float
    attention_macs_per_pixel: float
    dense_macs_per_pixel: float


class NativeBackend:
    """Run a ticket with the sparse engine in float32; `threads=None` uses every processor this process may run on."""

    name = "native"

    def __init__(self, ticket: Ticket, threads: int | None = None):
        self.threads = min(threads or available_threads(), _MOST_THREADS)
        self.windows, self.haze_head = ticket.windows, ticket.haze_head
        self._plan = _pack(ticket)
        self._pointer = _ffi.from_buffer("char[]", self._plan)
        self._idle: list[NDArray[np.uint8]] = []  # scratch memory that no forward is using
        self._local = threading.local()
        size = _lib.mirl_scratch_bytes(self._pointer, _USUAL_SIDE, _USUAL_SIDE, self.threads)
        self.bytes_per_pixel = size / _USUAL_SIDE**2

    @property
    def facts(self) -> Facts:
        """Figures of the packed ticket."""
        facts = _ffi.new("mirl_facts *")
        _lib.mirl_describe(self._pointer, facts)
        return Facts(**{name: getattr(facts, name) for name in Facts.__dataclass_fields__})

    def forward(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map degraded (h, w, 3), any h and w, to restored (h, w, 3), not clipped.

        Raises MirlError when memory runs out.
        """
        statistics, mode, images = getattr(self._local, "sharing", (None, _lib.MIRL_OWN, 1))
        height, width = pixels.shape[:2]
        image, restored = np.ascontiguousarray(pixels, np.float32), np.empty((height, width, 3), np.float32)
        scratch = self._take_scratch(height, width)
        code = _lib.mirl_forward(
            self._pointer,
            _ffi.from_buffer("float[]", image),
            _ffi.from_buffer("float[]", restored, require_writable=True),
            height,
            width,
            self.threads,
            _ffi.from_buffer("char[]", scratch, require_writable=True),
            scratch.size,
            _ffi.NULL if statistics is None else _ffi.from_buffer("float[]", statistics, require_writable=True),
            mode,
            images,
        )
        self._idle.append(scratch)
        if code:
            raise MirlError(f"the native engine refused {width}x{height} pixels (code {code}); use a smaller --tile")
        return restored

    @contextmanager
    def shared_statistics(self, tiles: Sequence[NDArray[np.float32]], on_tile: Callable[[int], None]) -> Iterator[None]:
        """Make `forward` in this thread use attention and prompt shares of all `tiles`, summed in one pass over them.

        Tiles are of one size. q kT, the lengths of q and k and the mean features are sums over pixels, so the tiles' add up.
        """
        statistics = np.zeros(_lib.mirl_statistics_size(self._pointer), np.float32)
        try:
            self._local.sharing = (statistics, _lib.MIRL_SUM, 1)
            for done, tile in enumerate(tiles):
                self.forward(tile)
                on_tile(done + 1)
            self._local.sharing = (statistics, _lib.MIRL_USE, len(tiles))
            yield
        finally:
            del self._local.sharing

    def _take_scratch(self, height: int, width: int) -> NDArray[np.uint8]:
        size = _lib.mirl_scratch_bytes(self._pointer, height, width, self.threads)
        if not size:
            raise MirlError(f"cannot restore {width}x{height} pixels at once; expected sides of 1 to 2^20, use a --tile")
        try:
            kept = self._idle.pop()
            if size <= kept.size <= 4 * size:
                return kept
        except IndexError:
            pass
        try:
            return _aligned(size)
        except MemoryError as error:
            raise OutOfMemory(f"not enough memory for {width}x{height} pixels at once; use a smaller --tile") from error


def variants() -> tuple[str, ...]:
    """Return the instruction sets this processor runs, the fastest (which is used) first."""
    return tuple(_ffi.string(_lib.mirl_variants()).decode().split(","))


def choose_variant(name: str) -> None:
    """Use the instruction set `name` for tickets opened from now on, for comparison. Raises MirlError for an unknown one."""
    if _lib.mirl_choose(name.encode()):
        raise MirlError(f"unknown instruction set {name!r}; expected one of {', '.join(variants())}")


def _network(config: NetworkConfig) -> Any:
    return _ffi.new(
        "mirl_network *",
        {
            "expansion": config.expansion,
            "width": config.width,
            "blocks": config.blocks,
            "refinement_blocks": config.refinement_blocks,
            "heads": config.heads,
            "prompts": config.prompts,
            "prompt_widths": config.prompt_widths,
            "prompt_sizes": config.prompt_sizes,
        },
    )


def _pack(ticket: Ticket) -> NDArray[np.uint8]:
    network = _network(ticket.network)
    tensors = [np.ascontiguousarray(ticket.weights[p.name]) for p in parameters(ticket.network)]
    pointers = [_ffi.from_buffer("float[]", tensor) for tensor in tensors]
    weights = _ffi.new("float *[]", pointers)
    try:
        plan = _aligned(_lib.mirl_plan_bytes(network, weights))
    except MemoryError as error:
        raise MirlError("not enough memory to open this ticket") from error
    if code := _lib.mirl_pack(network, weights, _ffi.from_buffer("char[]", plan, require_writable=True), plan.size):
        raise MirlError(f"the native engine refused this ticket's network (code {code}); use --backend torch")
    return plan


def _aligned(size: int) -> NDArray[np.uint8]:
    """Return `size` untouched bytes that begin at a cache line."""
    room = np.empty(size + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    return room[start : start + size]
