"""What a data folder holds and what is wrong with it, for `mirl data list` and `mirl data check`."""

from dataclasses import dataclass
from pathlib import Path

from mirl.data.overlap import Overlap, clean_files, find_overlap, thumbnail_of
from mirl.data.pairs import INPUT_SUFFIXES, KINDS, PairSet, Problem, decode_problems, header_size, survey
from mirl.degrade.tasks import TASKS

ALL_KINDS = (*KINDS, *(kind for kind in INPUT_SUFFIXES if kind not in KINDS))


@dataclass(frozen=True)
class SetSummary:
    """One set: its tasks, its photos or pairs, megabytes on disk, smallest and largest (h, w)."""

    kind: str
    name: str
    tasks: tuple[str, ...]
    images: int
    megabytes: float
    smallest: tuple[int, int]
    largest: tuple[int, int]


@dataclass(frozen=True)
class CheckReport:
    """What `check_data` found; `files` counts the usable images of both sides that were decoded."""

    sets: tuple[SetSummary, ...]
    files: int
    problems: tuple[Problem, ...]
    overlaps: tuple[Overlap, ...]


def list_data(root: Path) -> tuple[list[SetSummary], list[Problem]]:
    """Summarise the sets below `root` from headers alone. Raises MirlError when it is no data folder."""
    sets, problems = survey(root, ALL_KINDS)
    return [_summary(one) for one in sets], problems


def check_data(root: Path, against: Path | None = None) -> CheckReport:
    """Decode every image below `root` and, with `against`, find the clean photos both folders share.

    Raises MirlError when a folder is no data folder, and for an undecodable clean photo in `against`.
    """
    sets, problems = survey(root, ALL_KINDS)
    problems += decode_problems(sets)
    bad = {problem.path for problem in problems}
    overlaps: list[Overlap] = []
    if against is not None:
        ours = {path: thumbnail_of(path) for path in clean_files(sets) if path not in bad}
        overlaps = find_overlap(ours, {path: thumbnail_of(path) for path in clean_files(survey(against, ALL_KINDS)[0])})
    files = {path for one in sets for pair in one.pairs for path in (pair.clean, pair.degraded) if path} - bad
    return CheckReport(tuple(map(_summary, sets)), len(files), tuple(problems), tuple(overlaps))


def _summary(one: PairSet) -> SetSummary:
    files = dict.fromkeys(path for pair in one.pairs for path in (pair.clean, pair.degraded) if path)
    sizes = [size for path in clean_files([one]) if (size := header_size(path))] or [(0, 0)]
    return SetSummary(
        kind=one.kind,
        name=one.name,
        tasks=tuple(task.name for task in TASKS.values() if one.kind in (task.kind, task.name)),
        images=len(one.pairs),
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
        smallest=min(sizes, key=lambda size: size[0] * size[1]),
        largest=max(sizes, key=lambda size: size[0] * size[1]),
    )
