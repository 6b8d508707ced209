"""Folders of clean photos and of degraded/clean pairs, in MIR-L's layout; one message names what is bad.

Below a root: `denoise/SET/*.png` (clean photos; noise is added when they are used) and, for each other KIND of the
task registry (derain, dehaze, camera, ...), `KIND/SET/input/NAME_SUFFIX.*` with `KIND/SET/target/NAME_gt.*`.
The extension may differ between the two sides. RESIDE has many hazy images per clean one: where `ID_A_BETA_hazy`
has no target of its own, `ID_A_gt` or `ID_gt` serves.
"""

import hashlib
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from mirl.degrade.tasks import TASKS
from mirl.errors import MirlError
from mirl.image import SUFFIXES, read_pixels

KINDS = tuple(dict.fromkeys(task.kind for task in TASKS.values()))
"""The folder kinds of the task registry."""

INPUT_SUFFIXES = {task.folder: task.suffix for task in TASKS.values()}
"""What ends the names of degraded files, by folder of stored pairs. Those for the noise of
the benchmarks (denoise15) are written by `mirl data synth`; all else adds that noise by itself."""

_ORIENTATION = 0x0112
_NAMED = 5
"""Bad files named in a message; the others are counted."""


LAYERS = Path("derain/layers")
"""Rain without a photograph, below the data folder: grey pictures, no pairs (see `mirl.data.rain_bank`)."""


@dataclass(frozen=True)
class Pair:
    """A clean photo and, for paired kinds, its degraded version of the same size."""

    name: str
    degraded: Path | None
    clean: Path


@dataclass(frozen=True)
class PairSet:
    """One folder of photos or pairs, sorted by name: `kind`/`name` below the root."""

    kind: str
    name: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Problem:
    """A file or folder that cannot be used, and why."""

    path: Path
    reason: str


def find_sets(root: Path, kinds: Iterable[str] | None = None, skip_bad: bool = False) -> list[PairSet]:
    """Return the sets of `kinds` (None: those of the task registry) below `root`, sorted, without empty ones.

    Reads headers only. Raises MirlError when `root` or every kind is missing, when nothing usable remains
    and, unless `skip_bad`, when any file is bad: the first few are named, all are counted.
    """
    sets, problems = survey(root, kinds)
    if problems and not skip_bad:
        raise MirlError(describe(problems, root))
    if not any(s.pairs for s in sets):
        found = describe(problems, root) if problems else f"no image found below {root}"
        raise MirlError(f"{found}; expected at least one usable photo or pair")
    return [s for s in sets if s.pairs]


def survey(root: Path, kinds: Iterable[str] | None = None) -> tuple[list[PairSet], list[Problem]]:
    """Return what `find_sets` would, empty sets included, and everything that is wrong.

    Raises MirlError when `root` is no folder or holds none of `kinds`.
    """
    wanted = tuple(KINDS if kinds is None else kinds)
    known = (*KINDS, *(kind for kind in INPUT_SUFFIXES if kind not in KINDS))
    if unknown := [kind for kind in wanted if kind not in known]:
        raise MirlError(f"unknown folder kind {unknown[0]!r}; expected one of {', '.join(known)}")
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise MirlError(f"{root} {what}; expected a data folder that holds {_some(wanted)}")
    present = [kind for kind in wanted if (root / kind).is_dir()]
    if not present:
        raise MirlError(f"{root} holds none of the folders {', '.join(wanted)}; expected, say, {_example(wanted[0])}")
    sets: list[PairSet] = []
    problems: list[Problem] = []
    for kind in present:
        folders = [p for p in sorted((root / kind).iterdir()) if p.is_dir() and not p.name.startswith(".")]
        folders = [folder for folder in folders if folder != root / LAYERS]
        if not folders:
            problems.append(Problem(root / kind, f"holds no set, expected {_example(kind)}"))
        for folder in folders:
            suffix = INPUT_SUFFIXES.get(kind)
            found = paired_set(kind, folder, suffix) if suffix else _clean_set(kind, folder)
            sets.append(found[0])
            problems += found[1]
    return sets, problems


def describe(problems: Sequence[Problem], root: Path) -> str:
    """Put problems into one line: how many, the first five by name, how many more, what to do."""
    names = []
    for problem in problems[:_NAMED]:
        inside = problem.path.is_relative_to(root)
        names.append(f"{problem.path.relative_to(root) if inside else problem.path} ({problem.reason})")
    more = f" and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
    count = "1 bad file or folder" if len(problems) == 1 else f"{len(problems)} bad files or folders"
    return f"{root}: {count}: {', '.join(names)}{more}; repair or remove them, or pass --skip-bad"


def fingerprint(root: Path) -> str:
    """Return a short hash of the names and sizes of all images below `root`, the same wherever the folder lies.

    Raises MirlError when `root` is no folder.
    """
    if not root.is_dir():
        raise MirlError(f"{root} does not exist or is no folder; expected a data folder")
    found = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    lines = (f"{path.relative_to(root).as_posix()} {path.stat().st_size}\n" for path in found)
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


