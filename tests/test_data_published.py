"""The published sets: recognised as they are unpacked, counted, linked into MIR-L's layout, and compared with each other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirl.cli import main
from mirl.data import published
from mirl.data.pairs import find_sets
from mirl.data.published import PUBLISHED, check_published, link_published
from mirl.errors import MirlError

LAYOUTS = {
    "train/denoise/WED": [["WED/pristine_images/00001.bmp"], ["WED/00001.bmp"], ["Train/Denoise/00001.bmp"]],
    "train/denoise/BSD400": [["BSR/BSDS500/data/images/train/100075.jpg"], ["x/BSDS500/data/images/test/100007.jpg"],
                             ["BSD400/100075.jpg"], ["Train/Denoise/100075.jpg"], ["data/BSD400/100075.bmp"]],
    "train/derain/Rain100L": [
        ["rain_data_train_Light/norain/norain-7.png", "rain_data_train_Light/rain/X2/norain-7x2.png"],
        ["RainTrainL/norain-7.png", "RainTrainL/rain-7.png"],
        ["data/Train/Derain/gt/norain-7.png", "data/Train/Derain/rainy/rain-7.png"],
    ],
    "train/dehaze/OTS": [
        ["OTS_ALPHA/clear/clear_images/0005.jpg", "OTS_ALPHA/haze/OTS/0005_0.8_0.04.jpg",
         "OTS_ALPHA/haze/OTS/0005_1_0.2.jpg"],
        ["RESIDE/OTS/clear/0005.jpg", "RESIDE/OTS/hazy/part1/0005_0.8_0.04.jpg", "RESIDE/OTS/hazy/part2/0005_1_0.2.jpg"],
        ["Train/Dehaze/original/0005.jpg", "Train/Dehaze/synthetic/part1/0005_0.8_0.04.jpg",
         "Train/Dehaze/synthetic/part2/0005_1_0.2.jpg"],
    ],
    "test/denoise/BSD68": [["CBSD68-dataset/CBSD68/original_png/101085.png"], ["BSD68/101085.jpg"],
                           ["test/denoise/bsd68/101085.jpg"]],
    "test/denoise/Urban100": [["Urban100/image_SRF_4/img_001_SRF_4_HR.png"], ["Urban100/img_001.png"],
                              ["test/denoise/urban100/img_001.png"]],
    "test/derain/Rain100L": [
        ["rain_data_test_Light/norain/norain-001.png", "rain_data_test_Light/rain/X2/norain-001x2.png"],
        ["Rain100L/norain-001.png", "Rain100L/rainy/rain-001.png"],
        ["Rain100L/target/1.png", "Rain100L/input/1.png"],
    ],
    "test/dehaze/SOTS": [["SOTS/outdoor/gt/0001.png", "SOTS/outdoor/hazy/0001_0.8_0.2.jpg"],
                         ["SOTS/outdoor/clear/0001.png", "SOTS/outdoor/hazy/0001_0.8_0.2.jpg"],
                         ["test/dehaze/target/0001.png", "test/dehaze/input/0001_0.8_0.2.jpg"]],
}  # fmt: skip


def photo(path: Path, seed: int = 0) -> None:
    """A picture of large patches, so that its thumbnail is its own."""
    patches = np.random.default_rng(seed).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.kron(patches, np.ones((8, 8, 1), np.uint8))).save(path)


def every_layout() -> list[tuple[str, list[str]]]:
    return [(place, files) for place, layouts in LAYOUTS.items() for files in layouts]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets of the size that the tests make: one image, and of OTS two hazes of one."""
    small = tuple(replace(one, images=2 if one.name == "OTS" else 1) for one in PUBLISHED)
    monkeypatch.setattr(published, "PUBLISHED", small)


def unpacked(folder: Path) -> Path:
    for seed, layouts in enumerate(LAYOUTS.values()):
        for name in layouts[0]:
            photo(folder / name, seed)
    return folder


def test_the_counts_are_those_of_an_epoch_of_the_published_run():
    from mirl.recipe import PAPER_EPOCH

    images = {one.name: one.images for one in PUBLISHED if one.side == "train"}
    samples = 3 * 3 * (images["WED"] + images["BSD400"]) + 120 * images["Rain100L"] + images["OTS"]
    assert samples // 8 == PAPER_EPOCH == 17_803
    assert {one.place for one in PUBLISHED} == set(LAYOUTS)
    assert all(one.url.startswith("https://") and one.source for one in PUBLISHED)


@pytest.mark.parametrize(("place", "files"), every_layout(), ids=lambda it: it if isinstance(it, str) else it[0])
def test_a_download_is_recognised_and_linked_so_that_it_can_be_read(place: str, files: list[str], tmp_path):
    for name in files:
        photo(tmp_path / "downloads" / name)
    found = link_published(tmp_path / "downloads", tmp_path / "data")
    degraded = max(len(files) - 1, 1)
    assert {name: count for name, count in found.items() if count} == {place: degraded}
    side, kind, name = place.split("/")
    (one,) = find_sets(tmp_path / "data" / side)
    assert (one.kind, one.name, len(one.pairs)) == (kind, name, degraded)
    assert all(path.is_symlink() for path in (tmp_path / "data").rglob("*") if not path.is_dir())
    assert check_published(tmp_path / "data").found[place] == degraded


