"""The dense torch backend: every weight is multiplied, zero or not. The reference for faster engines."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.network.promptir import Affinity, Prompt, PromptIR, network_of
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket


class TorchBackend:
    """Run a ticket's network on the CPU in float32; `threads=None` leaves torch's own number."""

    name = "torch"

    def __init__(self, ticket: Ticket, threads: int | None = None):
        self.network = network_of(ticket)
        self.threads = threads
        self.windows, self.haze_head = ticket.windows, ticket.haze_head
        self._lock = threading.RLock()
        self.bytes_per_pixel = activation_bytes(ticket.network)

    def forward(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map degraded (h, w, 3), any h and w, to restored (h, w, 3), not clipped.

        Raises MirlError when memory runs out.
        """
        with self._lock:
            before = torch.get_num_threads()
            if self.threads is not None:
                torch.set_num_threads(self.threads)
            try:
                with torch.inference_mode():
                    image = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0)
                    return self.network(image)[0].permute(1, 2, 0).contiguous().numpy()
            except RuntimeError as error:
                if "memory" not in str(error):
                    raise
                height, width = pixels.shape[:2]
                raise MirlError(f"not enough memory for {width}x{height} pixels at once; use a smaller --tile") from error
            finally:
                torch.set_num_threads(before)

    @contextmanager
    def shared_statistics(self, tiles: Sequence[NDArray[np.float32]], on_tile: Callable[[int], None]) -> Iterator[None]:
        """Make `forward` use attention and prompt shares of all `tiles`, summed in one pass over them.

        q kT, the lengths of q and k and the mean features are sums over pixels, so the tiles' add up; every tile then
        mixes channels and prompts alike, and no seam shows between them.
        """
        with self._lock:
            sums = _Sums(self.network)
            try:
                for done, tile in enumerate(tiles):
                    self.forward(np.ascontiguousarray(tile))
                    on_tile(done + 1)
                sums.summing = False
                yield
            finally:
                sums.remove()


class _Sums:
    """Hooks on what the network computes from a whole image: sum its inputs over tiles, then give each the mean.

    Tiles of one photo are of one size, so means of tiles are means of the photo; the attention matrix depends on ratios of
    sums, so means serve it as well.
    """

    def __init__(self, network: PromptIR):
        self.summing = True
        self.sums: dict[torch.nn.Module, list[torch.Tensor]] = {}
        self.count: dict[torch.nn.Module, int] = {}
        watched = [module for module in network.modules() if isinstance(module, Affinity)]
        selects = [module.select for module in network.modules() if isinstance(module, Prompt)]
        self.hooks = [module.register_forward_pre_hook(self._hook) for module in (*watched, *selects)]

    def _hook(self, module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        if not self.summing:
            return tuple(total / self.count[module] for total in self.sums[module])
        before = self.sums.get(module, [torch.zeros_like(value) for value in inputs])
        self.sums[module] = [total + value for total, value in zip(before, inputs, strict=True)]
        self.count[module] = self.count.get(module, 0) + 1
        return inputs

    def remove(self) -> None:
        """Take the hooks off."""
        for hook in self.hooks:
            hook.remove()


def activation_bytes(network: NetworkConfig) -> float:
    """Return the peak working memory of `forward` in bytes per pixel.

    Most is alive in a full-resolution feed-forward: twice the width in channels, so 4 x width x expansion
    expanded, the same again after the depthwise convolution, half of it twice for the gate, and 8 x width of
    features around it. `keep_large_blocks` adds up to 40 % for unused gaps, counted here. Measured so at
    512x512 on one thread: 2144 (width 12, expansion 2) and 3608 (width 16, 2.66), within 2 % of this.
    """
    return 1.4 * 4 * network.width * (8 + 12 * network.expansion)
