"""The dense torch backend: every weight is multiplied, zero or not. The reference for faster engines."""

import ctypes
import sys

import numpy as np
import torch
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.network.promptir import network_of
from mirl.recipe import NetworkConfig
from mirl.ticket import Ticket


class TorchBackend:
    """Run a ticket's network on the CPU in float32; `threads=None` leaves torch's own number."""

    name = "torch"

    def __init__(self, ticket: Ticket, threads: int | None = None):
        self.network = network_of(ticket)
        self.threads = threads
        self.bytes_per_pixel = activation_bytes(ticket.network)

    def forward(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map degraded (h, w, 3), any h and w, to restored (h, w, 3), not clipped.

        Raises MirlError when memory runs out.
        """
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
            raise MirlError(
                f"not enough memory for {width}x{height} pixels at once; use a smaller --tile"
            ) from error
        finally:
            torch.set_num_threads(before)


def activation_bytes(network: NetworkConfig) -> float:
    """Return the peak working memory of `forward` in bytes per pixel.

    Most is alive in a full-resolution feed-forward: twice the width in channels, so 4 x width x expansion
    expanded, the same again after the depthwise convolution, half of it twice for the gate, and 8 x width of
    features around it. `keep_large_blocks` adds up to 40 % for unused gaps, counted here. Measured so at
    512x512 on one thread: 2144 (width 12, expansion 2) and 3608 (width 16, 2.66), within 2 % of this.
    """
    return 1.4 * 4 * network.width * (8 + 12 * network.expansion)


def keep_large_blocks() -> bool:
    """Let glibc reuse large freed blocks instead of returning them: no page faults on every activation.

    For commands, which own their process (mallopt M_MMAP_MAX = 0, M_TRIM_THRESHOLD = 2^31 - 1): restoring
    took 0.5 to 0.8 of the time where page faults are dear. Returns False, having done nothing, without glibc.
    """
    if sys.platform != "linux":
        return False
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018 - absent in other C libraries, whose mallopt differs
        return bool(libc.mallopt(-4, 0)) and bool(libc.mallopt(-1, 2**31 - 1))
    except (OSError, AttributeError):
        return False