def image_files(folder: Path) -> list[Path]:
    """Return the image files directly in `folder`, sorted; other and hidden files are ignored."""
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file())


def header_size(path: Path) -> tuple[int, int] | None:
    """Return (height, width) from the header, orientation applied; None when it cannot be read."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                # Asked for EXIF, Pillow decodes a whole PNG, in case it stands behind the pixels.
                exif = image.getexif() if "exif" in image.info or image.format == "TIFF" else {}
                turned = exif.get(_ORIENTATION, 1) in (5, 6, 7, 8)
                width, height = image.size
    except Exception:  # decoders raise nearly anything on damaged files
        return None
    return (width, height) if turned else (height, width)


def decode_problems(sets: Iterable[PairSet]) -> Iterator[Problem]:
    """Decode every file of `sets` completely and yield those that fail or whose pair differs in size."""
    for one in sets:
        shapes: dict[Path, tuple[int, ...] | None] = {}
        for pair in one.pairs:
            for path in (pair.clean, pair.degraded):
                if path is not None and path not in shapes:
                    try:
                        shapes[path] = read_pixels(path).shape
                    except MirlError:
                        shapes[path] = None
                        yield Problem(path, "cannot be decoded")
            clean, degraded = shapes[pair.clean], shapes[pair.degraded] if pair.degraded else None
            if clean and degraded and clean != degraded and pair.degraded:
                yield Problem(pair.degraded, _mismatch(degraded, clean))


def _clean_set(kind: str, folder: Path) -> tuple[PairSet, list[Problem]]:
    files = image_files(folder)
    problems = [] if files else [Problem(folder, "holds no image")]
    pairs = []
    for path in files:
        if header_size(path) is None:
            problems.append(Problem(path, "unreadable image"))
        else:
            pairs.append(Pair(path.stem.removesuffix("_gt"), None, path))
    return PairSet(kind, folder.name, tuple(pairs)), problems


def paired_set(kind: str, folder: Path, suffix: str) -> tuple[PairSet, list[Problem]]:
    """Return a folder's pairs input/NAME`suffix`.*, target/NAME_gt.*, sorted by name, and what is wrong with others."""
    sides = folder / "input", folder / "target"
    problems = [Problem(side, "missing folder") for side in sides if not side.is_dir()]
    if problems:
        return PairSet(kind, folder.name, ()), problems
    inputs = _by_name(sides[0], suffix, problems)
    targets = _by_name(sides[1], "_gt", problems)
    sizes = {path: header_size(path) for path in (*inputs.values(), *targets.values())}
    problems += [Problem(path, "unreadable image") for path, size in sizes.items() if size is None]
    pairs, used = [], set()
    for name, degraded in sorted(inputs.items()):
        clean = next((targets[key] for key in _target_names(name) if key in targets), None)
        if clean is None:
            problems.append(Problem(degraded, f"no partner, expected target/{name}_gt.*"))
            continue
        used.add(clean)
        found, expected = sizes[degraded], sizes[clean]
        if found is None or expected is None:
            continue
        if found != expected:
            problems.append(Problem(degraded, _mismatch(found, expected)))
            continue
        pairs.append(Pair(name, degraded, clean))
    for name, clean in sorted(targets.items()):
        if clean not in used:
            problems.append(Problem(clean, f"no partner, expected input/{name}{suffix}.*"))
    return PairSet(kind, folder.name, tuple(pairs)), problems


def _by_name(side: Path, suffix: str, problems: list[Problem]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in image_files(side):
        name = path.stem.removesuffix(suffix)
        if name in files:
            problems.append(Problem(path, f"same name as {files[name].name}"))
        else:
            files[name] = path
    if not files:
        problems.append(Problem(side, "holds no image"))
    return files


def _target_names(name: str) -> Iterator[str]:
    """Yield the names a target may have: the input's own, then without its last one or two numbers."""
    yield name
    for _ in range(2):
        shorter = re.sub(r"_\d+(\.\d+)?$", "", name)
        if shorter == name:
            return
        yield (name := shorter)


def _mismatch(found: tuple[int, ...], expected: tuple[int, ...]) -> str:
    return f"is {found[1]}x{found[0]} but its target {expected[1]}x{expected[0]}"


def _some(kinds: Sequence[str]) -> str:
    """Name a few folders of which one is enough."""
    return ", ".join(kinds[:3]) + (" or another kind" if len(kinds) > 3 else " (or one of them)" if len(kinds) > 1 else "")


def _example(kind: str) -> str:
    if kind not in INPUT_SUFFIXES:
        return f"{kind}/SET/*.png"
    return f"{kind}/SET/input/NAME{INPUT_SUFFIXES[kind]}.png with {kind}/SET/target/NAME_gt.png"
