"""How a ticket wants large photographs cut: overlapping square windows, each restored alone, or none at all."""

from dataclasses import dataclass

from mirl.errors import MirlError

_SMALLEST, _LARGEST, _STEP = 32, 1 << 16, 8


@dataclass(frozen=True)
class Windows:
    """Square windows of `size` pixels that share at least `overlap`; a size of 0 is the whole image at once.

    In a window attention and prompts see what training on patches saw, and the result depends on no memory and no tile
    (Chu et al. 2022, arXiv 2112.04491). Raises MirlError for a size that is neither 0 nor a multiple of 8 from 32 to 65536,
    or more than half a window of overlap.
    """

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size != 0 and (not _SMALLEST <= self.size <= _LARGEST or self.size % _STEP):
            raise MirlError(
                f"the window must be 0 (the whole image) or a multiple of {_STEP} from {_SMALLEST} to {_LARGEST} pixels, "
                f"found {self.size!r:.30}"
            )
        if not 0 <= self.overlap <= self.size // 2:
            raise MirlError(f"the overlap must lie between 0 and half the window, found {self.overlap} of {self.size}")


WHOLE = Windows(0, 0)
TRAINED = Windows(128, 16)  # of the tickets that a search makes: measured best for patches of 64 (results/windows.json)


def windows_of(size: int) -> Windows:
    """Return windows of `size` with the usual overlap, an eighth; 0 is the whole image. Raises MirlError as `Windows`."""
    return Windows(size, max(size, 0) // 8)
