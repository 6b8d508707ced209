"""One photo from bytes to bytes, in memory: the steps of `mirl restore`, with what a request may choose."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import cast

from mirl.engine.engine import Backend, restore_pixels
from mirl.engine.haze import amount_of_haze
from mirl.engine.options import TONES, Options, Tone
from mirl.errors import MirlError
from mirl.image import CHOICES, check_format, chosen_format, encode_photo, read_photo
from mirl.serve.refusal import Refusal
from mirl.windows import windows_of

MEDIA_TYPES = {
    "JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff", "BMP": "image/bmp",
}  # fmt: skip
PARAMETERS = ("ticket", "strength", "denoise", "dehaze", "tone", "window", "format", "quality")
HAZE_HEADER = "Mirl-Haze"  # how much haze was seen, where the ticket says so
LARGEST_WINDOW = 512  # pixels: a larger one takes the memory of many requests


@dataclass(frozen=True)
class Wish:
    """What a request asks for; `quality` concerns JPEG and WebP, None is what `mirl restore` does."""

    ticket: str | None = None
    options: Options = field(default_factory=Options)
    format: str | None = None
    quality: int | None = None


@dataclass(frozen=True)
class Answer:
    """The restored file, and what may be said of it; `haze` is how much of it was seen, None where nobody looked."""

    content: bytes
    format: str
    megapixels: float
    haze: float | None = None


def parse_wish(given: Mapping[str, str]) -> Wish:
    """Read the parameters of a request. Raises Refusal (422), naming the wrong one."""
    strength, denoise, dehaze = (_number(name, given.get(name, "1"), 0, 1) for name in ("strength", "denoise", "dehaze"))
    quality = _whole("quality", given["quality"], 1, 100) if "quality" in given else None
    window = _window(given["window"]) if "window" in given else None
    tone = given.get("tone", "auto")
    if tone not in TONES:
        raise _wrong("tone", f"one of {', '.join(TONES)}")
    name = given.get("format", "keep")
    if name not in CHOICES:
        raise _wrong("format", f"one of {', '.join(CHOICES)}")
    options = Options(strength, denoise, dehaze, cast(Tone, tone), window)
    return Wish(given.get("ticket"), options, chosen_format(name), quality)


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
    engine = backend()
    haze = None if engine.haze_head is None else amount_of_haze(photo.pixels, engine.haze_head)
    pixels = restore_pixels(engine, photo.pixels, wish.options, on_tile=lambda done, count: check())
    check()
    restored = encode_photo(replace(photo, pixels=pixels), name, wish.quality)
    return Answer(restored, name, pixels.shape[0] * pixels.shape[1] / 1e6, haze)


def _number(name: str, text: str, low: float, high: float) -> float:
    try:
        value = float(text) if text.isascii() and "_" not in text else math.nan  # Python reads more than the web writes
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise _wrong(name, f"a number from {low:g} to {high:g}")
    return value


def _whole(name: str, text: str, low: int, high: int) -> int:
    expected = f"a whole number from {low} to {high}"
    try:
        value = _number(name, text, low, high)
    except Refusal as refusal:
        raise _wrong(name, expected) from refusal
    if value != int(value):
        raise _wrong(name, expected)
    return int(value)


def _window(text: str) -> int:
    try:
        window = _whole("window", text, 0, LARGEST_WINDOW)
        windows_of(window)
    except (Refusal, MirlError) as error:
        raise _wrong("window", f"0 (the whole photo) or a multiple of 8 from 32 to {LARGEST_WINDOW}") from error
    return window


def _wrong(name: str, expected: str) -> Refusal:
    return Refusal(422, "parameter", f"{name} must be {expected}")
