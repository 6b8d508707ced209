r"""The sets of the published run: how many images, where they are published, how a download lies, what is there of them.

Training: WED and BSD400 (noise is added), Rain100L, RESIDE's OTS; tests: BSD68, Urban100, Rain100L, RESIDE's SOTS outdoor
(MIR-L, arXiv 2510.14463, section 4). BSD400 is BSDS500's train and test folders; BSD68 comes from its val folder.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mirl.data.overlap import find_overlap, thumbnail_of
from mirl.data.pairs import INPUT_SUFFIXES, PairSet, Problem, survey
from mirl.errors import MirlError
from mirl.files import make_folder

Side = Literal["train", "test"]


@dataclass(frozen=True)
class Layout:
    """How a download lies: patterns that the end of a path matches, after a slash, in capitals or small letters.

    `clean` has a group `id`; so has `degraded`, which may have a group `name` too where one photo has several hazes.
    """

    clean: str
    degraded: str = ""


@dataclass(frozen=True)
class PublishedSet:
    """One set: its place below a data folder, the images or pairs it holds, its source, its layouts elsewhere."""

    side: Side
    kind: str
    name: str
    images: int
    source: str
    url: str
    layouts: tuple[Layout, ...]
    prefix: str = ""  # of file names in MIR-L's layout
    also: str = ""  # another name that its folder may have

    @property
    def place(self) -> str:
        """Its folder, below the data folder."""
        return f"{self.side}/{self.kind}/{self.name}"


_RESIDE = "RESIDE, Li et al. 2019"
_RAIN = "Rain100L, Yang et al. 2017"
_RAIN_URL = "https://www.icst.pku.edu.cn/struct/Projects/joint_rain_removal.html"
_HAZY = r"(?P<name>(?P<id>\d+)_[\d.]+_[\d.]+)\.(?:jpg|png)"

PUBLISHED = (
    PublishedSet(
        "train", "denoise", "WED", 4744, "Waterloo Exploration Database, Ma et al. 2017",
        "https://ece.uwaterloo.ca/~k29ma/exploration/",
        (Layout(r"(?:pristine_images|WED|WaterlooED|Train/Denoise)/(?P<id>\d{5})\.bmp"),),
    ),
    PublishedSet(
        "train", "denoise", "BSD400", 400, "BSDS500, Arbelaez et al. 2011",
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/resources.html",
        (
            Layout(r"(?:BSD400|BSDS500/data/images/(?:train|test))/(?P<id>\d+)\.(?:jpg|png|bmp)"),
            Layout(r"Train/Denoise/(?P<id>\d+)\.(?:jpg|png)"),
        ),
    ),
    PublishedSet(
        "train", "derain", "Rain100L", 200, _RAIN, _RAIN_URL,
        (
            Layout(r"rain_data_train_Light/norain/norain-(?P<id>\d+)\.png",
                   r"rain_data_train_Light/rain/(?:X2/)?norain-(?P<id>\d+)x2\.png"),
            Layout(r"RainTrainL/norain-(?P<id>\d+)\.png", r"RainTrainL/rain-(?P<id>\d+)\.png"),
            Layout(r"Train/Derain/gt/norain-(?P<id>\d+)\.png", r"Train/Derain/rainy/rain-(?P<id>\d+)\.png"),
        ),
        prefix="rain-",
    ),
    PublishedSet(
        "train", "dehaze", "OTS", 72_135, _RESIDE, "https://sites.google.com/view/reside-dehaze-datasets/reside-v0",
        (
            Layout(r"OTS\w*/clear(?:/clear_images)?/(?P<id>\d+)\.(?:jpg|png)",
                   rf"OTS\w*/haz[ey]/(?:OTS/)?(?:part\d+/)?{_HAZY}"),
            Layout(r"Train/Dehaze/original/(?P<id>\d+)\.(?:jpg|png)", rf"Train/Dehaze/synthetic/(?:part\d+/)?{_HAZY}"),
        ),
    ),
    PublishedSet(
        "test", "denoise", "BSD68", 68, "BSDS500, Martin et al. 2001", "https://github.com/clausmichele/CBSD68-dataset",
        (Layout(r"C?BSD68(?:/original_png|-dataset/CBSD68/original_png)?/(?P<id>\d+)\.(?:jpg|png)"),), also="CBSD68",
    ),
    PublishedSet(
        "test", "denoise", "Urban100", 100, "Huang et al. 2015", "https://github.com/jbhuang0604/SelfExSR",
        (Layout(r"Urban100(?:/HR|/image_SRF_[24])?/(?P<id>img_?\d{3})(?:_SRF_[24]_HR)?\.png"),),
    ),
    PublishedSet(
        "test", "derain", "Rain100L", 100, _RAIN, _RAIN_URL,
        (
            Layout(r"rain_data_test_Light/norain/norain-(?P<id>\d+)\.png",
                   r"rain_data_test_Light/rain/(?:X2/)?norain-(?P<id>\d+)x2\.png"),
            Layout(r"Rain100L/norain-(?P<id>\d+)\.png", r"Rain100L/(?:rainy/)?rain-(?P<id>\d+)\.png"),
            Layout(r"Rain100L/target/(?P<id>\d+)\.png", r"Rain100L/input/(?P<id>\d+)\.png"),
        ),
        prefix="rain-",
    ),
    PublishedSet(
        "test", "dehaze", "SOTS", 500, f"{_RESIDE}, SOTS outdoor",
        "https://sites.google.com/view/reside-dehaze-datasets/reside-standard",
        (Layout(r"SOTS/outdoor/(?:gt|clear)/(?P<id>\d+)\.png", rf"SOTS/outdoor/hazy/{_HAZY}"),
         Layout(r"test/dehaze/target/(?P<id>\d+)\.png", rf"test/dehaze/input/{_HAZY}")),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Doubled:
    """A training set that shows photos of a test set: how many, and one of them."""

    train: str
    test: str
    photos: int
    example: tuple[Path, Path]


@dataclass(frozen=True)
class PaperReport:
    """What a data folder holds of the published sets: usable images by place, what is bad, and what is doubled."""

    found: dict[str, int]
    problems: tuple[Problem, ...]
    doubled: tuple[Doubled, ...]

    @property
    def wrong(self) -> tuple[PublishedSet, ...]:
        """The sets that are missing, not complete, or of another edition with more images."""
        return tuple(one for one in PUBLISHED if self.found[one.place] != one.images)


def check_published(root: Path) -> PaperReport:
    """Look for the published sets in `root`, in MIR-L's layout, and compare clean training photos with the test sets.

    Files are counted by their headers; of a scene with many hazes one clean photo is decoded and compared, and where it is
    damaged, nothing of it counts. Raises MirlError when `root` is no folder.
    """
    if not root.is_dir():
        raise MirlError(f"{root} does not exist or is no folder; expected a data folder with train and test")
    there: dict[str, PairSet] = {}
    problems: list[Problem] = []
    for side in ("train", "test"):
        kinds = [kind for kind in ("denoise", "derain", "dehaze") if (root / side / kind).is_dir()]
        if kinds:
            sets, bad = survey(root / side, kinds)
            there |= {f"{side}/{one.kind}/{one.name}": one for one in sets}
            problems += bad
    empty = PairSet("", "", ())
    sets_of = {
        one.place: there.get(one.place) or there.get(f"{one.side}/{one.kind}/{one.also}") or empty for one in PUBLISHED
    }
    scenes = {place: _decoded(_scenes(one), problems) for place, one in sets_of.items()}
    damaged = {problem.path for problem in problems}
    doubled = []
    tests = {path: one.place for one in PUBLISHED if one.side == "test" for path in scenes[one.place]}
    tested = {path: thumbnail for one in PUBLISHED if one.side == "test" for path, thumbnail in scenes[one.place].items()}
    for train in (one.place for one in PUBLISHED if one.side == "train"):
        shared = find_overlap(tested, scenes[train])
        for test in dict.fromkeys(tests[both.first] for both in shared):
            own = [both for both in shared if tests[both.first] == test]
            doubled.append(Doubled(train, test, len(own), (own[0].second, own[0].first)))
    found = {place: sum(pair.clean not in damaged for pair in one.pairs) for place, one in sets_of.items()}
    return PaperReport(found, tuple(problems), tuple(doubled))


def link_published(downloads: Path, root: Path) -> dict[str, int]:
    """Link what is found of the published sets below `downloads`, as it was unpacked, into `root` in MIR-L's layout.

    Returns the images or pairs of each place that were found. Nothing is copied and nothing overwritten; a degraded image
    without its clean one is left out. Raises MirlError when `downloads` is no folder or a link cannot be made.
    """
    if not downloads.is_dir():
        raise MirlError(f"{downloads} does not exist or is no folder; expected the folder where the downloads are unpacked")
    files = _files(downloads.resolve(), root.resolve())
    found = {}
    for one in PUBLISHED:
        links = max((_links(one, layout, files) for layout in one.layouts), key=len)
        found[one.place] = sum(target.parent.name != "target" for target in links)
        for target, source in links.items():
            _link(root / target, source)
    return found


def _scenes(one: PairSet) -> list[Path]:
    """One clean photo of every scene."""
    scenes: dict[str, Path] = {}
    for pair in one.pairs:
        scenes.setdefault(pair.name.partition("_")[0] if one.kind == "dehaze" else pair.name, pair.clean)
    return list(scenes.values())


def _decoded(photos: Sequence[Path], problems: list[Problem]) -> dict[Path, np.ndarray]:
    """The thumbnails of photos; those that cannot be decoded become problems."""
    thumbnails = {}
    for path in photos:
        try:
            thumbnails[path] = thumbnail_of(path)
        except MirlError:
            problems.append(Problem(path, "cannot be decoded"))
    return thumbnails


def _files(downloads: Path, without: Path) -> list[Path]:
    """Every file below a folder, sorted, but for those of the data folder that is being filled."""
    files: list[Path] = []
    for folder, folders, names in os.walk(downloads):
        folders[:] = sorted(name for name in folders if Path(folder, name) != without and name[0] != ".")
        files += [Path(folder, name) for name in sorted(names) if name[0] != "."]
    return files


def _links(one: PublishedSet, layout: Layout, files: Sequence[Path]) -> dict[Path, Path]:
    """Place below a data folder -> file of the download."""
    clean = _matches(layout.clean, files)
    place = Path(one.place)
    if not layout.degraded:
        return {place / f"{name}{path.suffix.lower()}": path for name, (path, _) in clean.items()}
    links: dict[Path, Path] = {}
    for name, (path, number) in _matches(layout.degraded, files).items():
        if number in clean:
            target = clean[number][0]
            links[place / "input" / f"{one.prefix}{name}{INPUT_SUFFIXES[one.kind]}{path.suffix.lower()}"] = path
            links[place / "target" / f"{one.prefix}{number}_gt{target.suffix.lower()}"] = target
    return links


def _matches(pattern: str, files: Sequence[Path]) -> dict[str, tuple[Path, str]]:
    """Name -> the first file that matches, and the id of its clean photo."""
    compiled, found = re.compile(rf".*/{pattern}", re.IGNORECASE), dict[str, tuple[Path, str]]()
    for path in files:
        if match := compiled.fullmatch(path.as_posix()):
            groups = match.groupdict()
            found.setdefault(groups.get("name") or groups["id"], (path, groups["id"]))
    return found


def _link(target: Path, source: Path) -> None:
    if target.is_symlink() and target.resolve() == source.resolve():
        return
    if target.exists() or target.is_symlink():
        raise MirlError(f"{target} exists already and is not {source}; move it away, or link into another folder")
    make_folder(target.parent)
    try:
        target.symlink_to(source)
    except OSError as error:
        raise MirlError(f"cannot link {target} to {source}: {error.strerror}; choose a folder that takes links") from error
