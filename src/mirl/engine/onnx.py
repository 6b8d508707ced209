"""The dense ONNX Runtime backend: every weight is multiplied, zero or not. Needs onnx and onnxruntime, not torch."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from mirl.engine.onnx_graph import Statistics, onnx_model
from mirl.errors import MirlError
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket

SCALE = 8  # the encoder halves the resolution three times
FATAL_ONLY = 4  # errors are raised, need not be printed as well
Pixels = NDArray[np.float32]


class OnnxBackend:
    """Run a ticket's network in ONNX Runtime on the CPU in float32; `threads=None` leaves its own number."""

    name = "onnx"

    def __init__(self, ticket: Ticket, threads: int | None = None):
        self.threads = threads
        self.windows, self.haze_head = ticket.windows, ticket.haze_head
        self.bytes_per_pixel = activation_bytes(ticket.network)
        self._weights = Ticket(ticket.network, ticket.weights, ticket.masks)  # a backend must not keep its ticket alive
        self._sessions: dict[Statistics, Any] = {}
        self._lock = threading.Lock()
        self._local = threading.local()

    def forward(self, pixels: Pixels) -> Pixels:
        """Map degraded (h, w, 3), any h and w, to restored (h, w, 3), not clipped.

        Raises MirlError when memory runs out.
        """
        shared = getattr(self._local, "shared", None)
        if shared is None:
            return self._run("own", pixels, {})[0]
        return self._run("use", pixels, shared)[0]

    @contextmanager
    def shared_statistics(self, tiles: Sequence[Pixels], on_tile: Callable[[int], None]) -> Iterator[None]:
        """Make `forward` in this thread use attention and prompt shares of all `tiles`, summed in one pass over them.

        Tiles are of one size; means over them serve attention as well as sums, which depends on ratios.
        """
        totals: dict[str, NDArray[np.float32]] = {}
        names = [output.name for output in self._session("sum").get_outputs()][1:]
        for done, tile in enumerate(tiles):
            last = done + 1 == len(tiles)  # the memory of this pass must not lie beside that of the next
            for name, value in zip(names, self._run("sum", tile, {}, release=last)[1], strict=True):
                totals[name] = totals.get(name, np.float32(0)) + value / np.float32(len(tiles))
            on_tile(done + 1)
        self._local.shared = totals
        try:
            yield
        finally:
            self._local.shared = None

    def _run(
        self, kind: Statistics, pixels: Pixels, shared: dict[str, NDArray[np.float32]], release: bool = False
    ) -> tuple[Pixels, list[Any]]:
        height, width = pixels.shape[:2]
        image = np.ascontiguousarray(reflect_up(pixels).transpose(2, 0, 1)[None], np.float32)
        options = onnxruntime.RunOptions()
        if release:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        try:
            restored, *statistics = self._session(kind).run(None, {"image": image, **shared}, options)
        except Exception as error:  # onnxruntime has no class of its own for this
            if "alloc" not in str(error).lower() and "memory" not in str(error).lower():
                raise
            raise MirlError(f"not enough memory for {width}x{height} pixels at once; use a smaller --tile") from error
        return np.ascontiguousarray(restored[0].transpose(1, 2, 0)[:height, :width]), statistics

    def _session(self, kind: Statistics) -> Any:
        with self._lock:
            if kind not in self._sessions:
                options = onnxruntime.SessionOptions()
                options.log_severity_level = FATAL_ONLY
                options.enable_mem_pattern = False  # it takes the memory of a second forward anew: a third more, no faster
                if self.threads is not None:
                    options.intra_op_num_threads = self.threads
                model = onnx_model(self._weights, kind).SerializeToString()
                self._sessions[kind] = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            return self._sessions[kind]


def reflect_up(pixels: Pixels) -> Pixels:
    """Reflect the bottom and right edges of (h, w, 3) up to multiples of 8, repeatedly where the image is small."""
    return pixels[np.ix_(_reflected(pixels.shape[0]), _reflected(pixels.shape[1]))]


def _reflected(size: int) -> NDArray[np.int64]:
    period = max(2 * (size - 1), 1)
    place = np.arange(size + -size % SCALE) % period
    return np.minimum(place, period - place) if size > 1 else np.zeros(len(place), np.int64)


def activation_bytes(network: NetworkConfig) -> float:
    """Return the peak working memory of `forward` in bytes per pixel: most is alive in a full-resolution feed-forward.

    Three tensors of 2 x width x expansion channels, 4 x width of features around them, 60 % of unused gaps, and copies of
    the image. Measured at 512x512 on one thread, weights included: 1308 for one image and 1656 for tiles that share
    statistics (width 12, expansion 2), 1865 and 2425 (16, 2.66).
    """
    return 4 * (1.6 * network.width * (4 + 6 * network.expansion) + 40)
