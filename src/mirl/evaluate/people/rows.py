"""Many pictures in one row: means, medians, the share made worse, the worst picture."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from mirl.evaluate.figures import Figures, flat
from mirl.evaluate.people.measures import Measures
from mirl.files import csv_text

WORSE_DB = 0.1  # what counts as made worse
MOVED = (2, 4, 10)  # levels by which a block mean may have moved: pictures beyond each are counted


@dataclass(frozen=True)
class Measured:
    """One picture, restored by one method, in one test."""

    method: str
    group: str
    task: str
    set: str
    image: str
    measures: Measures
    seconds: float


@dataclass(frozen=True)
class Gains:
    """What restoring brought, in dB, over the pictures of a row: mean, median, share that lost over 0.1 dB, worst."""

    gain: float
    median_gain: float
    worse_share: float
    worst_gain: float


@dataclass(frozen=True)
class Shifts:
    """What happened to tone and detail, over the pictures of a row; in levels of 255.

    `brightness_shift` and `dark_shift` are means of the absolute shifts, `block_shift` is the median, `largest_block_shift`
    the largest of the pictures' largest block shifts; `blocks_over_N` counts pictures. `detail`, `input_detail`: means.
    """

    brightness_shift: float
    dark_shift: float
    block_shift: float
    largest_block_shift: float
    blocks_over_2: int
    blocks_over_4: int
    blocks_over_10: int
    detail: float
    input_detail: float


@dataclass(frozen=True)
class Row:
    """The pictures of one test and set, or of one group (`task` and `set` are then empty), by one method.

    `figures` (means) and `gains` are None without a truth. `worst_image` lost most, or moved most. `seconds`: mean.
    """

    method: str
    group: str
    task: str
    set: str
    images: int
    figures: Figures | None
    gains: Gains | None
    worst_image: str
    shifts: Shifts
    seconds: float

    @property
    def label(self) -> str:
        """What a table calls the row."""
        if not self.task:
            return f"{self.group}: all"
        return f"{self.task} {self.set}" if self.task == self.group else self.task

    def to_json(self) -> dict[str, Any]:
        """Return all figures by name, null where there is no truth."""
        known = flat(self)
        names = [name for field in fields(Row) for name in _names(field.name)]
        return {name: known.get(name) for name in names}


_INNER = {"figures": Figures, "gains": Gains, "shifts": Shifts, "measures": Measures}


def _names(field: str) -> list[str]:
    """The names under which a file holds a field of a row."""
    inner = _INNER.get(field)
    return [field] if inner is None else [name for each in fields(inner) for name in _names(each.name)]


def by_test(images: Iterable[Measured]) -> list[Row]:
    """One row for each method, group, task and set, in the order of the pictures."""
    return [_row(each, m, g, t, s) for (m, g, t, s), each in _grouped(images, "method", "group", "task", "set")]


def by_group(images: Iterable[Measured]) -> list[Row]:
    """One row for each method and group: every picture of every test counts once."""
    return [_row(each, m, g, "", "") for (m, g), each in _grouped(images, "method", "group")]


def by_image(images: Sequence[Measured]) -> str:
    """Return CSV, one line a picture and test, numbers in full, nothing where there is no truth."""
    names = [name for field in fields(Measured) for name in _names(field.name)]
    return csv_text(names, ([line.get(name, "") for name in names] for line in map(flat, images)))


def _grouped(images: Iterable[Measured], *names: str) -> list[tuple[tuple[str, ...], list[Measured]]]:
    groups: dict[tuple[str, ...], list[Measured]] = {}
    for image in images:
        groups.setdefault(tuple(getattr(image, name) for name in names), []).append(image)
    return list(groups.items())


def _row(images: Sequence[Measured], method: str, group: str, task: str, set: str) -> Row:
    known = [(each.measures.figures, each.image) for each in images if each.measures.figures is not None]
    shifts = _shifts([image.measures for image in images])
    seconds = statistics.fmean(image.seconds for image in images)
    if not known:
        moved = max(images, key=lambda image: image.measures.block_shift).image
        return Row(method, group, task, set, len(images), None, None, moved, shifts, seconds)
    gains = [figures.gain for figures, _ in known]
    worse = sum(gain < -WORSE_DB for gain in gains) / len(gains)
    told = Gains(statistics.fmean(gains), statistics.median(gains), worse, min(gains))
    worst = known[gains.index(told.worst_gain)][1]
    mean = Figures.mean([figures for figures, _ in known])
    return Row(method, group, task, set, len(images), mean, told, worst, shifts, seconds)


def _shifts(measures: Sequence[Measures]) -> Shifts:
    blocks = [each.block_shift for each in measures]
    over_2, over_4, over_10 = (sum(shift > levels for shift in blocks) for levels in MOVED)
    return Shifts(
        statistics.fmean(abs(each.brightness_shift) for each in measures),
        statistics.fmean(abs(each.dark_shift) for each in measures),
        statistics.median(blocks),
        max(blocks),
        over_2,
        over_4,
        over_10,
        statistics.fmean(each.detail for each in measures),
        statistics.fmean(each.input_detail for each in measures),
    )
