"""What rendered graphics are drawn with: a canvas in logical pixels, fonts, words, colours and gradients.

Fonts are Pillow's own and, where matplotlib is installed, the DejaVu family that comes with it: the same
generator draws the same picture on machines with the same fonts and the same Pillow. Nothing is read from the
system's fonts, so graphics for tests can be rendered with fonts that no training saw.
"""

from collections.abc import Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

Colour: TypeAlias = tuple[int, int, int]
Points: TypeAlias = Sequence[tuple[float, float]]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

_DEJAVU = (
    "DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSerif", "DejaVuSerif-Bold",
    "DejaVuSerif-Italic", "DejaVuSansMono", "DejaVuSansMono-Bold",
)  # fmt: skip
_LETTERS = "etaoinshrdlucmfwypvbgkjqxz"
_WEIGHTS = np.array([1.0 / (rank + 2.5) for rank in range(len(_LETTERS))])
_WEIGHTS /= _WEIGHTS.sum()
_WORDS = (
    "Home Search Settings File Edit View Help Save Cancel OK Share Reply Inbox Sent Today Yesterday Total Price Name "
    "Date Status Open Closed New Sign in Log out Profile Messages Photos Videos Music Download Upload Delete More Next "
    "Back Menu About Contact the of and to in for is on that with as you at this not are from it be was by or an have "
    "News Weather Sports Read more Subscribe 12:45 09:30 2024 2025 100% 3.14 $19.99 42 7 1,024 No. Q1 Q2 v2.1"
)
_COMMON = _WORDS.split()


class Pen:
    """A canvas of `side` logical pixels, each `scale` real ones a side; coordinates may lie outside."""

    def __init__(self, rng: np.random.Generator, side: int, scale: int, ground: Colour) -> None:
        self.rng, self.side, self.scale = rng, side, scale
        self.image = Image.new("RGB", (side * scale, side * scale), ground)
        self._draw = ImageDraw.Draw(self.image)

    def chance(self, share: float) -> bool:
        """Return True with probability `share`."""
        return bool(self.rng.random() < share)

    def between(self, low: float, high: float) -> int:
        """Return a whole number of [low, high]."""
        return int(self.rng.integers(int(low), max(int(low), int(high)) + 1))

    def _at(self, values: Sequence[float]) -> list[float]:
        return [value * self.scale for value in values]

    def box(
        self, left: float, top: float, right: float, bottom: float, fill: Colour | None,
        radius: float = 0.0, outline: Colour | None = None, width: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw a rectangle, its corners rounded by `radius`; an empty one is left out."""
        # Pillow's right and bottom edges belong to the rectangle.
        corners = [left * self.scale, top * self.scale, right * self.scale - 1, bottom * self.scale - 1]
        if corners[2] < corners[0] or corners[3] < corners[1]:
            return
        pixels = max(1, round(width * self.scale)) if outline else 1
        if radius:
            limit = min(radius * self.scale, (corners[2] - corners[0]) / 2, (corners[3] - corners[1]) / 2)
            self._draw.rounded_rectangle(corners, limit, fill, outline, pixels)
        else:
            self._draw.rectangle(corners, fill, outline, pixels)

    def disc(
        self, x: float, y: float, radius_x: float, radius_y: float, fill: Colour | None,
        outline: Colour | None = None, width: float = 1.0,
    ) -> None:  # fmt: skip
        """Draw an ellipse around (x, y)."""
        corners = self._at((x - radius_x, y - radius_y, x + radius_x, y + radius_y))
        self._draw.ellipse(corners, fill, outline, max(1, round(width * self.scale)))

    def slice(self, x: float, y: float, radius: float, start: float, end: float, fill: Colour) -> None:
        """Draw a slice of a pie, from `start` to `end` degrees."""
        self._draw.pieslice(self._at((x - radius, y - radius, x + radius, y + radius)), start, end, fill)

    def polygon(self, points: Points, fill: Colour) -> None:
        """Fill a polygon."""
        self._draw.polygon([(x * self.scale, y * self.scale) for x, y in points], fill)

    def line(self, points: Points, fill: Colour, width: float = 1.0) -> None:
        """Draw a line through points."""
        pixels = max(1, round(width * self.scale))
        self._draw.line([(x * self.scale, y * self.scale) for x, y in points], fill, pixels, joint="curve")

    def text(
        self, x: float, y: float, words: str, name: str, size: float, fill: Colour, border: Colour | None = None
    ) -> None:
        """Write `words` with their top left at (x, y), in the font `name` of `fonts()`, outlined with `border`."""
        font = _font(name, max(5, round(size * self.scale)))
        stroke = 0 if border is None else max(1, round(size * self.scale / 14))
        place = (round(x * self.scale), round(y * self.scale))
        self._draw.text(place, words, fill, font, stroke_width=stroke, stroke_fill=border)

    def paste(self, picture: Image.Image, left: float, top: float, right: float, bottom: float, radius: float = 0.0) -> None:
        """Put a picture into a box, scaled and cut to fill it, its corners rounded by `radius`."""
        width, height = max(1, round((right - left) * self.scale)), max(1, round((bottom - top) * self.scale))
        place = (round(left * self.scale), round(top * self.scale))
        mask = None
        if radius:
            mask = Image.new("L", (width, height))
            limit = min(radius * self.scale, (width - 1) / 2, (height - 1) / 2)
            ImageDraw.Draw(mask).rounded_rectangle((0, 0, width - 1, height - 1), limit, 255)
        self.image.paste(ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC), place, mask)

    def font(self, monospaced: bool = False) -> str:
        """Return the name of a font for `text`."""
        names = fonts()
        if monospaced:
            names = tuple(name for name in names if "Mono" in name) or names
        return names[self.rng.integers(len(names))]

    def words(self, count: int) -> str:
        """Return words and numbers, some of them made up."""
        return " ".join(self._word() for _ in range(count))

    def _word(self) -> str:
        if self.chance(0.4):
            return _COMMON[self.rng.integers(len(_COMMON))]
        letters = self.rng.choice(len(_LETTERS), self.between(1, 10), p=_WEIGHTS)
        word = "".join(_LETTERS[letter] for letter in letters)
        return (
            word.capitalize()
            if self.chance(0.15)
            else word + ("," if self.chance(0.06) else "." if self.chance(0.06) else "")
        )


def fonts() -> tuple[str, ...]:
    """Return the names of the fonts: "" is Pillow's own, the others are matplotlib's DejaVu, where it is installed."""
    return ("", *(name for name in _DEJAVU if (_dejavu_folder() / f"{name}.ttf").is_file()))


def paper(rng: np.random.Generator, dark: bool) -> Colour:
    """Return the ground of a page: white, black or near them, sometimes tinted."""
    if rng.random() < 0.3:
        return (0, 0, 0) if dark else (255, 255, 255)
    grey = rng.uniform(8, 62) if dark else rng.uniform(222, 255)
    return _rounded(grey + rng.normal(0, 2.5 if rng.random() < 0.5 else 7, 3))


def ink(rng: np.random.Generator, ground: Colour, least: float = 70.0) -> Colour:
    """Return a grey for text on `ground`, at least `least` levels from it, mostly near black or white."""
    level = float(np.mean(ground))
    away = 1 if level < 128 else -1
    room = (255 - level) if away > 0 else level
    share = rng.uniform(0.8, 1) if rng.random() < 0.6 else rng.uniform(min(1.0, least / room), 1)
    return _rounded(level + away * room * share + rng.normal(0, 3, 3))


def vivid(rng: np.random.Generator) -> Colour:
    """Return any colour, saturated or pastel, light or dark."""
    hue = rng.uniform(0, 6)
    pure = np.clip(np.abs((hue + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    saturation = rng.uniform(0.5, 1) if rng.random() < 0.7 else rng.uniform(0, 0.5)
    return _rounded(255 * rng.uniform(0.35, 1) * (1 - saturation * (1 - pure)))


def shifted(colour: Colour, by: float) -> Colour:
    """Return a colour lighter or darker by `by` levels."""
    return _rounded(np.add(colour, by))


def gradient(rng: np.random.Generator, side: int, start: Colour, end: Colour) -> Image.Image:
    """Return a square picture that goes from one colour to the other, straight or around a centre."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    if rng.random() < 0.3:
        share = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8))
    else:
        angle = rng.uniform(0, 2 * np.pi)
        share = x * np.cos(angle) + y * np.sin(angle)
    share = (share - share.min()) / (np.ptp(share) + 1e-6)
    first, last = np.array(start, np.float32), np.array(end, np.float32)
    return Image.fromarray(np.rint(first + (last - first) * share[..., None]).astype(np.uint8))