@pytest.mark.usefixtures("few")
def test_a_complete_folder_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    unpacked(tmp_path / "downloads")
    words = ["data", "paper", str(tmp_path / "data"), "--link", str(tmp_path / "downloads")]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "2 of train/dehaze/OTS" in out
    assert "ok: every set of the published run is there" in out
    assert "in training and test" not in out
    assert main(words) == 0  # linking again changes nothing


@pytest.mark.usefixtures("few")
def test_what_is_missing_is_named_with_where_it_is_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    link_published(unpacked(tmp_path / "downloads"), tmp_path / "data")
    next((tmp_path / "data" / "train" / "denoise" / "WED").iterdir()).unlink()
    photo(tmp_path / "data" / "test" / "denoise" / "Urban100" / "img_002.png", 99)
    assert main(["data", "paper", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr()
    assert (
        "train/denoise/WED: 1 of 1 images missing; published at https://ece.uwaterloo.ca/~k29ma/exploration/" in printed.out
    )
    assert "test/denoise/Urban100: 1 images more than the paper's" in printed.out
    assert printed.err.strip().endswith("2 of 8 sets are missing or not as published")


@pytest.mark.usefixtures("few")
def test_a_test_scene_in_a_training_set_is_found_whatever_its_name_and_format(tmp_path: Path, capsys):
    link_published(unpacked(tmp_path / "downloads"), tmp_path / "data")
    rain = list(LAYOUTS).index("test/derain/Rain100L")
    (tmp_path / "data" / "train" / "denoise" / "BSD400" / "100075.jpg").unlink()
    photo(tmp_path / "data" / "train" / "denoise" / "BSD400" / "100075.jpg", rain)
    report = check_published(tmp_path / "data")
    ((both),) = report.doubled
    assert (both.train, both.test, both.photos) == ("train/denoise/BSD400", "test/derain/Rain100L", 1)
    assert [path.name for path in both.example] == ["100075.jpg", "rain-001_gt.png"]
    assert main(["data", "paper", str(tmp_path / "data")]) == 0
    out = capsys.readouterr().out
    assert "1 photos of test/derain/Rain100L are in train/denoise/BSD400, such as 100075.jpg and rain-001_gt.png" in out


def test_a_folder_by_its_other_name_counts(tmp_path: Path):
    photo(tmp_path / "test" / "denoise" / "CBSD68" / "101085.png")
    assert check_published(tmp_path).found["test/denoise/BSD68"] == 1


def test_a_haze_without_its_photo_is_left_out_and_a_bad_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    photo(tmp_path / "downloads" / "SOTS" / "outdoor" / "hazy" / "0001_0.8_0.2.jpg")
    assert link_published(tmp_path / "downloads", tmp_path / "data")["test/dehaze/SOTS"] == 0
    bad = tmp_path / "data" / "test" / "denoise" / "Urban100" / "img_001.png"
    bad.parent.mkdir(parents=True)
    bad.write_bytes(b"no image")
    assert main(["data", "paper", str(tmp_path / "data")]) == 1
    assert f"bad: {bad}: unreadable image" in capsys.readouterr().out


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("place", ["train/denoise/WED", "train/dehaze/OTS", "test/derain/Rain100L"])
def test_a_damaged_photo_behind_a_good_header_is_named_and_does_not_count(place: str, tmp_path: Path, capsys):
    link_published(unpacked(tmp_path / "downloads"), tmp_path / "data")
    folder = tmp_path / "data" / place
    damaged = next(iter((folder if "denoise" in place else folder / "target").iterdir()))
    content = damaged.read_bytes()
    damaged.unlink()
    damaged.write_bytes(content[:-100])
    assert find_sets(tmp_path / "data" / place.partition("/")[0])  # the headers are good
    assert main(["data", "paper", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr()
    assert f"bad: {damaged}: cannot be decoded" in printed.out
    assert check_published(tmp_path / "data").found[place] == 0
    assert printed.err.strip().endswith("1 of 8 sets are missing or not as published")


def test_another_file_in_the_way_is_never_overwritten(tmp_path: Path):
    photo(tmp_path / "downloads" / "BSD68" / "101085.png")
    mine = tmp_path / "data" / "test" / "denoise" / "BSD68" / "101085.png"
    photo(mine, 1)
    before = mine.read_bytes()
    with pytest.raises(MirlError, match="exists already"):
        link_published(tmp_path / "downloads", tmp_path / "data")
    assert mine.read_bytes() == before


def test_folders_that_are_not_there_are_one_clear_error(tmp_path: Path):
    for work in (lambda: check_published(tmp_path / "none"), lambda: link_published(tmp_path / "none", tmp_path)):
        with pytest.raises(MirlError, match="does not exist or is no folder"):
            work()
