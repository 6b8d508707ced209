"""What may be chosen for restoring a photograph's pixels: how much of which change, and in what pieces."""

from dataclasses import dataclass
from typing import Literal, get_args

from mirl.errors import MirlError
from mirl.windows import Windows, windows_of

Tone = Literal["auto", "keep"]
TONES: tuple[str, ...] = get_args(Tone)
_SMALLEST_TILE = 32


@dataclass(frozen=True)
class Options:
    """How `restore_pixels` restores. Raises MirlError for a value that is none of the possible ones.

    `strength` blends everything: 0 gives the input exactly, 1 the restored photograph. `denoise` is the share of the fine
    change (noise, rain, coding), `dehaze` that of the change of tone and contrast; both 0 to 1. `tone` "auto" dehazes as far
    as the ticket's haze head sees haze, fully without a head; "keep" never. `window` is the side of the windows in pixels, 0
    for statistics of the whole image, None for what the ticket says. `tile`, for the whole image alone, is the side of the
    tiles, 0 none, None what memory allows.
    """

    strength: float = 1.0
    denoise: float = 1.0
    dehaze: float = 1.0
    tone: Tone = "auto"
    window: int | None = None
    tile: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= 1:
            raise MirlError(f"strength must lie between 0 (the input) and 1 (fully restored), found {self.strength}")
        for name in ("denoise", "dehaze"):
            if not 0 <= getattr(self, name) <= 1:
                raise MirlError(f"{name} must lie between 0 (not at all) and 1 (fully), found {getattr(self, name)}")
        if self.tone not in TONES:
            raise MirlError(f"tone must be one of {', '.join(TONES)}, found {self.tone!r:.30}")
        if self.window is not None:
            windows_of(self.window)
        if self.tile is not None and self.tile != 0 and self.tile < _SMALLEST_TILE:
            raise MirlError(f"tile must be 0 (the whole image) or at least {_SMALLEST_TILE} pixels, found {self.tile}")

    def windows(self, own: Windows) -> Windows:
        """Return the windows to use with a ticket whose `own` these are."""
        return own if self.window in (None, own.size) else windows_of(self.window or 0)