def curve(rng: np.random.Generator, side: int, bends: int, closed: bool = False) -> list[tuple[float, float]]:
    """Return points along a smooth random line through `bends` places in and around a square."""
    anchors = rng.uniform(-0.1 * side, 1.1 * side, (bends, 2))
    if closed:
        anchors = np.concatenate([anchors, anchors[:3]])
    else:
        anchors = np.concatenate([anchors[:1], anchors, anchors[-1:]])
    share = np.linspace(0, 1, 12, endpoint=False)[:, None]
    points = []
    for before, start, end, after in zip(anchors, anchors[1:], anchors[2:], anchors[3:], strict=False):
        # Catmull and Rom's spline.
        bent = 2 * start + (end - before) * share + (2 * before - 5 * start + 4 * end - after) * share**2
        points.append(0.5 * (bent + (3 * start - before - 3 * end + after) * share**3))
    return [(float(x), float(y)) for x, y in np.concatenate(points)]


def _rounded(colour: np.ndarray) -> Colour:
    red, green, blue = (int(value) for value in np.rint(np.clip(colour, 0, 255)))
    return red, green, blue


@lru_cache(maxsize=256)
def _font(name: str, size: int) -> Font:
    return ImageFont.truetype(str(_dejavu_folder() / f"{name}.ttf"), size) if name else ImageFont.load_default(size)


@lru_cache(maxsize=1)
def _dejavu_folder() -> Path:
    found = find_spec("matplotlib")
    return Path(found.origin).parent / "mpl-data/fonts/ttf" if found and found.origin else Path("no-fonts")
