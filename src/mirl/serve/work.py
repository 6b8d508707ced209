"""One photo from bytes to bytes, in memory: the steps of `mirl restore`, with what a request may choose."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mirl.engine.engine import Backend, restore_pixels
from mirl.image import CHOICES, check_format, chosen_format, encode_photo, read_photo
from mirl.serve.refusal import Refusal

MEDIA_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "BMP": "image/bmp",
}  # fmt: skip
PARAMETERS = ("ticket", "strength", "format", "quality")


@dataclass(frozen=True)
class Wish:
    """What a request asks for; `quality` concerns JPEG and WebP, None is what `mirl restore` does."""

    ticket: str | None = None
    strength: float = 1.0
    format: str | None = None
    quality: int | None = None


@dataclass(frozen=True)
class Answer:
    """The restored file, and what may be logged of it."""

    content: bytes
    format: str
    megapixels: float


def parse_wish(given: Mapping[str, str]) -> Wish:
    """Read the parameters of a request. Raises Refusal (422), naming the wrong one."""
    strength = _number("strength", given.get("strength", "1"), 0, 1)
    quality = _number("quality", given["quality"], 1, 100) if "quality" in given else None
    if quality is not None and quality != int(quality):
        raise _wrong("quality", "a whole number from 1 to 100")
    name = given.get("format", "keep")
    if name not in CHOICES:
        raise _wrong("format", f"one of {', '.join(CHOICES)}")
    return Wish(given.get("ticket"), strength, chosen_format(name), None if quality is None else int(quality))


def restore_bytes(
    content: bytes, backend: Callable[[], Backend], wish: Wish, max_megapixels: float, check: Callable[[], None]
) -> Answer:
    """Decode, restore and encode one photo; `check` is called between the steps and tiles and stops all by raising.

    Raises MirlError as `read_photo`, `restore_pixels` and `encode_photo` do.
    """
    check()
    photo = read_photo(content, max_megapixels)
    check()
    name = wish.format or photo.format
    check_format(photo, name)  # before the work
    pixels = restore_pixels(backend(), photo.pixels, wish.strength, on_tile=lambda done, count: check())
    check()
    restored = encode_photo(replace(photo, pixels=pixels), name, wish.quality)
    return Answer(restored, name, pixels.shape[0] * pixels.shape[1] / 1e6)


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan  # Python reads more than the web writes
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise _wrong(name, f"a number from {low:g} to {high:g}")
    return value


def _wrong(name: str, expected: str) -> Refusal:
    return Refusal(422, "parameter", f"{name} must be {expected}")
