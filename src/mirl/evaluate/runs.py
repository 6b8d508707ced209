"""A run folder read from its documented JSON files alone (docs/format.md), finished or not, for the report.

Nothing is computed from weights here: what the search wrote down is what the report shows.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mirl.errors import MirlError
from mirl.files import read_json


@dataclass(frozen=True)
class Score:
    """Validation PSNR of one task in dB, and that of the degraded input."""

    psnr: float
    input_psnr: float


@dataclass(frozen=True)
class Level:
    """One finished training: a level of the search, or a control (`name` is then its folder's).

    `density` is kept / total over all trainable parameters (of the searched network, for a control too).
    `losses` and `validations` are (update, value) pairs; the latter, one PSNR for each task, are empty if the
    run did not validate while it trained.
    """

    name: str
    number: int
    density: float
    density_prunable: float
    kept: int
    total: int
    steps: int
    seconds: float
    layers: dict[str, float]
    scores: dict[str, Score]
    losses: tuple[tuple[int, float], ...]
    validations: tuple[tuple[int, dict[str, float]], ...]

    def mean_psnr(self, tasks: Sequence[str]) -> float:
        """Mean PSNR in dB over `tasks`."""
        return sum(self.scores[task].psnr for task in tasks) / len(tasks)


@dataclass(frozen=True)
class Run:
    """The finished levels (dense first) and controls of one run folder; `complete` once `keep` was
    reached."""

    label: str
    recipe_file: dict[str, Any]
    levels: tuple[Level, ...]
    controls: tuple[Level, ...]
    keep: float

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe as it was written into the run."""
        return dict(self.recipe_file["recipe"])

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return int(self.recipe["seed"])

    @property
    def dense(self) -> Level:
        """Level 0."""
        return self.levels[0]

    @property
    def last(self) -> Level:
        """The last finished level: the ticket, if the run is complete."""
        return self.levels[-1]

    @property
    def places(self) -> list[str]:
        """Names of the folders of all trainings, in order."""
        return list(self.trainings)

    @property
    def trainings(self) -> dict[str, Level]:
        """All trainings by the name of their folder, in order."""
        levels = {f"level-{level.number:02d}": level for level in self.levels}
        return levels | {each.name: each for each in self.controls}

    @property
    def complete(self) -> bool:
        """Whether the last level is at or under the density the recipe asks for."""
        return self.last.density <= self.keep + 1e-12

    @property
    def tasks(self) -> list[str]:
        """Tasks measured at every level and control, in the order of level 0."""
        trained = (*self.levels, *self.controls)
        return [task for task in self.dense.scores if all(task in each.scores for each in trained)]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """Read run folders; labels are folder names, or whole paths where two names agree.

    Raises MirlError on a folder that is missing, is no run, has no finished level, or holds a damaged file.
    """
    if not folders:
        raise MirlError("no run to report on; expected at least one run folder; give the --out of a search")
    names = [Path(folder).resolve().name for folder in folders]
    labels = [n if names.count(n) == 1 else str(f) for n, f in zip(names, folders, strict=True)]
    return [_read_run(Path(folder), label) for folder, label in zip(folders, labels, strict=True)]


def _read_run(folder: Path, label: str) -> Run:
    if not folder.is_dir():
        raise MirlError(f"no run folder at {folder}; expected the --out of a search; check the path")
    if not (folder / "recipe.json").is_file():
        raise MirlError(f"{folder} is not a run folder: it has no recipe.json; give the --out of a search")
    recipe_file, keep = read_json(folder / "recipe.json", "the recipe of a run", _parse_recipe)
    levels: list[Level] = []
    while (done := folder / f"level-{len(levels):02d}" / "level.json").is_file():
        levels.append(_read_level(done.parent, "level.json", str(len(levels))))
    if not levels:
        raise MirlError(f"{folder} has no finished level yet (no level-00/level.json); let the search go on first")
    controls = [
        _read_level(done.parent, "control.json", done.parent.name)
        for done in sorted((folder / "controls").glob("*/control.json"))
    ]
    # A smaller dense network counts its own parameters; comparable is how many it has of the searched one's.
    total = levels[0].total
    controls = [c if c.total == total else replace(c, density=c.kept / total) for c in controls]
    run = Run(label, recipe_file, tuple(levels), tuple(controls), keep)
    if not run.tasks:
        raise MirlError(f"{folder} shares no validated task between its levels; expected 'validation' in each level.json")
    return run


def _parse_recipe(value: Any) -> tuple[dict[str, Any], float]:
    recipe = _object(_object(value)["recipe"])
    int(recipe["seed"]), str(recipe["name"])
    return value, float(_object(recipe["prune"])["keep"])


def _read_level(folder: Path, file: str, name: str) -> Level:
    losses, validations = _read_curve(folder / "metrics.jsonl")

    def parse(value: Any) -> Level:
        entry = _object(value)
        scores = {
            str(task): Score(_finite(score["psnr"]), _finite(score["input_psnr"]))
            for task, score in _object(entry["validation"]).items()
        }
        return Level(
            name=name,
            number=int(entry.get("level", 0)),
            density=_finite(entry["density"]),
            density_prunable=_finite(entry["density_prunable"]),
            kept=int(entry["kept"]),
            total=int(entry["total"]),
            steps=int(entry["steps"]),
            seconds=_finite(entry["seconds"]),
            layers={str(layer): _finite(density) for layer, density in _object(entry["layers"]).items()},
            scores=scores,
            losses=losses,
            validations=validations,
        )

    level: Level = read_json(folder / file, f"the {file} of a run", parse)
    if not 0 < level.density <= 1 or level.kept > level.total:
        raise MirlError(f"{folder / file} has density {level.density:g}; expected above 0 and at most 1")
    return level


def _read_curve(path: Path) -> tuple[Any, Any]:
    """Read (update, loss) and (update, {task: PSNR}) pairs; a missing file is empty, a cut last line left
    out."""
    losses, validations = [], []
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    for number, line in enumerate(lines, start=1):
        try:
            entry = _object(json.loads(line))
            if "loss" in entry:
                losses.append((int(entry["step"]), float(entry["loss"])))
            if "validation" in entry:
                scores = {str(task): _finite(psnr) for task, psnr in _object(entry["validation"]).items()}
                validations.append((int(entry["step"]), scores))
        except (ValueError, KeyError, TypeError) as error:
            if number < len(lines):
                raise MirlError(f"line {number} of {path} is not a line of training metrics: {error}") from error
    return tuple(losses), tuple(validations)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise TypeError(f"expected an object, found {value!r:.40}")
    return value


def _finite(value: Any) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, found {value!r:.40}")
    return number
