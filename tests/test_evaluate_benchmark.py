"""Each protocol is what it says, numbers depend on names alone, and the JSON is the documented one."""

import csv
import json
import math
import shutil
import zlib
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from mirl.data.pairs import Pair
from mirl.degrade.tasks import TASKS
from mirl.errors import MirlError
from mirl.evaluate.benchmark import Evaluation, ImageScore, evaluate
from mirl.evaluate.figures import Figures
from mirl.evaluate.metrics import psnr, ssim
from mirl.evaluate.protocol import PROTOCOLS, add_noise, load_pair
from mirl.image import quantise


def photo(height: int, width: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([0.5 + 0.4 * np.sin(6 * x + 3 * y + seed), y, x], axis=-1) + 0.03 * rng.standard_normal(
        (height, width, 3)
    )
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_pair(folder: Path, name: str, suffix: str, clean: np.ndarray, degraded: np.ndarray) -> None:
    save(folder / "target" / f"{name}_gt.png", clean)
    save(folder / "input" / f"{name}_{suffix}.png", degraded)


@pytest.fixture
def data(tmp_path) -> Path:
    """Two clean photos, two rain pairs, one haze pair; sizes that are no multiple of 16."""
    for number, name in enumerate(("101085", "101087")):
        save(tmp_path / "denoise" / "CBSD68" / f"{name}.png", photo(37, 50, number))
    for number in range(2):
        clean = photo(33, 49, 10 + number)
        save_pair(tmp_path / "derain" / "Rain100L", f"rain-00{number}", "rainy", clean, clean // 2 + 60)
    clean = photo(40, 41, 20)
    save_pair(tmp_path / "dehaze" / "SOTS", "0586", "hazy", clean, clean // 2 + 110)
    return tmp_path


def identity(image: np.ndarray) -> np.ndarray:
    return image


def halfway(image: np.ndarray) -> np.ndarray:
    """A restorer whose values lie between 8-bit levels and beyond [0, 1]."""
    return (image * 1.1 - 0.04).astype(np.float32)


def scores(evaluation: Evaluation) -> list[tuple[object, ...]]:
    return [(i.task, i.set, i.image, *astuple(i.figures)) for i in evaluation.images]


def test_noise_is_the_documented_formula_for_both_roundings():
    clean = quantise(photo(20, 30, 0).astype(np.float32) / 255)
    levels = np.rint(clean.astype(np.float64) * 255)
    noise = 25 * np.random.default_rng(zlib.crc32(b"101085:25")).standard_normal(clean.shape)
    noisy = np.clip(levels + noise, 0, 255)
    rounded, floored = add_noise(clean, 25.0, "101085", "round"), add_noise(clean, 25.0, "101085", "floor")
    assert np.array_equal(np.rint(rounded * 255), np.rint(noisy))
    assert np.array_equal(np.rint(floored * 255), noisy.astype(np.uint8))
    assert rounded.dtype == np.float32
    assert np.array_equal(quantise(rounded), rounded)


def test_noise_golden_values():
    """Origin: numpy 2.4, PCG64 seeded with crc32(b"101085:50"), on flat grey 128."""
    grey = np.full((1, 2, 3), 128 / 255, np.float32)
    assert np.rint(add_noise(grey, 50.0, "101085") * 255).astype(int).ravel().tolist() == GOLDEN["101085", 50]
    assert np.rint(add_noise(grey, 15.0, "a") * 255).astype(int).ravel().tolist() == GOLDEN["a", 15]


GOLDEN = {("101085", 50): [87, 112, 86, 193, 152, 136], ("a", 15): [130, 151, 137, 97, 113, 150]}


def test_noise_depends_on_name_and_sigma():
    grey = np.full((16, 16, 3), 128 / 255, np.float32)
    images = [add_noise(grey, sigma, name) for sigma, name in ((15, "a"), (25, "a"), (15, "b"))]
    assert not any(np.array_equal(images[i], images[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_paper_crops_centred_to_16_before_the_noise_and_standard_keeps_the_size(data):
    path = data / "denoise" / "CBSD68" / "101085.png"
    pair, full = Pair("101085", None, path), np.asarray(Image.open(path)).astype(np.float32) / 255
    degraded, clean = load_pair(pair, TASKS["denoise25"], PROTOCOLS["paper"])
    assert np.allclose(clean, full[2:34, 1:49], atol=1e-6)  # 37x50 -> 32x48, centred
    assert np.array_equal(degraded, add_noise(clean, 25.0, "101085", "floor"))
    degraded, clean = load_pair(pair, TASKS["denoise25"], PROTOCOLS["standard"])
    assert clean.shape == (37, 50, 3)
    assert np.array_equal(degraded, add_noise(clean, 25.0, "101085", "round"))


def test_paper_crops_both_sides_of_a_pair_alike(data):
    folder = data / "derain" / "Rain100L"
    pair = Pair("rain-000", folder / "input" / "rain-000_rainy.png", folder / "target" / "rain-000_gt.png")
    degraded, clean = load_pair(pair, TASKS["derain"], PROTOCOLS["paper"])
    assert clean.shape == (32, 48, 3)
    assert np.array_equal(np.rint(degraded * 255), np.rint(clean * 255) // 2 + 60)


def test_standard_rounds_the_output_and_paper_only_clips_it(data):
    for name, rule, window in (
        ("standard", quantise, "gaussian"),
        ("paper", lambda x: np.clip(x, 0, 1), "uniform"),
    ):
        score = evaluate(halfway, data, name, ["dehaze"]).images[0]
        folder = data / "dehaze" / "SOTS"
        pair = Pair("0586", folder / "input" / "0586_hazy.png", folder / "target" / "0586_gt.png")
        degraded, clean = load_pair(pair, TASKS["dehaze"], PROTOCOLS[name])
        restored = rule(halfway(degraded))
        expected = (
            psnr(restored, clean),
            ssim(restored, clean, window),
            psnr(degraded, clean),
            ssim(degraded, clean, window),
        )
        assert astuple(score.figures) == expected
    unrounded, rounded = np.clip(halfway(degraded), 0, 1), quantise(halfway(degraded))
    assert psnr(unrounded, clean) != psnr(rounded, clean)


def test_every_set_gives_its_tasks_and_denoising_gives_three(data):
    rows = [(row.task, row.set, row.images) for row in evaluate(identity, data).rows]
    assert rows == [
        ("denoise15", "CBSD68", 2),
        ("denoise25", "CBSD68", 2),
        ("denoise50", "CBSD68", 2),
        ("derain", "Rain100L", 2),
        ("dehaze", "SOTS", 1),
    ]


def test_numbers_depend_neither_on_the_order_nor_on_the_other_images(data):
    tasks = ["dehaze", "denoise50", "derain", "denoise15"]
    whole = evaluate(halfway, data, "standard")
    some = evaluate(halfway, data, "standard", tasks)
    assert scores(some) == scores(evaluate(halfway, data, "standard", tasks[::-1]))
    assert set(scores(some)) < set(scores(whole))
    save(data / "denoise" / "CBSD68" / "100000.png", photo(37, 50, 5))  # now first of its set
    assert set(scores(whole)) < set(scores(evaluate(halfway, data, "standard")))


def test_a_restorer_that_works_in_place_does_not_change_the_inputs_own_row(data):
    def in_place(image: np.ndarray) -> np.ndarray:
        image *= 0.9
        return image

    plain = evaluate(lambda image: image * np.float32(0.9), data, tasks=["derain"])
    assert scores(evaluate(in_place, data, tasks=["derain"])) == scores(plain)


def test_the_restorer_gets_8_bit_float32_images_of_their_size(data):
    seen = []
    evaluate(lambda image: seen.append(image) or image, data, "standard")
    assert {image.dtype for image in seen} == {np.dtype(np.float32)}
    assert {image.shape for image in seen} == {(37, 50, 3), (33, 49, 3), (40, 41, 3)}
    assert all(np.array_equal(quantise(image), image) for image in seen)


def test_limit_takes_the_first_images_of_each_set(data):
    limited = evaluate(identity, data, limit=1)
    assert [image.image for image in limited.images] == ["101085", "101085", "101085", "rain-000", "0586"]
    with pytest.raises(MirlError, match="--limit is a number of images for each set, at least 1, found 0"):
        evaluate(identity, data, limit=0)


def test_json_is_exactly_the_documented_one(data):
    evaluation = evaluate(halfway, data, "paper")
    value = json.loads(json.dumps(evaluation.to_json("small"), allow_nan=False))
    assert list(value) == ["ticket", "protocol", "rows"]
    assert (value["ticket"], value["protocol"]) == ("small", "paper")
    assert len(value["rows"]) == 5
    for row in value["rows"]:
        assert list(row) == ["task", "set", "images", "psnr", "ssim", "input_psnr", "input_ssim"]
        images = [i for i in evaluation.images if (i.task, i.set) == (row["task"], row["set"])]
        assert row["images"] == len(images)
        for name in ("psnr", "ssim", "input_psnr", "input_ssim"):
            assert row[name] == pytest.approx(sum(getattr(i.figures, name) for i in images) / len(images), abs=1e-12)


def test_a_perfect_restoration_is_capped_at_100_db(data):
    clean = np.asarray(Image.open(data / "dehaze" / "SOTS" / "target" / "0586_gt.png")).astype(np.float32) / 255
    evaluation = evaluate(lambda image: clean, data, tasks=["dehaze"])
    assert evaluation.images[0].figures.psnr == 100.0
    json.dumps(evaluation.to_json("x"), allow_nan=False)


def test_csv_holds_every_image_in_full(data, tmp_path):
    evaluation = evaluate(halfway, data)
    evaluation.write_csv(tmp_path / "scores.csv")
    rows = list(csv.DictReader((tmp_path / "scores.csv").read_text().splitlines()))
    assert list(rows[0]) == ["task", "set", "image", "psnr", "ssim", "input_psnr", "input_ssim", "seconds"]
    assert [(r["task"], r["image"], float(r["psnr"]), float(r["input_ssim"])) for r in rows] == [
        (i.task, i.image, i.figures.psnr, i.figures.input_ssim) for i in evaluation.images
    ]


def test_a_csv_that_cannot_be_written_is_one_clear_error(tmp_path):
    with pytest.raises(MirlError, match="cannot write"):
        Evaluation("paper", ()).write_csv(tmp_path / "missing" / "scores.csv")


def shown(evaluation: Evaluation) -> str:
    console = Console(width=160, record=True, no_color=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(evaluation.table())
        return console.export_text()


def test_the_table_shows_the_input_beside_the_output_and_says_how_the_mean_is_made(data):
    evaluation = evaluate(halfway, data, "paper")
    text = shown(evaluation)
    row = evaluation.rows[3].figures
    line = next(line for line in text.splitlines() if "derain" in line)
    for cell in (
        f"{row.input_psnr:.2f}",
        f"{row.psnr:.2f}",
        f"{row.psnr - row.input_psnr:+.2f}",
        f"{row.ssim:.4f}",
    ):
        assert cell in line
    flat = " ".join(text.split())
    assert "centre crop to a multiple of 16, output clipped, not rounded, SSIM uniform 7x7, noise floored" in flat
    assert "Mean of 3 tasks: denoise (mean of sigma 15, 25, 50), derain and dehaze count once each" in flat
    flat = " ".join(shown(evaluate(halfway, data, "standard", ["derain"])).split())
    assert "full size, output rounded to 8 bits, SSIM Gaussian 11x11, sigma 1.5, noise rounded to 8 bits" in flat
    assert "Mean of 3 tasks" not in flat


def test_the_mean_counts_three_tasks_and_leaves_other_domains_out():
    def image(task: str, name: str, value: float) -> ImageScore:
        return ImageScore(task, name, "x", Figures(value, value / 100, value / 2, value / 200), 0.0)

    images = [
        image("denoise15", "CBSD68", 34),
        image("denoise25", "CBSD68", 31),
        image("denoise50", "CBSD68", 28),
    ]
    images += [image("derain", "MyRain", 36), image("derain", "OtherRain", 38)]
    images += [image("dehaze", "SOTS", 30), image("dehaze", "HSTS", 28), image("dehaze", "HazeRD", 10)]
    mean = Evaluation("paper", tuple(images)).summary()
    assert mean is not None
    assert astuple(mean) == pytest.approx(((31 + 37 + 29) / 3, 0.97 / 3, 97 / 6, 0.97 / 6))
    assert Evaluation("paper", tuple(i for i in images if i.task != "denoise50")).summary() is None
    assert Evaluation("paper", tuple(i for i in images if i.task != "dehaze")).summary() is None


def test_web_is_made_from_clean_photos_only_when_asked_for(data):
    assert "web" not in {row.task for row in evaluate(identity, data).rows}
    evaluation = evaluate(identity, data, tasks=["web"])
    assert [(row.task, row.set, row.images) for row in evaluation.rows] == [("web", "CBSD68", 2)]
    assert 10 < evaluation.rows[0].figures.input_psnr < 60
    assert scores(evaluation) == scores(evaluate(identity, data, tasks=["denoise15", "web"]))[2:]
    clean = photo(37, 50, 0)
    save_pair(data / "web" / "Platform", "a", "web", clean, clean // 2)
    assert [row.set for row in evaluate(identity, data, tasks=["web"]).rows] == ["Platform"]


def test_progress_counts_every_image(data):
    seen: list[tuple[int, int, str]] = []
    evaluate(identity, data, progress=lambda done, total, label: seen.append((done, total, label)))
    assert [done for done, _, _ in seen] == list(range(1, 10))
    assert {total for _, total, _ in seen} == {9}
    assert seen[-1][2] == "dehaze SOTS"


def test_unknown_task_protocol_and_empty_task_list_are_refused(data):
    with pytest.raises(MirlError, match=r"unknown task .drizzle.*derain"):
        evaluate(identity, data, tasks=["drizzle"])
    with pytest.raises(MirlError, match="unknown protocol 'psnr'; expected one of paper, standard"):
        evaluate(identity, data, "psnr")
    with pytest.raises(MirlError, match="no task to evaluate"):
        evaluate(identity, data, tasks=[])


def test_missing_and_empty_data_are_refused(data, tmp_path):
    for folder in (tmp_path / "nothing", tmp_path / "empty"):
        if folder.name == "empty":
            folder.mkdir()
        with pytest.raises(MirlError, match=str(folder)):
            evaluate(identity, folder)


def test_a_task_without_a_set_is_refused_naming_what_is_there(data):
    (data / "dehaze").rename(data / "elsewhere")
    with pytest.raises(MirlError, match=r"no set for task dehaze in .*found derain/Rain100L, expected dehaze/SET"):
        evaluate(identity, data, tasks=["derain", "dehaze"])
    assert "dehaze" not in {row.task for row in evaluate(identity, data).rows}


@pytest.mark.parametrize(
    ("restore", "message"),
    [
        (lambda image: image[:-1], r"returned shape \(32, 49, 3\) for rain-000 of Rain100L \(derain\)"),
        (lambda image: image[..., :1], r"returned shape \(33, 49, 1\)"),
        (lambda image: image * np.float32(math.nan), "returned NaN or infinity for rain-000"),
        (lambda image: image + np.float32(math.inf), "returned NaN or infinity for rain-000"),
    ],
)
def test_a_wrong_output_stops_the_evaluation_naming_the_image(data, restore, message):
    with pytest.raises(MirlError, match=message):
        evaluate(restore, data, tasks=["derain"])


def test_an_unreadable_image_is_named_or_skipped_and_told(data):
    path = data / "denoise" / "CBSD68" / "101085.png"
    path.write_bytes(path.read_bytes()[:-200])  # its header still reads
    with pytest.raises(MirlError, match=r"101085\.png"):
        evaluate(identity, data)
    evaluation = evaluate(identity, data, skip_bad=True)
    assert [row.images for row in evaluation.rows] == [1, 1, 1, 2, 1]
    assert len(evaluation.skipped) == 1
    assert "101085.png" in evaluation.skipped[0]
    (data / "denoise" / "CBSD68" / "101087.png").unlink()
    with pytest.raises(MirlError, match="no image of CBSD68 could be measured for denoise15"):
        evaluate(identity, data, skip_bad=True)


def test_noisy_pairs_are_said_to_be_left_out(data):
    (data / "denoise50" / "SET" / "input").mkdir(parents=True)
    (said,) = evaluate(lambda image: image, data, "standard", limit=1).skipped
    assert "denoise50: noise is added here to the clean photos of" in said
    assert not evaluate(lambda image: image, data, "standard", ["denoise25"], limit=1).skipped
    for kind in ("denoise", "derain", "dehaze"):
        shutil.rmtree(data / kind, ignore_errors=True)
    for tasks in (None, ["denoise50"]):
        with pytest.raises(MirlError, match=r"expected.*; .*denoise50: noise is added here to the clean photos of"):
            evaluate(lambda image: image, data, "standard", tasks)


@pytest.mark.parametrize(("protocol", "smallest"), [("paper", 16), ("standard", 11)])
def test_an_image_too_small_to_measure_is_named_or_skipped(data, protocol, smallest):
    save(data / "denoise" / "CBSD68" / "0small.png", photo(smallest - 1, 40, 0))
    with pytest.raises(MirlError, match=f"0small.png has 40x{smallest - 1} pixels; expected at least {smallest}x{smallest}"):
        evaluate(identity, data, protocol)
    assert evaluate(identity, data, protocol, skip_bad=True).rows[0].images == 2
    save(data / "denoise" / "CBSD68" / "0small.png", photo(smallest, 40, 0))
    assert evaluate(identity, data, protocol).rows[0].images == 3


def test_a_pair_of_two_sizes_is_refused(tmp_path):
    save(tmp_path / "a.png", photo(30, 40, 0))
    save(tmp_path / "b.png", photo(30, 41, 0))
    with pytest.raises(MirlError, match=r"b\.png has 41x30 pixels and .*a\.png has 40x30; expected one size"):
        load_pair(Pair("a", tmp_path / "b.png", tmp_path / "a.png"), TASKS["derain"], PROTOCOLS["standard"])
