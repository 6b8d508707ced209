"""Pages as they stand on screens: documents, interfaces, chats, program text, tables, charts; light and dark."""

import numpy as np
from PIL import Image

from mirl.degrade.graphics_pen import Colour, Pen, gradient, ink, paper, shifted, vivid


def document(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Paragraphs in one font, with headings, links, rules, a picture; the width of the text goes beyond the edge."""
    ground = paper(rng, dark=rng.random() < 0.3)
    pen = Pen(rng, side, scale, ground)
    name, size, colour = pen.font(), rng.uniform(9, 20), ink(rng, ground)
    link = vivid(rng)
    left = pen.between(-30, side // 5)
    columns = side if pen.chance(0.6) else side // 2
    for start in range(left, side, columns + 12):
        y = float(pen.between(-10, 14))
        while y < side:
            if pen.chance(0.12):
                heading = size * rng.uniform(1.2, 2.4)
                pen.text(start, y, pen.words(4), name, heading, colour)
                y += heading * 1.5
            elif pen.chance(0.06):
                pen.box(start, y + 4, start + columns - 12, y + 5, shifted(ground, -40 if sum(ground) > 384 else 40))
                y += 10
            elif pen.chance(0.05):
                height = rng.uniform(30, 90)
                pen.paste(_picture(rng, photo), start, y, start + columns * 0.8, y + height)
                y += height + 6
            words = pen.words(int(columns / size) // 2 + 2)
            limit = int(columns / size * 1.8)
            pen.text(start, y, words[:limit], name, size, link if pen.chance(0.06) else colour)
            y += size * rng.choice((1.25, 1.25, 1.4, 2.0))
    return pen.image


def interface(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """A bar, a column, and rows or cards with pictures, titles, small text, buttons, switches, fields."""
    dark = rng.random() < 0.5
    ground, accent = paper(rng, dark), vivid(rng)
    pen = Pen(rng, side, scale, ground)
    away = 1 if dark else -1
    raised, edge = shifted(ground, away * rng.uniform(4, 22)), shifted(ground, away * rng.uniform(14, 45))
    name, size = pen.font(), rng.uniform(9, 15)
    colour, faint = ink(rng, ground), ink(rng, ground, 40)
    top, left = 0, 0
    if pen.chance(0.7):
        top = pen.between(20, 46)
        bar = accent if pen.chance(0.35) else raised
        pen.box(0, 0, side, top, bar)
        pen.text(pen.between(4, 60), top / 2 - size * 0.6, pen.words(2), name, size * 1.15, ink(rng, bar))
        for x in range(side - 12, side - pen.between(20, 90), -22):
            pen.disc(x, top / 2, 5, 5, None if pen.chance(0.5) else accent, outline=ink(rng, bar), width=1)
    if pen.chance(0.45):
        left = pen.between(34, 90)
        pen.box(0, top, left, side, raised)
        for y in range(top + 8, side, pen.between(20, 30)):
            chosen = pen.chance(0.12)
            if chosen:
                pen.box(3, y - 3, left - 3, y + size * 1.4 + 2, accent, radius=4)
            pen.text(9, y, pen.words(1), name, size, ink(rng, accent) if chosen else colour)
        pen.box(left - 1, top, left, side, edge)
    step, radius, cards = pen.between(34, 88), rng.choice((0.0, 4.0, 10.0)), pen.chance(0.5)
    for y in range(top + pen.between(2, 10), side, step):
        if cards:
            pen.box(left + 6, y, side - 6, y + step - 7, raised, radius, outline=edge if pen.chance(0.6) else None)
        else:
            pen.box(left + 6, y + step - 4, side, y + step - 3, edge)
        at = left + 14.0
        if pen.chance(0.6):
            across = min(step - 18, 46)
            pen.paste(
                _picture(rng, photo), at, y + 5, at + across, y + 5 + across, across / 2 if pen.chance(0.5) else radius
            )
            at += across + 9
        pen.text(at, y + 5, pen.words(3), name, size, colour)
        for line in range(1, int((step - 12) / (size * 1.3))):
            pen.text(at, y + 5 + line * size * 1.3, pen.words(6), name, size * 0.85, faint)
        _control(pen, side - pen.between(38, 110), y + step / 2 - 12, accent, edge, name, size)
    return pen.image


def chat(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Speech bubbles of two people."""
    dark = rng.random() < 0.5
    ground = paper(rng, dark)
    pen = Pen(rng, side, scale, ground)
    mine, theirs = vivid(rng), shifted(ground, rng.uniform(12, 34) * (1 if dark else -1))
    name, size = pen.font(), rng.uniform(10, 16)
    y = float(pen.between(-30, 6))
    while y < side:
        lines, own = pen.between(1, 3), pen.chance(0.5)
        width = rng.uniform(0.35, 0.75) * side
        x = side - width - 8 if own else 34.0
        height = lines * size * 1.3 + 12
        if pen.chance(0.1):
            height = rng.uniform(60, 110)
            pen.paste(_picture(rng, photo), x, y, x + width, y + height, 10)
        else:
            fill = mine if own else theirs
            pen.box(x, y, x + width, y + height, fill, radius=rng.choice((4, 10, 14)))
            colour = ink(rng, fill)
            for line in range(lines):
                pen.text(x + 9, y + 5 + line * size * 1.3, pen.words(6)[: int(width / size * 1.7)], name, size, colour)
        if not own:
            pen.disc(17, y + height - 12, 11, 11, vivid(rng))
        y += height + pen.between(4, 14)
    return pen.image


def program(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Program text in colours, or a terminal."""
    ground = paper(rng, dark=rng.random() < 0.7)
    pen = Pen(rng, side, scale, ground)
    name, size = pen.font(monospaced=True), rng.uniform(8, 15)
    colours = [ink(rng, ground), ink(rng, ground, 50), *(vivid(rng) for _ in range(4))]
    numbers = pen.chance(0.6)
    indent, start = 0, pen.between(1, 900)
    for row, y in enumerate(np.arange(pen.between(-6, 8), side, size * 1.35)):
        if pen.chance(0.03):
            pen.box(0, y, side, y + size * 1.35, shifted(ground, 18 if sum(ground) < 384 else -18))
        x = 6.0
        if numbers:
            pen.text(x, y, str(start + row), name, size, colours[1])
            x += size * 3
        indent = max(0, min(5, indent + pen.between(-1, 1)))
        x += indent * size * 1.2
        if pen.chance(0.12):
            continue
        for token in pen.words(pen.between(1, 6)).split():
            token += ("(", ") {", " = ", ";", ":", "")[rng.integers(6)]
            pen.text(x, y, token, name, size, colours[rng.choice(6, p=(0.45, 0.1, 0.15, 0.1, 0.1, 0.1))])
            x += (len(token) + 1) * size * 0.6
    return pen.image


def table(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """A grid of cells with numbers and names, its head and every other row in another shade."""
    ground = paper(rng, dark=rng.random() < 0.3)
    pen = Pen(rng, side, scale, ground)
    away = -1 if sum(ground) > 384 else 1
    name, size, colour = pen.font(), rng.uniform(8, 14), ink(rng, ground)
    across, down = pen.between(40, 90), pen.between(size * 1.5, size * 2.4)
    edge, band = shifted(ground, away * rng.uniform(15, 70)), shifted(ground, away * rng.uniform(4, 14))
    head, grid, bands = vivid(rng), pen.chance(0.7), pen.chance(0.5)
    for row, y in enumerate(range(0, side, down)):
        fill = head if row == 0 else band if bands and row % 2 else ground
        pen.box(0, y, side, y + down, fill)
        for x in range(pen.between(-2, 2), side, across):
            if pen.chance(0.85):
                number = f"{rng.uniform(0, 5000):,.2f}" if row and pen.chance(0.6) else pen.words(1)
                number = number[: int((across - 4) / size * 1.6)]
                pen.text(x + 4, y + (down - size) / 2 - 1, number, name, size, ink(rng, head) if row == 0 else colour)
            if grid:
                pen.box(x, y, x + 1, y + down, edge)
        if grid:
            pen.box(0, y, side, y + 1, edge)
    return pen.image


def chart(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Bars, lines, points or a pie, with axes, a grid, labels and a legend."""
    ground = paper(rng, dark=rng.random() < 0.3)
    pen = Pen(rng, side, scale, ground)
    name, size, colour = pen.font(), rng.uniform(8, 13), ink(rng, ground)
    colours = [vivid(rng) for _ in range(5)]
    edge = shifted(ground, 40 if sum(ground) < 384 else -40)
    left, bottom, top = pen.between(24, 44), side - pen.between(18, 34), pen.between(10, 34)
    pen.text(left, top - 22, pen.words(4), name, size * 1.3, colour)
    kind = rng.integers(4)
    if kind == 3:
        bounds = np.cumsum(rng.dirichlet(np.full(5, 2.0))) * 360
        for start, end, fill in zip([0.0, *bounds[:-1]], bounds, colours, strict=True):
            pen.slice(side * 0.5, side * 0.54, side * 0.36, start, end, fill)
        if pen.chance(0.4):
            pen.disc(side * 0.5, side * 0.54, side * 0.18, side * 0.18, ground)
    else:
        for y in np.linspace(top, bottom, pen.between(4, 8)):
            pen.box(left, y, side - 8, y + 1, edge)
            pen.text(3, y - size / 2, f"{rng.uniform(0, 100):.0f}", name, size, colour)
        count = pen.between(4, 14)
        places = np.linspace(left + 8, side - 18, count)
        for fill in colours[: pen.between(1, 3)]:
            heights = np.clip(np.cumsum(rng.normal(0, 0.2, count)) + rng.uniform(0.2, 0.8), 0.02, 0.98)
            points = [(x, bottom - h * (bottom - top)) for x, h in zip(places, heights, strict=True)]
            if kind == 0:
                width = (places[1] - places[0]) * 0.7
                for x, y in points:
                    pen.box(x - width / 2, y, x + width / 2, bottom, fill)
            elif kind == 1:
                pen.line(points, fill, rng.choice((1, 2, 3)))
            for x, y in points if kind == 2 or (kind == 1 and pen.chance(0.5)) else ():
                pen.disc(x, y, 3, 3, fill)
        pen.box(left, top, left + 1, bottom, colour)
        pen.box(left, bottom, side - 8, bottom + 1, colour)
        for x in places[::2]:
            pen.text(x - 8, bottom + 4, pen.words(1)[:5], name, size, colour)
    for row, fill in enumerate(colours[: pen.between(0, 4)]):
        pen.box(side - 66, top + 4 + row * size * 1.6, side - 56, top + 14 + row * size * 1.6, fill)
        pen.text(side - 52, top + 2 + row * size * 1.6, pen.words(1), name, size, colour)
    return pen.image


def _control(pen: Pen, x: float, y: float, accent: Colour, edge: Colour, name: str, size: float) -> None:
    """A button, a switch, a tick box, a slider or nothing."""
    kind = pen.rng.integers(7)
    if kind == 0:
        pen.box(x, y, x + size * 5.5, y + size * 2, accent, radius=pen.rng.choice((0, 4, 12)))
        pen.text(x + size * 0.8, y + size * 0.4, pen.words(1)[:8], name, size, ink(pen.rng, accent))
    elif kind == 1:
        on = pen.chance(0.5)
        pen.box(x, y, x + 30, y + 16, accent if on else edge, radius=8)
        pen.disc(x + (22 if on else 8), y + 8, 6, 6, (255, 255, 255))
    elif kind == 2:
        pen.box(x, y, x + 14, y + 14, None, radius=2, outline=accent, width=2)
        if pen.chance(0.5):
            pen.line([(x + 3, y + 7), (x + 6, y + 11), (x + 12, y + 3)], accent, 2)
    elif kind == 3:
        place = pen.rng.uniform(0, 60)
        pen.box(x, y + 6, x + 60, y + 9, edge)
        pen.box(x, y + 6, x + place, y + 9, accent)
        pen.disc(x + place, y + 7.5, 6, 6, accent)


def _picture(rng: np.random.Generator, photo: Image.Image | None) -> Image.Image:
    """What stands where a page shows a picture: a part of the photograph, a gradient, or a plain colour."""
    if photo is not None and rng.random() < 0.7:
        return photo
    return gradient(rng, 64, vivid(rng), vivid(rng)) if rng.random() < 0.6 else Image.new("RGB", (2, 2), vivid(rng))
