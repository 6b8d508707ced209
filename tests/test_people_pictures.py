"""The project's own pictures: all there, small, of pages in fonts that training does not use, and not in the wheel."""

import re
import tomllib
from pathlib import Path

from PIL import Image

from mirl.data.bundled import people_pictures
from mirl.evaluate.people.groups import GROUPS, find_pictures

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "bench" / "people_pages"


def test_every_own_trial_finds_its_pictures_and_they_are_small():
    own = [trial for group in GROUPS.values() for trial in group if trial.own]
    found = {trial.name: find_pictures(trial, Path("none")) for trial in own}
    assert {name: len(pairs) for name, (pairs, _) in found.items()} == {
        "graphics-light": 11,
        "graphics-dark": 10,
        "tone": 17,
    }
    assert not any(lacking for _, lacking in found.values())
    pictures = [pair.clean for pairs, _ in found.values() for pair in pairs]
    assert sum(path.stat().st_size for path in pictures) < 1.5e6
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.mode == "RGB"
            assert max(picture.size) <= 480


def test_every_page_has_its_picture():
    for page in PAGES.glob("*/*.html"):
        group = page.parent.name
        folder = people_pictures() / (group if group == "tone" else f"graphics/{group}")
        assert (folder / f"{page.stem}.png").exists(), page


def test_pages_name_their_fonts_fetch_nothing_and_leave_trainings_font_alone():
    for page in PAGES.glob("*/*.html"):
        text = page.read_text()
        assert not re.search(r"DejaVu|https?:|url\((?!#)", text), page
        assert not re.search(r"font(-family)?[:=][^;>]*\b(sans-serif|serif|monospace|system-ui)\b", text), page


def test_the_wheel_leaves_them_out():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["mirl"]
    package = people_pictures().parents[1]
    assert not any(path.is_relative_to(people_pictures()) for pattern in patterns for path in package.glob(pattern))
    assert "people" not in (ROOT / "MANIFEST.in").read_text()
