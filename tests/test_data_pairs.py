"""Folders of pairs: what is found, bad input by its name, overlap, inventory, synthesised pairs."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mirl.data import overlap
from mirl.data.bundled import held_out_photos, training_photos
from mirl.data.inventory import check_data, list_data
from mirl.data.pairs import Pair, decode_problems, find_sets
from mirl.data.synth import synthesise
from mirl.errors import MirlError
from mirl.image import read_pixels


def picture(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def pair(root: Path, name: str, kind: str = "derain", suffix: str = "rainy", target: str | None = None) -> None:
    picture(root / kind / "S" / "input" / f"{name}_{suffix}.png")
    picture(root / kind / "S" / "target" / f"{target or name}_gt.png")


@pytest.fixture
def root(tmp_path) -> Path:
    """A sound folder: two photos, three rainy pairs."""
    for name in ("b.jpg", "a.png"):
        picture(tmp_path / "denoise" / "T" / name)
    for name in ("2", "1", "3"):
        pair(tmp_path, name)
    return tmp_path


def test_sets_are_found_sorted_with_their_pairs(root):
    (root / "denoise" / "T" / "readme.txt").write_text("not an image")
    picture(root / "denoise" / "T" / ".hidden.png")
    denoise, derain = find_sets(root)
    assert (denoise.kind, denoise.name) == ("denoise", "T")
    assert denoise.pairs == tuple(Pair(p.stem, None, p) for p in sorted((root / "denoise/T").glob("[ab].*")))
    assert [p.name for p in derain.pairs] == ["1", "2", "3"]
    assert derain.pairs[0].degraded == root / "derain/S/input/1_rainy.png"
    assert derain.pairs[0].clean == root / "derain/S/target/1_gt.png"
    assert [s.kind for s in find_sets(root, kinds=["derain"])] == ["derain"]


def test_the_extension_may_differ_between_input_and_target_and_be_upper_case(root):
    (root / "derain/S/input/1_rainy.png").unlink()
    picture(root / "derain/S/input/1_rainy.JPG", format="JPEG")
    assert find_sets(root, ["derain"])[0].pairs[0].degraded.name == "1_rainy.JPG"


def test_one_clean_image_serves_many_hazy_ones(tmp_path):
    for name in ("0001_0.8_0.2", "0001_1_0.04", "7_10"):
        picture(tmp_path / "dehaze/S/input" / f"{name}_hazy.jpg")
    picture(tmp_path / "dehaze/S/input/bsd_12_0.9_0.1_hazy.jpg")
    for name in ("0001", "7", "bsd_12", "0001_1_0.04"):
        picture(tmp_path / "dehaze/S/target" / f"{name}_gt.png")
    partners = {p.name: p.clean.name for p in find_sets(tmp_path)[0].pairs}
    assert partners == {
        "0001_0.8_0.2": "0001_gt.png",
        "0001_1_0.04": "0001_1_0.04_gt.png",
        "7_10": "7_gt.png",
        "bsd_12_0.9_0.1": "bsd_12_gt.png",
    }


def test_a_turned_photo_is_measured_as_it_is_read(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    picture(tmp_path / "web/S/input/a_web.jpg", (40, 30), exif=exif)
    picture(tmp_path / "web/S/target/a_gt.png", (30, 40))
    (found,) = find_sets(tmp_path)
    assert read_pixels(found.pairs[0].degraded).shape == read_pixels(found.pairs[0].clean).shape == (40, 30, 3)


def spoil_missing_input(root: Path) -> str:
    (root / "derain/S/input/2_rainy.png").unlink()
    return "target/2_gt.png (no partner, expected input/2_rainy.*)"


def spoil_missing_target(root: Path) -> str:
    (root / "derain/S/target/2_gt.png").unlink()
    return "input/2_rainy.png (no partner, expected target/2_gt.*)"


def spoil_size(root: Path) -> str:
    picture(root / "derain/S/input/2_rainy.png", (41, 30))
    return "input/2_rainy.png (is 41x30 but its target 40x30)"


def spoil_pair_file(root: Path) -> str:
    (root / "derain/S/target/2_gt.png").write_bytes(b"no image")
    return "target/2_gt.png (unreadable image)"


def spoil_photo(root: Path) -> str:
    (root / "denoise/T/a.png").write_bytes(b"")
    return "denoise/T/a.png (unreadable image)"


def spoil_double(root: Path) -> str:
    picture(root / "derain/S/target/2_gt.jpg")
    return "target/2_gt.png (same name as 2_gt.jpg)"


def spoil_empty_set(root: Path) -> str:
    (root / "denoise/EMPTY").mkdir()
    return "denoise/EMPTY (holds no image)"


def spoil_empty_side(root: Path) -> str:
    (root / "derain/NEW/input").mkdir(parents=True)
    (root / "derain/NEW/target").mkdir()
    return "derain/NEW/input (holds no image)"


def spoil_missing_side(root: Path) -> str:
    picture(root / "dehaze/NEW/input/1_hazy.png")
    return "dehaze/NEW/target (missing folder)"


def spoil_no_set(root: Path) -> str:
    (root / "web").mkdir()
    return "web (holds no set, expected web/SET/input/NAME_web.png with web/SET/target/NAME_gt.png)"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_missing_input, spoil_missing_target, spoil_size, spoil_pair_file, spoil_photo, spoil_double,
        spoil_empty_set, spoil_empty_side, spoil_missing_side, spoil_no_set,
    ],
)  # fmt: skip
def test_a_bad_file_is_named_and_an_error_unless_skipped(root, spoil):
    message = spoil(root)
    with pytest.raises(MirlError) as error:
        find_sets(root)
    assert message in str(error.value)
    assert "bad file" in str(error.value)
    assert "--skip-bad" in str(error.value)
    assert "\n" not in str(error.value)
    kept = find_sets(root, skip_bad=True)
    assert sum(len(one.pairs) for one in kept) >= 4
    assert all(one.pairs for one in kept)


def test_many_bad_files_are_five_names_and_a_count(root):
    for number in range(10, 18):
        picture(root / "derain/S/input" / f"{number}_rainy.png")
    with pytest.raises(MirlError, match=r"8 bad files or folders: .*14_rainy\.png \([^)]*\) and 3 more;") as error:
        find_sets(root)
    assert str(error.value).count("no partner") == 5
    assert len(find_sets(root, skip_bad=True)[1].pairs) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "none", "none does not exist; expected a data folder that holds denoise, derain"),
        (lambda p: picture(p / "x.png"), "x.png is a file; expected a data folder"),
        (lambda p: p, r"holds none of the folders denoise, .*denoise/SET/\*\.png"),
    ],
)
def test_a_folder_that_is_no_data_folder_is_an_error_even_when_skipping(tmp_path, make, message):
    with pytest.raises(MirlError, match=message):
        find_sets(make(tmp_path), skip_bad=True)


def test_nothing_usable_is_an_error_even_when_skipping(tmp_path):
    picture(tmp_path / "derain/S/input/1_rainy.png")
    (tmp_path / "derain/S/target").mkdir()
    with pytest.raises(MirlError, match="expected at least one usable photo or pair"):
        find_sets(tmp_path, skip_bad=True)


def test_an_unknown_kind_is_answered_with_the_known_ones(root):
    with pytest.raises(MirlError, match="unknown folder kind 'snow'; expected one of denoise, derain, dehaze, web"):
        find_sets(root, kinds=["snow"])


def test_a_file_damaged_behind_its_header_is_found_by_decoding(root):
    path = root / "derain/S/target/2_gt.png"
    path.write_bytes(path.read_bytes()[:-200])
    sets = find_sets(root)
    assert [(p.path, p.reason) for p in decode_problems(sets)] == [(path, "cannot be decoded")]
    report = check_data(root)
    assert [p.path for p in report.problems] == [path]
    assert report.files == 2 + 6 - 1


def test_the_inventory_counts_images_sizes_bytes_and_tasks(root):
    picture(root / "denoise/T/c.png", (100, 20))
    sets, problems = list_data(root)
    assert problems == []
    denoise, derain = sets
    assert (denoise.images, denoise.smallest, denoise.largest) == (3, (30, 40), (20, 100))
    assert denoise.tasks == ("denoise15", "denoise25", "denoise50")
    assert derain.tasks == ("derain",)
    size = sum(p.stat().st_size for p in (root / "derain").rglob("*.png"))
    assert derain.megabytes == pytest.approx(size / 1e6)


def test_a_planted_duplicate_is_found_whatever_its_name_size_and_format(tmp_path):
    photos = training_photos()[:6]
    (tmp_path / "train/denoise/A").mkdir(parents=True)
    for path in photos[:3]:
        shutil.copy(path, tmp_path / "train/denoise/A")
    (tmp_path / "test/denoise/B").mkdir(parents=True)
    for path in photos[3:]:
        shutil.copy(path, tmp_path / "test/denoise/B")
    assert check_data(tmp_path / "train", tmp_path / "test").overlaps == ()
    with Image.open(photos[1]) as photo:
        photo.resize((333, 222)).save(tmp_path / "test/denoise/B/other.jpg", quality=50)
    (found,) = check_data(tmp_path / "train", tmp_path / "test").overlaps
    assert (found.first.name, found.second.name) == (photos[1].name, "other.jpg")
    assert 0 < found.difference < overlap.SAME_BELOW


def test_the_prefilter_of_the_overlap_search_misses_nothing():
    rng = np.random.default_rng(0)
    ours = rng.integers(0, 256, (40, 32, 32)).astype(np.float32)
    theirs = np.concatenate([ours[::2] + rng.uniform(-7, 7, (20, 1, 1)) + rng.normal(0, 3, (20, 32, 32)), ours[:3] + 1])
    distances = np.abs(ours[:, None] - theirs[None]).mean(axis=(2, 3))
    places, differences = overlap.nearest(ours, theirs.astype(np.float32), threshold=5.0)
    expected = np.where(distances.min(axis=1) < 5, distances.argmin(axis=1), -1)
    assert places.tolist() == expected.tolist()
    assert 0 < (expected >= 0).sum() < 40
    assert np.allclose(differences[expected >= 0], distances.min(axis=1)[expected >= 0], atol=1e-3)
    assert overlap.nearest(ours, ours[:0])[0].tolist() == [-1] * 40


def test_bundled_photographs_are_distinct_attributed_and_small():
    photos = [*training_photos(), *held_out_photos()]
    assert len(held_out_photos()) == 4
    assert len(photos) == 29
    thumbnails = np.stack([overlap.thumbnail_of(path) for path in photos])
    distances = np.abs(thumbnails[:, None] - thumbnails[None]).mean(axis=(2, 3))
    assert distances[~np.eye(29, dtype=bool)].min() > 15
    folder = photos[0].parent
    attribution = (folder / "ATTRIBUTION.md").read_text()
    for path in photos:
        (line,) = [x for x in attribution.splitlines() if x.startswith(f"| {path.relative_to(folder).as_posix()} |")]
        assert any(licence in line for licence in ("CC0", "CC-BY-", "public domain"))
    assert sum(path.stat().st_size for path in photos) < 8e6


@pytest.fixture
def clean_folder(tmp_path) -> Path:
    for number in range(3):
        picture(tmp_path / "clean" / f"p{number}.png", seed=number)
    return tmp_path / "clean"


@pytest.mark.parametrize(
    ("task", "kind", "suffix"),
    [
        ("derain", "derain", "rainy"),
        ("dehaze", "dehaze", "hazy"),
        ("web", "web", "web"),
        ("denoise25", "denoise25", "noisy"),
    ],
)
def test_synthesised_pairs_have_the_layout_and_the_pixels_of_their_photo(tmp_path, clean_folder, task, kind, suffix):
    out = tmp_path / "out"
    written = synthesise(clean_folder, out, task, count=4)
    (found,) = find_sets(out, kinds=[kind])
    assert (found.kind, found.name) == (kind, "clean")
    assert [p.name for p in found.pairs] == ["p0", "p0-2", "p1", "p2"]
    assert {p.degraded for p in written} == {p.degraded for p in found.pairs}
    assert found.pairs[0].degraded.name == f"p0_{suffix}.png"
    assert np.array_equal(read_pixels(found.pairs[1].clean), read_pixels(clean_folder / "p0.png"))
    first, second = (read_pixels(p.degraded) for p in found.pairs[:2])
    assert not np.array_equal(first, read_pixels(found.pairs[0].clean))
    assert not np.array_equal(first, second)


def test_synthesised_pairs_depend_on_name_and_seed_alone(tmp_path, clean_folder):
    def files(out: str) -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in sorted((tmp_path / out).rglob("*.png"))}

    seen: list[str] = []
    synthesise(clean_folder, tmp_path / "a", "derain", 3, seed=5, on_pair=lambda p: seen.append(p.source.name))
    assert seen == ["p0.png", "p1.png", "p2.png"]
    synthesise(clean_folder, tmp_path / "b", "derain", 3, seed=5)
    assert files("a") == files("b")
    picture(clean_folder / "a-new-first.png", seed=9)
    synthesise(clean_folder, tmp_path / "c", "derain", seed=5)
    assert files("c").items() > files("a").items()
    synthesise(clean_folder, tmp_path / "d", "derain", seed=6)
    assert files("d")["p0_rainy.png"] != files("a")["p0_rainy.png"]


def test_synthesis_never_overwrites(tmp_path, clean_folder):
    synthesise(clean_folder, tmp_path / "out", "web", count=2)
    before = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")}
    with pytest.raises(MirlError, match=r"p0_web\.png and 3 more exist already"):
        synthesise(clean_folder, tmp_path / "out", "web", count=3, seed=1)
    assert {p: p.read_bytes() for p in (tmp_path / "out").rglob("*.png")} == before


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: folder / "none", "none is not a folder; expected a folder of clean photos"),
        (lambda folder: folder.parent, "holds no image; expected clean photos directly in it"),
        (lambda folder: picture(folder / "p0.jpg").parent, r"p0\.jpg and p0\.png .* rename one"),
    ],
)
def test_synthesis_names_what_is_wrong_with_its_input(tmp_path, clean_folder, spoil, message):
    with pytest.raises(MirlError, match=message):
        synthesise(spoil(clean_folder), tmp_path / "out", "derain")
    assert not (tmp_path / "out").exists()


def test_synthesis_refuses_an_unknown_task_and_a_count_below_one(tmp_path, clean_folder):
    with pytest.raises(MirlError, match="unknown task 'snow'"):
        synthesise(clean_folder, tmp_path / "out", "snow")
    with pytest.raises(MirlError, match="count of at least 1, found 0"):
        synthesise(clean_folder, tmp_path / "out", "derain", count=0)
