"""`mirl evaluate --suite people`: the table of groups, measured with one or more restorers on the same files."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from mirl.data.pairs import Pair
from mirl.errors import MirlError
from mirl.evaluate.people.groups import DEVELOPMENT_GROUP, GROUPS, Example, Trial, find_pictures
from mirl.evaluate.people.measures import PSNR_CAP_DB, measure
from mirl.evaluate.people.rows import Measured, Row, by_group, by_image, by_test
from mirl.files import make_folder, write_bytes
from mirl.image import Photo, encode_photo, quantise, read_photo

Pixels = NDArray[np.float32]
Restore = Callable[[Pixels], Pixels]
Progress = Callable[[int, int, str], None]
NAMES = (*GROUPS, *DEVELOPMENT_GROUP)
_SMALLEST = 11  # pixels: SSIM's window


@dataclass(frozen=True)
class People:
    """What was measured, by method, group, test, set and picture; `lacking` says what the folder of test sets has not."""

    images: tuple[Measured, ...]
    lacking: tuple[str, ...]
    as_written: bool

    @property
    def rows(self) -> list[Row]:
        """One row for each method, test and set."""
        return by_test(self.images)

    def to_json(self) -> dict[str, Any]:
        """Return rows by test and set (`rows`) and by group (`groups`), and what is lacking."""
        return {
            "as_written": self.as_written,
            "rows": [row.to_json() for row in self.rows],
            "groups": [row.to_json() for row in by_group(self.images)],
            "lacking": list(self.lacking),
        }

    def write_csv(self, path: Path) -> None:
        """Write one line for each picture, test and method, numbers in full. Raises MirlError when it cannot."""
        write_bytes(path, by_image(self.images).encode())

    def tables(self) -> Iterator[Table]:
        """Yield one table for each method, groups of several rows with a row of their own."""
        for method in dict.fromkeys(image.method for image in self.images):
            mine = [image for image in self.images if image.method == method]
            yield _table(method, by_test(mine), by_group(mine), self.as_written)


def measure_people(
    methods: Mapping[str, Restore],
    tests: Path,
    groups: Sequence[str] | None = None,
    limit: int | None = None,
    as_written: bool = False,
    progress: Progress | None = None,
    pictures: Path | None = None,
) -> People:
    """Measure restorers (float32 (h, w, 3) in [0, 1] to the same size) on what people have.

    `tests` is the folder of test sets; what it lacks is told in the result. `groups` are some of NAMES, None all of GROUPS.
    `limit` takes the first pictures of each test and set. `as_written` scores, instead of the pixels, the file that
    `mirl restore` writes of them by default: the photo's own format, coded as its own. `progress` is called with pictures
    done, pictures in all and a label. Into the folder `pictures` goes a PNG of each: input, output, truth. Raises MirlError
    for an unknown group, when nothing could be measured, for a restorer that returns another size or a non-finite value, and
    for a picture that cannot be written.
    """
    if not tests.is_dir():
        raise MirlError(f"{tests} does not exist or is no folder; expected a folder of test sets, with real, denoise, wild")
    if limit is not None and limit < 1:
        raise MirlError(f"--limit is a number of images for each set, at least 1, found {limit}")
    jobs, lacking = _plan(tests, groups, limit)
    images: list[Measured] = []
    total = len(jobs) * len(methods)
    for group, trial, pair in jobs:
        try:
            example = trial.make(pair)
        except MirlError as error:
            lacking.append(f"{pair.clean}: {error}")
            continue
        if min(example.degraded.shape[:2]) < _SMALLEST:
            lacking.append(f"{pair.clean} is too small; expected at least {_SMALLEST}x{_SMALLEST} pixels")
            continue
        for method, restore in methods.items():
            begin = time.perf_counter()
            restored = np.asarray(restore(example.degraded.copy()))
            seconds = time.perf_counter() - begin
            _check(restored, example, f"for {pair.name} of {trial.set} ({trial.name}, {method})")
            shown = written(example, restored) if as_written else quantise(restored)
            found = measure(shown, example.degraded, example.clean)
            images.append(Measured(method, group, trial.name, trial.set, pair.name, found, seconds))
            if pictures is not None:
                name = "-".join((trial.name, trial.set, pair.name, Path(method).stem))
                _write_strip(pictures / group, name, example, shown)
            if progress is not None:
                progress(len(images), total, f"{trial.name} {trial.set}")
    if not images:
        raise MirlError(f"nothing to measure: {'; '.join(lacking[:5])}; choose another --data or other --tasks")
    order = list(methods)
    images.sort(key=lambda image: order.index(image.method))  # stable: one method after the other
    return People(tuple(images), tuple(dict.fromkeys(lacking)), as_written)


def written(example: Example, restored: Pixels) -> Pixels:
    """Return what a reader sees of the file that `mirl restore` writes by default."""
    photo = read_photo(example.content)
    return read_photo(encode_photo(replace(photo, pixels=restored))).pixels


def _write_strip(folder: Path, name: str, example: Example, shown: Pixels) -> None:
    """Write input, output and, where there is one, truth side by side."""
    truth = [] if example.clean is None else [example.clean]
    strip = encode_photo(Photo(np.concatenate([example.degraded, shown, *truth], axis=1)), "PNG")
    write_bytes(make_folder(folder) / f"{name}.png", strip)


def _plan(tests: Path, groups: Sequence[str] | None, limit: int | None) -> tuple[list[tuple[str, Trial, Pair]], list[str]]:
    every = GROUPS | DEVELOPMENT_GROUP
    wanted = tuple(GROUPS) if groups is None else tuple(groups)
    if not wanted:
        raise MirlError(f"no group to measure; expected some of {', '.join(every)}")
    if unknown := [name for name in wanted if name not in every]:
        raise MirlError(f"unknown group {unknown[0]!r}; expected some of {', '.join(every)}")
    jobs: list[tuple[str, Trial, Pair]] = []
    lacking: list[str] = []
    for name in (name for name in every if name in wanted):
        for trial in every[name]:
            pairs, missing = find_pictures(trial, tests)
            lacking += missing
            jobs += [(name, trial, pair) for pair in pairs[:limit]]
    return jobs, list(dict.fromkeys(lacking))


def _check(restored: Pixels, example: Example, where: str) -> None:
    if restored.shape != example.degraded.shape:
        raise MirlError(
            f"the restorer returned shape {restored.shape} {where}; expected that of its input, {example.degraded.shape}; "
            "check the backend"
        )
    if not np.isfinite(restored).all():
        raise MirlError(f"the restorer returned NaN or infinity {where}; expected numbers; check the ticket")


_CAPTION = (
    f"PSNR in dB, at most {PSNR_CAP_DB:g}, of the {{what}}. gain: mean and median; worse: share that lost over 0.1 dB; by: "
    "gain of the worst picture (without a truth: the one whose blocks moved most). In levels of 255, against the truth, "
    "else the input: light and dark: mean absolute shift of the mean and of the darkest percentile; block, to: median and "
    "largest of the pictures' largest shifts of the mean of 32x32 pixels. fine: energy of the truth's finest octave in the "
    "input; kept: in the output"
)
_COLUMNS = ("in dB", "out dB", "gain", "median", "worse", "worst", "by", "light", "dark", "block", "to", "fine", "kept")
_NAME = 12  # characters of a picture's name that a table shows, its end


def _table(method: str, rows: Sequence[Row], groups: Sequence[Row], as_written: bool) -> Table:
    what = "file written by default" if as_written else "output rounded to 8 bits"
    table = Table(
        title=f"What people have: {method}", caption=_CAPTION.format(what=what), caption_justify="left", box=box.SIMPLE,
        padding=(0, 1, 0, 0), pad_edge=False,
    )  # fmt: skip
    table.add_column("test", no_wrap=True)
    for head in ("n", *_COLUMNS):
        table.add_column(head, justify="left" if head == "worst" else "right", no_wrap=True)
    for group in groups:
        mine = [row for row in rows if row.group == group.group]
        for row in mine:
            table.add_row(row.label, str(row.images), *_cells(row))
        if len(mine) > 1:
            table.add_row(group.label, str(group.images), *_cells(group), style="bold")
        table.add_section()
    return table


def _cells(row: Row) -> list[str]:
    figures, gains, shifts = row.figures, row.gains, row.shifts
    name = row.worst_image if len(row.worst_image) <= _NAME else f"…{row.worst_image[1 - _NAME :]}"
    scores = ["", ""] if figures is None else [f"{figures.input_psnr:.2f}", f"{figures.psnr:.2f}"]
    gained = (
        ["", "", ""] if gains is None else [f"{gains.gain:+.2f}", f"{gains.median_gain:+.2f}", f"{gains.worse_share:.0%}"]
    )
    lost = "" if gains is None else f"{gains.worst_gain:+.2f}"
    moved = (shifts.brightness_shift, shifts.dark_shift, shifts.block_shift, shifts.largest_block_shift)
    kept = f"{shifts.input_detail:.0%}", f"{shifts.detail:.0%}"
    return [*scores, *gained, name, lost, *(f"{each:.1f}" for each in moved), *kept]
