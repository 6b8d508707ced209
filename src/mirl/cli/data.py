"""mirl data list, check, paper, tasks, synth."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from mirl.errors import MirlError

if TYPE_CHECKING:
    from mirl.data.inventory import SetSummary


def list_(folder: tyro.conf.Positional[Path]) -> None:
    """List the sets of a data folder: task, images, sizes. Reads headers only.

    Args:
        folder: Data folder in MIR-L's layout.
    """
    from mirl.data.inventory import list_data

    sets, problems = list_data(folder)
    _print_sets(sets)
    if problems:
        print(f"{len(problems)} files or folders cannot be used; `mirl data check {folder}` names them")


def check(folder: tyro.conf.Positional[Path], against: Path | None = None) -> None:
    """Decode every image of a data folder; name what is unreadable, unpaired, of the wrong size or also elsewhere.

    Args:
        folder: Data folder in MIR-L's layout.
        against: Another data folder, such as the test sets: photos with the same content are named.
    """
    from mirl.data.inventory import check_data

    report = check_data(folder, against)
    _print_sets(list(report.sets))
    for problem in report.problems:
        print(f"bad: {problem.path}: {problem.reason}")
    for overlap in report.overlaps:
        print(f"in both: {overlap.first} and {overlap.second} (differ by {overlap.difference:.1f} of 255)")
    found = len(report.problems) + len(report.overlaps)
    if found:
        bad, shared = len(report.problems), len(report.overlaps)
        raise MirlError(f"{folder}: {bad} bad files or folders, {shared} photos also in {against}; repair or remove them")
    print(f"ok: {report.files} files decoded" + (f", none of their photos in {against}" if against else ""))


def paper(folder: tyro.conf.Positional[Path], link: Path | None = None) -> None:
    """Look for the sets of the published run: what is missing and where it is published, what is in training and test.

    Args:
        folder: Data folder with train and test, each in MIR-L's layout.
        link: Folder with the unpacked downloads: links to what is found there are made in FOLDER first.
    """
    from mirl.data.published import PUBLISHED, check_published, link_published

    if link is not None:
        linked = link_published(link, folder)
        counts = ", ".join(f"{count} of {place}" for place, count in linked.items() if count)
        print(f"found in {link}: {counts or 'nothing'}")
    report = check_published(folder)
    table = Table("set", "images", "found", "source")
    for one in PUBLISHED:
        table.add_row(one.place, f"{one.images:,}", f"{report.found[one.place]:,}", one.source)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for problem in report.problems:
        print(f"bad: {problem.path}: {problem.reason}")
    for both in report.doubled:
        names = " and ".join(path.name for path in both.example)
        print(f"in training and test: {both.photos} photos of {both.test} are in {both.train}, such as {names}")
    if report.doubled:
        print(f"`mirl data check {folder}/train --against {folder}/test` names them all; a score on them is too good")
    for one in report.wrong:
        more = report.found[one.place] - one.images
        state = f"{-more:,} of {one.images:,} images missing" if more < 0 else f"{more:,} images more than the paper's"
        print(f"{one.place}: {state}; published at {one.url}")
    if report.wrong:
        raise MirlError(f"{folder}: {len(report.wrong)} of {len(PUBLISHED)} sets are missing or not as published")
    print("ok: every set of the published run is there")


def tasks() -> None:
    """List the tasks: names, the folders of their pairs, and what is done to a clean photo."""
    from mirl.degrade.tasks import TASKS

    table = Table("task", "pairs", "what is done")
    for one in TASKS.values():
        table.add_row(one.name, f"{one.folder}/SET/input/NAME{one.suffix}.png", one.what)
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def synth(
    clean: tyro.conf.Positional[Path],
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    task: str,
    count: int | None = None,
    seed: int = 0,
) -> None:
    """Make pairs from clean photos, in MIR-L's layout: noise, rain, haze, coding, graphics. Nothing is overwritten.

    Pairs of denoise15, 25 and 50 are to look at: search and evaluate make that noise on clean photos (denoise/SET).

    Args:
        clean: Folder of clean photos.
        out: Data folder to write into.
        task: What is done to the photos; `mirl data tasks` lists it.
        count: Number of pairs; one for each photo when left out.
        seed: Seed of the degradations.
    """
    from mirl.cli.progress import counting_progress
    from mirl.data.synth import synthesise

    with counting_progress("degrading") as progress:
        done = 0

        def on_pair(pair: object) -> None:
            nonlocal done
            done += 1
            progress(done, count or 0)

        pairs = synthesise(clean, out, task, count, seed, on_pair)
    print(f"{len(pairs)} pairs in {pairs[0].degraded.parent.parent}")


def _print_sets(sets: "list[SetSummary]") -> None:
    table = Table("kind", "set", "tasks", "images", "MB", "smallest", "largest")
    for one in sets:
        sizes = (f"{w}x{h}" for h, w in (one.smallest, one.largest))
        table.add_row(one.kind, one.name, ", ".join(one.tasks), str(one.images), f"{one.megabytes:.1f}", *sizes)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
