"""Simple pages and interfaces, drawn: pale, flat or dark pictures without any haze, for the haze head's training."""

import numpy as np
from PIL import Image, ImageDraw

_DRAWN = 192
"""Long side at which pages are drawn: the thumbnail is half of it, so that text becomes grey lines as it does in one."""


def draw_graphic(height: int, width: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a page of text, a light or a dark interface or a diagram: float32 (height, width, 3) in [0, 1]."""
    scale = _DRAWN / max(height, width)
    size = max(8, round(width * scale)), max(8, round(height * scale))
    dark = rng.random() < 0.4
    ground = _colour(rng, *((0.02, 0.25) if dark else (0.8, 1.0)), 0.12)
    picture = Image.new("RGB", size, ground)
    draw = ImageDraw.Draw(picture)
    (_page, _interface, _diagram)[rng.integers(3)](draw, size, dark, rng)
    return np.asarray(picture.resize((width, height), Image.Resampling.BOX), np.float32) / 255


def _page(draw: ImageDraw.ImageDraw, size: tuple[int, int], dark: bool, rng: np.random.Generator) -> None:
    """Lines of words, a heading, gaps between paragraphs."""
    ink = _ink(dark, rng)
    margin = size[0] * rng.uniform(0.03, 0.15)
    _text(draw, (margin, size[1] * rng.uniform(0.02, 0.1), size[0] - margin, size[1]), ink, rng)


def _interface(draw: ImageDraw.ImageDraw, size: tuple[int, int], dark: bool, rng: np.random.Generator) -> None:
    """A bar, perhaps a side list, panels with text, buttons in colours."""
    width, height = size
    bar, side = height * rng.uniform(0.03, 0.12), width * rng.uniform(0.0, 0.3)
    panel = (0.05, 0.35) if dark else (0.7, 1.0)
    draw.rectangle((0, 0, width, bar), _colour(rng, *panel, 0.5))
    draw.rectangle((0, bar, side, height), _colour(rng, *panel, 0.15))
    ink = _ink(dark, rng)
    _text(draw, (side * 0.1, bar * 1.3, side * 0.9, height), ink, rng)
    for _ in range(rng.integers(1, 6)):
        left, top = rng.uniform(side, width), rng.uniform(bar, height)
        right, bottom = left + width * rng.uniform(0.1, 0.6), top + height * rng.uniform(0.1, 0.6)
        draw.rectangle((left, top, right, bottom), _colour(rng, *panel, 0.1), _colour(rng, *panel, 0.1))
        _text(draw, (left + 3, top + 3, right - 3, min(bottom, height)), ink, rng)
    for _ in range(rng.integers(0, 12)):
        left, top = rng.uniform(0, width), rng.uniform(0, height)
        right, bottom = left + width * rng.uniform(0.01, 0.15), top + height * rng.uniform(0.01, 0.06)
        draw.rectangle((left, top, right, bottom), _colour(rng, 0.2, 1.0, 1.0))


def _diagram(draw: ImageDraw.ImageDraw, size: tuple[int, int], dark: bool, rng: np.random.Generator) -> None:
    """Shapes and lines: a drawing, a chart, a logo."""
    width, height = size
    for _ in range(rng.integers(1, 15)):
        x, y = np.sort(rng.uniform(0, width, 2)), np.sort(rng.uniform(0, height, 2))
        fill = _colour(rng, 0.0, 1.0, rng.uniform(0, 1)) if rng.random() < 0.6 else None
        shape = draw.ellipse if rng.random() < 0.4 else draw.rectangle
        shape((x[0], y[0], x[1], y[1]), fill, _ink(dark, rng), int(rng.integers(1, 4)))
    for _ in range(rng.integers(0, 15)):
        ends = rng.uniform(0, 1, 4) * (width, height, width, height)
        draw.line(tuple(ends), _ink(dark, rng), int(rng.integers(1, 4)))


def _text(
    draw: ImageDraw.ImageDraw,
    box: tuple[float, float, float, float],
    ink: tuple[int, int, int],
    rng: np.random.Generator,
) -> None:
    """Fill `box` (left, top, right, bottom) with lines of words, each word a bar: what a thumbnail shows of text."""
    left, top, right, bottom = box
    tall = rng.uniform(1.5, 5)
    lead, share = tall * rng.uniform(1.3, 2.5), rng.uniform(0.4, 1.0)
    while top + tall < bottom:
        if rng.random() < 0.85:
            x, end = left, left + (right - left) * share * rng.uniform(0.5, 1.0)
            while x < end:
                long = tall * rng.uniform(1, 5)
                draw.rectangle((x, top, min(x + long, end), top + tall * 0.6), ink)
                x += long + tall * 0.6
        top += lead


def _ink(dark: bool, rng: np.random.Generator) -> tuple[int, int, int]:
    return _colour(rng, *((0.5, 1.0) if dark else (0.0, 0.55)), 0.3)


def _colour(rng: np.random.Generator, low: float, high: float, saturation: float) -> tuple[int, int, int]:
    """Draw a colour whose largest channel is in [low, high] and whose saturation is up to `saturation`."""
    value = rng.uniform(low, high)
    channels = value * (1 - rng.uniform(0, saturation) * rng.permutation([0.0, rng.random(), 1.0]))
    red, green, blue = (round(float(c) * 255) for c in channels)
    return red, green, blue
