"""Drawings as people post them: flat shapes, scenes, logos, line art, hatching, pixel art, maps, posters."""

import numpy as np
from PIL import Image

from mirl.degrade.graphics_pen import Colour, Pen, curve, gradient, ink, paper, shifted, vivid


def drawing(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Flat or shaded shapes over each other, with or without outlines."""
    pen = Pen(rng, side, scale, vivid(rng))
    if pen.chance(0.5):
        pen.paste(gradient(rng, side, vivid(rng), vivid(rng)), 0, 0, side, side)
    outline = (15, 15, 15) if pen.chance(0.5) else None
    width = rng.uniform(1, 4)
    for _ in range(pen.between(6, 26)):
        fill = vivid(rng)
        x, y = rng.uniform(0, side, 2)
        across, down = np.exp(rng.uniform(np.log(5), np.log(side / 3), 2))
        kind = rng.integers(5)
        if kind == 0:
            pen.disc(x, y, across, down, fill, outline, width)
        elif kind == 1:
            pen.box(x - across, y - down, x + across, y + down, fill, rng.choice((0, 8)), outline, width)
        elif kind == 2:
            shape = [(x + (px - side / 2) * across / side * 2, y + (py - side / 2) * down / side * 2)
                     for px, py in curve(rng, side, pen.between(3, 6), closed=True)]  # fmt: skip
            pen.polygon(shape, fill)
            if outline:
                pen.line([*shape, shape[0]], outline, width)
        elif kind == 3:
            shape = [tuple(point) for point in rng.normal((x, y), (across, down), (3, 2)).tolist()]
            pen.polygon(shape, fill)
        else:
            pen.paste(gradient(rng, 64, fill, vivid(rng)), x - across, y - down, x + across, y + down, radius=across)
    return pen.image


def landscape(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """A flat scene: a sky, a sun, ranges of hills one before the other, trees or houses."""
    pen = Pen(rng, side, scale, (0, 0, 0))
    sky, far = vivid(rng), vivid(rng)
    pen.paste(gradient(rng, side, sky, vivid(rng)), 0, 0, side, side)
    if pen.chance(0.7):
        radius = rng.uniform(10, 40)
        pen.disc(rng.uniform(0, side), rng.uniform(0, side / 2), radius, radius, vivid(rng))
    for layer in range(pen.between(2, 5)):
        base = side * (0.4 + 0.14 * layer)
        x = np.linspace(0, side, 24)
        y = base + np.sum(
            [rng.normal(0, side / 14 / n) * np.sin(x / side * n * 5 + rng.uniform(0, 6)) for n in (1, 2, 4)], axis=0
        )
        colour = shifted(far, -28 * layer)
        pen.polygon([(0, side), *zip(x.tolist(), y.tolist(), strict=True), (side, side)], colour)
        for _ in range(pen.between(0, 6)):
            at = int(rng.integers(24))
            size, fill = rng.uniform(6, 24), shifted(colour, rng.uniform(-40, 40))
            if pen.chance(0.5):
                pen.polygon([(x[at] - size / 2, y[at]), (x[at], y[at] - size * 2), (x[at] + size / 2, y[at])], fill)
            else:
                pen.box(x[at] - size, y[at] - size, x[at] + size, y[at] + 4, fill)
                pen.box(x[at] - size / 3, y[at] - size / 2, x[at], y[at], vivid(rng))
    return pen.image


def logo(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """One sign in one to three colours on a plain ground, with a name beside, below or in it."""
    ground = paper(rng, dark=rng.random() < 0.3) if rng.random() < 0.7 else vivid(rng)
    pen = Pen(rng, side, scale, ground)
    colours = [vivid(rng), vivid(rng), ground, ink(rng, ground)]
    x, y, radius = side * rng.uniform(0.3, 0.7), side * rng.uniform(0.3, 0.5), side * rng.uniform(0.12, 0.34)
    fill, other = colours[0], colours[pen.between(1, 2)]
    kind = rng.integers(5)
    if kind == 0:
        pen.disc(x, y, radius, radius, fill)
        pen.disc(x + rng.uniform(-0.5, 0.5) * radius, y, radius * 0.6, radius * 0.6, other)
    elif kind == 1:
        count, inner = pen.between(3, 9), rng.uniform(0.35, 0.9)
        angles = np.arange(2 * count) * np.pi / count + rng.uniform(0, 6)
        reach = np.where(np.arange(2 * count) % 2, inner, 1.0) * radius
        pen.polygon([(x + r * np.cos(a), y + r * np.sin(a)) for r, a in zip(reach, angles, strict=True)], fill)
        pen.disc(x, y, radius * 0.3, radius * 0.3, other)
    elif kind == 2:
        for share, colour in ((1.0, fill), (0.7, other), (0.45, fill)):
            pen.box(
                x - radius * share, y - radius * share, x + radius * share, y + radius * share, colour, radius * share / 2
            )
    elif kind == 3:
        count = pen.between(3, 7)
        for number in range(count):
            start = number * 360 / count
            pen.slice(x, y, radius, start, start + 360 / count * rng.uniform(0.6, 1), colours[number % 2])
    else:
        pen.line(curve(rng, side, pen.between(3, 5), closed=True), fill, rng.uniform(5, 16))
    name = pen.font()
    size = side * rng.uniform(0.09, 0.26)
    word = pen.words(1) if pen.chance(0.6) else pen.words(1).upper()
    pen.text(side * rng.uniform(0.05, 0.3), y + radius + 6, word, name, size, colours[3] if pen.chance(0.6) else fill)
    if pen.chance(0.3):
        pen.text(side * 0.1, y + radius + 8 + size * 1.2, pen.words(3), name, size * 0.35, colours[3])
    return pen.image


def line_art(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Curves, straight lines and hatching of one or several widths, black on white, the other way round, or tinted."""
    ground = paper(rng, dark=rng.random() < 0.25)
    pen = Pen(rng, side, scale, ground)
    colour = ink(rng, ground, 120)
    widths = rng.uniform(0.6, 4, pen.between(1, 3))
    for _ in range(pen.between(4, 24)):
        width = float(rng.choice(widths))
        kind = rng.integers(5)
        if kind <= 1:
            points = curve(rng, side, pen.between(3, 7), closed=pen.chance(0.3))
            pen.line(points, colour, width)
        elif kind == 2:
            pen.line([tuple(point) for point in rng.uniform(0, side, (pen.between(2, 4), 2)).tolist()], colour, width)
        elif kind == 3:
            x, y = rng.uniform(0, side, 2)
            pen.disc(x, y, rng.uniform(5, side / 3), rng.uniform(5, side / 3), None, colour, width)
        else:
            (x, y), step, length = rng.uniform(0, side, 2), rng.uniform(3, 8), rng.uniform(15, 70)
            slope = rng.uniform(-1, 1)
            for number in range(pen.between(5, 20)):
                at = x + number * step
                pen.line([(at, y), (at + slope * length, y + length)], colour, max(0.6, width / 2))
    return pen.image


def pixel_art(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Large hard pixels of a few colours, mirrored as sprites are."""
    cells = int(rng.integers(8, 40))
    colours = np.array([vivid(rng) for _ in range(rng.integers(3, 9))], np.uint8)
    rough = Image.fromarray(rng.random((6, 6), dtype=np.float32)).resize((cells, cells), Image.Resampling.BICUBIC)
    index = (np.asarray(rough).clip(0, 0.999) * len(colours)).astype(int)
    index = np.where(rng.random((cells, cells)) < 0.06, rng.integers(len(colours), size=(cells, cells)), index)
    if rng.random() < 0.6:
        index = np.where(np.arange(cells) < cells // 2, index, index[:, ::-1])
    return Image.fromarray(colours[index]).resize((side * scale, side * scale), Image.Resampling.NEAREST)


def street_map(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Blocks, water and parks, roads with borders, names beside them."""
    dark = rng.random() < 0.25
    ground = paper(rng, dark)
    pen = Pen(rng, side, scale, ground)
    water: Colour = (40, 60, 90) if dark else (170, 211, 223)
    park: Colour = (35, 60, 40) if dark else (200, 230, 190)
    for fill in (water, park, park):
        if pen.chance(0.7):
            pen.polygon(curve(rng, side, 5, closed=True), fill)
    for _ in range(pen.between(0, 40)):
        x, y = rng.uniform(0, side, 2)
        across, down = rng.uniform(4, 18, 2)
        pen.box(x, y, x + across, y + down, shifted(ground, 16 if dark else -16))
    border, road = shifted(ground, 45 if dark else -60), (80, 80, 80) if dark else (255, 255, 255)
    roads = [(curve(rng, side, 4), rng.uniform(3, 9)) for _ in range(pen.between(3, 9))]
    for extra, fill in ((2.0, border), (0.0, road)):
        for points, width in roads:
            pen.line(points, fill, width + extra)
    name = pen.font()
    for _ in range(pen.between(2, 8)):
        x, y = rng.uniform(-20, side, 2)
        pen.text(x, y, pen.words(pen.between(1, 2)), name, rng.uniform(8, 13), ink(rng, ground), border=ground)
    return pen.image


def poster(rng: np.random.Generator, side: int, scale: int, photo: Image.Image | None) -> Image.Image:
    """Large words over a colour, a gradient or a photograph, as memes, covers and cards have them."""
    ground = vivid(rng)
    pen = Pen(rng, side, scale, ground)
    if photo is not None and pen.chance(0.6):
        pen.paste(photo, 0, 0, side, side)
    elif pen.chance(0.6):
        pen.paste(gradient(rng, side, ground, vivid(rng)), 0, 0, side, side)
    name = pen.font()
    meme = pen.chance(0.5)
    colour: Colour = (255, 255, 255) if meme else ink(rng, ground)
    border: Colour | None = (0, 0, 0) if meme else None
    y = float(pen.between(2, 40))
    while y < side - 10:
        size = rng.uniform(14, 64)
        words = pen.words(3)
        pen.text(pen.between(2, 30), y, words.upper() if meme else words, name, size, colour, border)
        y += size * 1.2 if pen.chance(0.6) else side * 0.5
    if pen.chance(0.3):
        pen.box(8, 8, side - 8, side - 8, None, outline=colour, width=rng.uniform(1, 4))
    return pen.image
