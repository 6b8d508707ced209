"""The suite people: measures say what they should, inputs are files as people have them, numbers depend on names alone."""

import csv
import io
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import mirl.evaluate.people.groups as groups
from mirl import load, restore_file
from mirl.errors import MirlError
from mirl.evaluate.metrics import psnr
from mirl.evaluate.people.development import DEVELOPMENT
from mirl.evaluate.people.groups import DEVELOPMENT_GROUP, GROUPS
from mirl.evaluate.people.measures import block_means, detail_kept, measure
from mirl.evaluate.people.suite import NAMES, measure_people, written
from mirl.image import quantise, read_pixels

SIZE = (48, 64)


def photo(seed: int, height: int = SIZE[0], width: int = SIZE[1]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([0.5 + 0.3 * np.sin(6 * x + 3 * y + seed), 0.2 + 0.6 * y, 0.1 + 0.7 * x], axis=-1)
    return np.rint(np.clip(image + 0.03 * rng.standard_normal(image.shape), 0, 1) * 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray, **options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def save_pair(folder: Path, name: str, suffix: str, seed: int, ending: str = "png") -> None:
    clean = photo(seed)
    noise = np.random.default_rng(seed + 100).normal(0, 12, clean.shape)
    save(folder / "target" / f"{name}_gt.{ending}", clean)
    save(folder / "input" / f"{name}_{suffix}.{ending}", np.clip(clean + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of test sets with two pictures of each kind, and pictures of our own."""
    root = tmp_path / "tests"
    for number, name in enumerate(("kodim01", "kodim02")):
        save(root / "denoise" / "Kodak24" / f"{name}.png", photo(number))
        save(root / "denoise" / "CBSD68" / f"10{name}.png", photo(number + 10))
        save_pair(root / "real" / "CC15", f"d600_{number}", "real", number + 20)
        save_pair(root / "derain" / "Rain100L", f"rain-00{number}", "rainy", number + 30)
        for kind in ("rain", "haze", "tone"):
            save(root / "wild" / kind / f"{kind}{number}.jpg", photo(number + 40), quality=92)
    for number, name in enumerate(("Canon80D_8_8_3200_ball_1", sorted(DEVELOPMENT)[0])):
        save_pair(root / "real" / "PolyU", name, "real", number + 50, "jpg")
    save_pair(root / "dehaze" / "SOTS", "0586_0.8_0.2", "hazy", 60)
    save_pair(root / "dehaze" / "HSTS", "0001_0.8_0.2", "hazy", 61)
    own = tmp_path / "own"
    for number, place in enumerate(("graphics/light", "graphics/dark", "tone")):
        save(own / place / f"page{number}.png", photo(number + 70))
    monkeypatch.setattr(groups, "people_pictures", lambda: own)
    return root


def identity(pixels: np.ndarray) -> np.ndarray:
    return pixels


def darker(pixels: np.ndarray) -> np.ndarray:
    return pixels * np.float32(0.9)


def test_a_picture_that_stays_as_it_is_gains_nothing_moves_nothing_and_keeps_all_detail():
    image = photo(0).astype(np.float32) / 255
    found = measure(image, image, image)
    assert found.figures is not None
    assert found.figures.psnr == found.figures.input_psnr == 60.0
    assert (found.brightness_shift, found.dark_shift, found.block_shift) == (0, 0, 0)
    assert found.detail == pytest.approx(1)
    assert measure(image, image, None).figures is None


def test_shifts_are_levels_against_the_truth_and_against_the_input_without_one():
    clean = np.full((70, 40, 3), 100 / 255, np.float32)
    clean[:10] = 20 / 255
    brighter = clean + np.float32(6 / 255)
    found = measure(brighter, np.zeros_like(clean), clean)
    assert found.brightness_shift == pytest.approx(6, abs=1e-4)
    assert found.dark_shift == pytest.approx(6, abs=1e-4)
    assert found.block_shift == pytest.approx(6, abs=1e-4)
    assert measure(clean, brighter, None).brightness_shift == pytest.approx(-6, abs=1e-4)
    spot = clean.copy()
    spot[32:64, 0:32, 2] -= np.float32(30 / 255)  # one block and one channel
    moved = measure(spot, clean, clean)
    assert moved.block_shift == pytest.approx(30, abs=1e-4)
    assert abs(moved.brightness_shift) < 30 * 32 * 32 / (70 * 40) / 3 + 1e-3


def test_blocks_are_whole_and_small_pictures_are_one():
    image = np.arange(70 * 40 * 3, dtype=np.float64).reshape(70, 40, 3)
    means = block_means(image)
    assert means.shape == (2, 1, 3)
    assert means[1, 0] == pytest.approx(image[32:64, :32].mean(axis=(0, 1)))
    assert block_means(image[:12, :40]).shape == (1, 1, 3)


def test_detail_falls_with_blur_and_not_with_noise():
    rng = np.random.default_rng(0)
    clean = rng.uniform(0.2, 0.8, (128, 128))
    blurred = (clean + np.roll(clean, 1, 0) + np.roll(clean, 1, 1) + np.roll(clean, (1, 1), (0, 1))) / 4
    assert detail_kept(clean, clean) == pytest.approx(1)
    assert detail_kept(blurred, clean) < 0.4
    assert detail_kept(0.5 * clean, clean) == pytest.approx(0.25)
    assert detail_kept(clean + rng.normal(0, 0.1, clean.shape), clean) == pytest.approx(1, abs=0.05)
    assert detail_kept(-clean, clean) == 0
    assert detail_kept(clean, np.full_like(clean, 0.5)) == 1


def test_every_group_gives_its_tests_and_development_photographs_enter_no_figure(tests):
    found = measure_people({"same": identity}, tests)
    rows = [(row.group, row.task, row.set, row.images) for row in found.rows]
    assert rows == [
        ("real", "real", "PolyU", 1), ("real", "real", "CC15", 2),
        *(("coded", f"{of}-jpeg{quality}", where, 2)
          for of, where in (("noise25", "Kodak24"), ("rain", "Rain100L"), ("haze", "SOTS+HSTS")) for quality in (75, 95)),
        *(("grey", f"grey{sigma}", "Kodak24", 2) for sigma in (15, 25, 50)),
        *(("jpeg", f"jpeg{quality}", "Kodak24", 2) for quality in (10, 20, 30, 50, 75, 90)),
        ("clean", "clean", "Kodak24", 2), ("clean", "clean", "CBSD68", 2),
        ("graphics", "graphics-light", "own", 1), ("graphics", "graphics-dark", "own", 1),
        ("tone", "tone", "tone", 2), ("tone", "tone", "own", 1),
        ("wild", "wild-rain", "rain", 2), ("wild", "wild-haze", "haze", 2),
    ]  # fmt: skip
    assert not found.lacking
    assert not {image.image for image in found.images} & DEVELOPMENT
    own = measure_people({"same": identity}, tests, ["development"])
    assert [image.image for image in own.images] == [sorted(DEVELOPMENT)[0]]
    assert tuple(GROUPS) + tuple(DEVELOPMENT_GROUP) == NAMES


def test_inputs_are_files_as_people_have_them(tests):
    """Coded after degrading, 4:2:0; grey noise in a file of one channel, from the documented generator."""
    clean = np.asarray(Image.open(tests / "denoise" / "Kodak24" / "kodim01.png"))
    trials = {trial.name: trial for group in GROUPS.values() for trial in group}
    (pair, _), _ = groups.find_pictures(trials["grey25"], tests)
    example = trials["grey25"].make(pair)
    file = Image.open(io.BytesIO(example.content))
    levels = np.asarray(Image.fromarray(clean).convert("L"), np.float64)
    normal = np.random.default_rng(zlib.crc32(b"kodim01:grey:25")).standard_normal(levels.shape)
    assert (file.format, file.mode) == ("PNG", "L")
    assert np.array_equal(np.asarray(file), np.rint(np.clip(levels + 25 * normal, 0, 255)))
    assert np.array_equal(np.rint(example.clean * 255), np.repeat(levels[..., None], 3, axis=2))

    for name, quality in (("noise25-jpeg75", 75), ("rain-jpeg95", 95), ("jpeg10", 10)):
        (pair, _), _ = groups.find_pictures(trials[name], tests)
        example = trials[name].make(pair)
        buffer = io.BytesIO()
        Image.fromarray(clean).save(buffer, "JPEG", quality=quality, subsampling=2)
        file, expected = Image.open(io.BytesIO(example.content)), Image.open(buffer)
        assert file.format == "JPEG"
        assert file.quantization == expected.quantization
        assert [component[1:3] for component in file.layer] == [(2, 2), (1, 1), (1, 1)]
        assert np.array_equal(np.rint(example.clean * 255), np.asarray(Image.open(pair.clean)))


def test_what_is_made_is_made_of_the_middle_and_what_is_found_stays_whole(tests):
    large = photo(3, 400, 500)
    save(tests / "denoise" / "Kodak24" / "kodim01.png", large)
    save(tests / "wild" / "tone" / "tone0.jpg", large)
    trials = {trial.name: trial for group in GROUPS.values() for trial in group}
    (pair, _), _ = groups.find_pictures(trials["jpeg50"], tests)
    assert np.array_equal(np.rint(trials["jpeg50"].make(pair).clean * 255), large[8:392, 58:442])
    (pair, _), _ = groups.find_pictures(GROUPS["tone"][0], tests)
    example = GROUPS["tone"][0].make(pair)
    assert example.clean.shape == (400, 500, 3)
    assert example.content == pair.clean.read_bytes()


def test_numbers_depend_neither_on_other_groups_nor_on_other_pictures_nor_on_the_run(tests):
    def scores(images):
        return {(i.task, i.set, i.image): i.measures for i in images}

    whole, some = measure_people({"darker": darker}, tests), measure_people({"darker": darker}, tests, ["grey", "coded"])
    assert scores(some.images).items() <= scores(whole.images).items()
    save(tests / "denoise" / "Kodak24" / "a.png", photo(99))
    assert scores(whole.images).items() <= scores(measure_people({"darker": darker}, tests).images).items()
    first = measure_people({"darker": darker}, tests, ["grey"], limit=1)
    assert {row.images for row in first.rows} == {1}


def test_rows_say_gain_share_made_worse_and_the_worst_picture(tests):
    calls = iter((1.0, 0.5, 0.98))

    def uneven(pixels):
        return pixels * np.float32(next(calls))

    found = measure_people({"uneven": uneven}, tests, ["real"])
    gains = [image.measures.figures.gain for image in found.images]
    assert gains[0] == 0
    assert gains[1] < -1
    (group,) = found.to_json()["groups"]
    assert group["images"] == 3
    assert group["gain"] == pytest.approx(sum(gains) / 3)
    assert group["median_gain"] == sorted(gains)[1]
    assert group["worse_share"] == pytest.approx(sum(gain < -0.1 for gain in gains) / 3)
    assert (group["worst_image"], group["worst_gain"]) == ("d600_0", min(gains))
    assert group["largest_block_shift"] == max(image.measures.block_shift for image in found.images)
    assert group["blocks_over_10"] >= 1


def test_json_and_csv_hold_the_documented_form_and_more(tests, tmp_path):
    found = measure_people({"small": identity}, tests, ["grey", "wild"])
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert list(value) == ["as_written", "rows", "groups", "lacking"]
    for row in value["rows"]:
        assert {"task", "set", "images", "psnr", "ssim", "input_psnr", "input_ssim"} < set(row)
        known = row["group"] == "grey"
        assert all((row[name] is not None) == known for name in ("psnr", "input_ssim", "gain", "worse_share"))
    assert [row["group"] for row in value["groups"]] == ["grey", "wild"]
    found.write_csv(tmp_path / "images.csv")
    lines = list(csv.DictReader((tmp_path / "images.csv").read_text().splitlines()))
    assert len(lines) == len(found.images) == 10
    assert float(lines[0]["psnr"]) == found.images[0].measures.figures.psnr
    assert lines[-1]["psnr"] == ""
    assert float(lines[-1]["block_shift"]) == found.images[-1].measures.block_shift


def test_the_table_fits_120_columns_and_names_every_test(tests):
    found = measure_people({"small": darker, "other": identity}, tests)
    console = Console(width=120, record=True, file=io.StringIO())
    for table in found.tables():
        console.print(table)
    text = console.export_text()
    assert "…%" not in text
    assert text.count("What people have: ") == 2
    for row in found.rows:
        assert row.label in text
    line = next(line for line in text.splitlines() if "grey: all" in line)
    assert f"{found.to_json()['groups'][2]['gain']:+.2f}" in line


def test_as_written_scores_the_very_file_that_restore_writes(tests, tmp_path):
    ticket = load("small")
    from mirl.engine.engine import open_backend, restore_pixels

    backend = open_backend(ticket)
    plain = measure_people({"small": lambda pixels: restore_pixels(backend, pixels)}, tests, ["real"])
    found = measure_people({"small": lambda pixels: restore_pixels(backend, pixels)}, tests, ["real"], as_written=True)
    assert found.to_json()["as_written"]
    image = found.images[0]
    assert image.measures.figures.psnr != plain.images[0].measures.figures.psnr
    source = tests / "real" / "PolyU" / "input" / f"{image.image}_real.jpg"
    target = restore_file(source, tmp_path / "out.jpg", ticket)
    clean = quantise(read_pixels(tests / "real" / "PolyU" / "target" / f"{image.image}_gt.jpg"))
    assert image.measures.figures.psnr == psnr(read_pixels(target), clean)
    trial = next(trial for trial in GROUPS["grey"])
    (pair, _), _ = groups.find_pictures(trial, tests)
    example = trial.make(pair)
    assert np.array_equal(written(example, example.degraded), example.degraded)  # PNG loses nothing


def test_what_is_lacking_is_named_and_the_rest_is_measured(tests):
    for path in (tests / "wild" / "haze").iterdir():
        path.unlink()
    (tests / "real" / "CC15" / "input" / "d600_0_real.png").write_bytes(b"no picture")
    save(tests / "wild" / "tone" / "tiny.png", photo(1, 8, 8))
    (tests / "wild" / "rain" / "rain0.jpg").write_bytes((tests / "wild" / "rain" / "rain0.jpg").read_bytes()[:-300])
    found = measure_people({"same": identity}, tests)
    text = " ".join(found.lacking)
    for word in ("wild/haze holds no image", "d600_0_real.png: unreadable image", "tiny.png is too small", "rain0.jpg"):
        assert word in text
    assert {row.group for row in found.rows} == set(GROUPS)
    with pytest.raises(MirlError, match="does not exist or is no folder"):
        measure_people({"same": identity}, tests / "none")
    empty = tests / "empty"
    empty.mkdir()
    with pytest.raises(MirlError, match=r"nothing to measure.*real/PolyU is missing"):
        measure_people({"same": identity}, empty, ["real"])


@pytest.mark.parametrize(
    ("restore", "message"),
    [
        (lambda pixels: pixels[:-1], r"returned shape \(47, 64, 3\) for kodim01 of Kodak24 \(grey15, bad\)"),
        (lambda pixels: pixels * np.float32("nan"), "returned NaN or infinity for kodim01 of Kodak24"),
    ],
)
def test_a_wrong_output_is_named(tests, restore, message):
    with pytest.raises(MirlError, match=message):
        measure_people({"bad": restore}, tests, ["grey"])


def test_wrong_requests_are_refused(tests):
    with pytest.raises(MirlError, match="unknown group 'rain'; expected some of real, coded"):
        measure_people({"same": identity}, tests, ["rain"])
    with pytest.raises(MirlError, match="--limit is a number of images"):
        measure_people({"same": identity}, tests, limit=0)
    with pytest.raises(MirlError, match="no group to measure"):
        measure_people({"same": identity}, tests, [])


def test_pictures_show_input_output_and_truth_side_by_side(tests, tmp_path):
    measure_people({"some/dark.mirl": darker}, tests, ["grey", "wild"], limit=1, pictures=tmp_path / "look")
    files = sorted(path.relative_to(tmp_path / "look").as_posix() for path in (tmp_path / "look").rglob("*.png"))
    assert files == [
        *(f"grey/grey{sigma}-Kodak24-kodim01-dark.png" for sigma in (15, 25, 50)),
        "wild/wild-haze-haze-haze0-dark.png", "wild/wild-rain-rain-rain0-dark.png",
    ]  # fmt: skip
    strip, without_truth = (np.rint(read_pixels(tmp_path / "look" / file) * 255) for file in (files[0], files[-1]))
    assert strip.shape == (SIZE[0], 3 * SIZE[1], 3)
    with Image.open(tests / "denoise" / "Kodak24" / "kodim01.png") as clean:
        assert np.array_equal(strip[:, 2 * SIZE[1] :, 0], np.asarray(clean.convert("L")))
    assert without_truth.shape == (SIZE[0], 2 * SIZE[1], 3)


def test_progress_counts_every_picture_and_method(tests):
    seen: list[tuple[int, int, str]] = []
    measure_people({"a": identity, "b": darker}, tests, ["wild"], progress=lambda *each: seen.append(each))
    assert [done for done, _, _ in seen] == list(range(1, 9))
    assert {total for _, total, _ in seen} == {8}
    assert seen[-1][2] == "wild-haze haze"
