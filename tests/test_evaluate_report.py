"""The report says what the run folders say, fetches nothing, and has the same bytes for the same input."""

import csv
import json
import math
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from mirl.errors import MirlError
from mirl.evaluate.page import Example, crop_window
from mirl.evaluate.report import stage_and_group, write_report
from mirl.layers import parameters
from mirl.recipe import tiny, to_dict

GAINS = {"denoise15": 9.1, "denoise25": 8.2, "denoise50": 8.9, "derain": 1.4, "dehaze": 6.6}
INPUTS = {"denoise15": 24.6, "denoise25": 20.3, "denoise50": 14.7, "derain": 25.9, "dehaze": 16.8}
DENSITIES = (1.0, 0.5527, 0.3067, 0.1714, 0.0971)


def training(folder: Path, record: dict, seed: int, steps: int = 600) -> None:
    """Write the files of one training as mirl.lottery does."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    lines = []
    for step in range(20, steps + 1, 20):
        loss = 0.03 + 0.12 * math.exp(-step / 120) + 0.004 * rng.standard_normal()
        lines.append({"step": step, "loss": loss, "learning_rate": 1e-3, "losses": {"derain": loss}})
        if step % 200 == 0 and step < steps:
            scores = {task: INPUTS[task] + GAINS[task] * (1 - math.exp(-step / 200)) for task in GAINS}
            lines.append({"step": step, "validation": scores})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / ("control.json" if "kind" in record else "level.json")).write_text(json.dumps(record))


def make_record(density: float, seed: int, shift: float = 0.0, tasks: tuple[str, ...] = tuple(GAINS)) -> dict:
    rng = np.random.default_rng(seed + round(density * 1e4))
    tensors = [p for p in parameters(tiny().network) if p.prunable]
    total, prunable = 122_000, 118_000
    kept = round(density * total)
    spread = (
        [1.0] * len(tensors)
        if density == 1
        else np.clip(density * np.exp(0.8 * rng.standard_normal(len(tensors))), 0.005, 1)
    )
    drop = shift + 0.35 * math.log10(density)
    scores = {
        t: {"psnr": INPUTS[t] + GAINS[t] + drop + 0.05 * rng.standard_normal(), "input_psnr": INPUTS[t]} for t in tasks
    }
    return {
        "density": kept / total, "density_prunable": (kept - total + prunable) / prunable,
        "kept": kept, "total": total, "prunable": prunable, "steps": 600,
        "seconds": 41.5 + seed, "validation": scores,
        "layers": {t.name: float(d) for t, d in zip(tensors, spread, strict=True)},
    }  # fmt: skip


def make_run(folder: Path, seed: int = 0, levels: int = 5, controls: tuple[str, ...] = (), name: str = "tiny",
             tasks: tuple[str, ...] = ("denoise25", "derain")) -> Path:  # fmt: skip
    """A realistic run folder: levels of the tiny recipe, and controls at the last density."""
    recipe = {**to_dict(tiny()), "seed": seed, "name": name}
    folder.mkdir(parents=True)
    versions = {"python": "3.11.9", "torch": "2.13.0"}
    (folder / "recipe.json").write_text(json.dumps({"recipe": recipe, "data": "", "versions": versions}))
    for level, density in enumerate(DENSITIES[:levels]):
        training(
            folder / f"level-{level:02d}",
            {"level": level, **make_record(density, seed, tasks=tasks)},
            seed + level,
        )
    for place, kind in enumerate(controls):
        record = make_record(DENSITIES[levels - 1], seed, shift=-0.3 * (place + 1), tasks=tasks)
        if kind == "dense-small":
            record |= {
                "density": 1.0,
                "density_prunable": 1.0,
                "total": record["kept"],
                "prunable": record["kept"],
            }
        training(folder / "controls" / kind, {"kind": kind, **record}, seed + 50 + place)
    return folder


def make_examples(count: int = 2, size: tuple[int, int] = (200, 240)) -> list[Example]:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: size[0], : size[1]] / max(size)
    clean = np.stack(
        [0.5 + 0.4 * np.sin(9 * x + 4 * y), y, np.where((x * 5 % 1 > 0.5) ^ (y * 5 % 1 > 0.5), 0.9, 0.3)],
        axis=-1,
    )
    clean = clean.astype(np.float32)
    tasks = ["denoise25", "dehaze"]

    def spoilt(amount: float) -> np.ndarray:
        return np.clip(clean + amount * rng.standard_normal(clean.shape), 0, 1).astype(np.float32)

    return [Example(tasks[i % 2], f"photo{i}", spoilt(0.1), spoilt(0.03), spoilt(0.031), clean) for i in range(count)]


def body_text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page[page.index("<body>") :]))


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[Path, Path, list[Path]]:
    """One finished run with controls and examples: (run folder, page, all files)."""
    root = tmp_path_factory.mktemp("finished")
    run = make_run(root / "run-a", controls=("reinit", "dense-small"), tasks=tuple(GAINS))
    files = write_report([run], root / "report.html", make_examples())
    return run, files[0], files


def test_files_lie_beside_the_page_and_are_all_named_in_it(finished):
    _, page, files = finished
    names = {path.name for path in files[1:]}
    expected = {f"psnr-{task}.svg" for task in (*GAINS, "mean")} | {"levels.csv", "layers.csv", "curves.csv"}
    assert names == expected | {"layers-0.svg", "loss-0.svg", "validation-0.svg"}
    assert {path.parent for path in files[1:]} == {page.with_name("report-files")}
    for name in names:
        assert f'href="report-files/{name}"' in page.read_text()


def test_the_page_fetches_nothing(finished):
    text = finished[1].read_text()
    targets = re.findall(r'\b(?:src|href|xlink:href)="([^"]*)"', text) + re.findall(r"url\(([^)]*)\)", text)
    assert targets
    for target in targets:
        assert target.startswith(("#", "data:image/png;base64,", "report-files/")), target
    assert not re.search(r"@import|<script|<link|<iframe", text)


def test_inline_plots_have_ids_of_their_own_and_their_references_resolve(finished):
    text = finished[1].read_text()
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    references = re.findall(r'href="#([^"]*)"', text) + re.findall(r"url\(#([^)]*)\)", text)
    assert references
    assert set(references) <= set(ids)


def test_the_page_follows_light_dark_phone_and_print(finished):
    text = finished[1].read_text()
    for needed in (
        "prefers-color-scheme:dark",
        "@media print",
        'name="viewport"',
        "currentColor",
        "var(--grid)",
    ):
        assert needed in text
    svg = next(path for path in finished[2] if path.name == "psnr-dehaze.svg").read_text()
    assert "currentColor" not in svg  # a plot on its own has its own colours


def test_plots_are_xml_with_text_as_text_and_without_a_date(finished):
    for path in finished[2]:
        if path.suffix == ".svg":
            root = ElementTree.fromstring(path.read_text())
            texts = {"".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")}
            assert "dc:date" not in path.read_text()
            if path.name.startswith("psnr-"):
                assert {"PSNR (dB)", "density: parameters kept of all (%, log)"} <= texts
                assert {"dense level", "run-a", "reinit", "dense-small", "100", "50", "20", "10"} <= texts
            if path.name.startswith("layers-"):
                assert {
                    "encoder1",
                    "prompt1",
                    "refinement",
                    "whole network",
                    "density of the tensor (%, log)",
                } <= texts
            if path.name == "loss-0.svg":
                assert {"updates", "L1 loss (log)", "0: 100 %", "4: 9.71 %"} <= texts
            if path.name == "validation-0.svg":
                assert {"updates", "mean PSNR (dB)"} <= texts


def test_csv_numbers_equal_the_run_folder(finished):
    run, _, files = finished
    by_name = {path.name: list(csv.DictReader(path.read_text().splitlines())) for path in files if path.suffix == ".csv"}
    for number in range(len(DENSITIES)):
        record = json.loads((run / f"level-{number:02d}" / "level.json").read_text())
        rows = [r for r in by_name["levels.csv"] if (r["kind"], r["name"]) == ("level", str(number))]
        assert {r["task"]: float(r["psnr"]) for r in rows} == {t: s["psnr"] for t, s in record["validation"].items()}
        assert {r["task"]: float(r["input_psnr"]) for r in rows} == INPUTS
        assert {float(r["density"]) for r in rows} == {record["density"]}
        assert {(int(r["kept"]), int(r["updates"]), float(r["seconds"])) for r in rows} == {(record["kept"], 600, 41.5)}
        layers = [r for r in by_name["layers.csv"] if (r["kind"], r["name"]) == ("level", str(number))]
        assert {r["tensor"]: float(r["density"]) for r in layers} == record["layers"]
        lines = [json.loads(line) for line in (run / f"level-{number:02d}" / "metrics.jsonl").read_text().splitlines()]
        curve = [r for r in by_name["curves.csv"] if (r["kind"], r["name"]) == ("level", str(number))]
        losses = [(int(r["updates"]), float(r["number"])) for r in curve if r["value"] == "loss"]
        assert losses == [(line["step"], line["loss"]) for line in lines if "loss" in line]
        scores = {(int(r["updates"]), r["task"]): float(r["number"]) for r in curve if r["value"] == "psnr"}
        assert scores == {(i["step"], t): v for i in lines if "validation" in i for t, v in i["validation"].items()}
    controls = {r["name"]: r for r in by_name["levels.csv"] if r["kind"] == "control"}
    assert set(controls) == {"reinit", "dense-small"}


def test_a_small_dense_control_stands_at_its_share_of_the_searched_network(finished):
    rows = csv.DictReader(next(p for p in finished[2] if p.name == "levels.csv").read_text().splitlines())
    small = next(row for row in rows if row["name"] == "dense-small")
    assert float(small["density"]) == pytest.approx(0.0971, abs=1e-4)
    assert float(small["density_prunable"]) == 1.0


def test_the_table_shows_every_level_against_dense(finished):
    text = finished[1].read_text()
    record = [json.loads((finished[0] / f"level-0{n}" / "level.json").read_text()) for n in (0, 4)]
    means = [sum(s["psnr"] for s in r["validation"].values()) / 5 for r in record]
    row = next(line for line in text.splitlines() if line.startswith("<tr") and "<td>4</td>" in line)
    assert f"<td>{means[1]:.2f}</td><td>{means[1] - means[0]:+.2f}</td>" in row
    assert 'class="strong"' in row
    assert f"<td>{100 * record[1]['density']:.2f}</td>" in row
    assert "control: reinit" in text
    assert "degraded input" in text


def test_cost_and_provenance_are_told(finished):
    text = body_text(finished[1].read_text())
    assert "run-a, levels 5 3,000 208 14.46" in text
    assert "run-a, controls 2 1,200 83 14.46" in text
    for value in ("recipe.seed 0", "versions.torch 2.13.0", f"recipe.train.learning_rate {tiny().train.learning_rate}"):
        assert value in text
    assert "recipe.tasks.derain sampling 2.0, loss 1.0" in text


@pytest.mark.parametrize(
    ("shift", "words"),
    [(0.04, "matches its dense network: +0.04 dB"), (-0.5, "loses to its dense network: -0.50 dB"),
     (0.3, "beats its dense network: +0.30 dB")],
)  # fmt: skip
def test_the_verdict_is_computed_from_the_numbers(tmp_path, shift, words):
    run = make_run(tmp_path / "run", controls=("reinit",))
    path, dense = run / "level-04" / "level.json", json.loads((run / "level-00" / "level.json").read_text())
    record = json.loads(path.read_text())
    for task, score in record["validation"].items():
        score["psnr"] = dense["validation"][task]["psnr"] + shift + (0.02 if task == "derain" else -0.02)
    path.write_text(json.dumps(record))
    control = json.loads((run / "controls" / "reinit" / "control.json").read_text())
    for task, score in control["validation"].items():
        score["psnr"] = record["validation"][task]["psnr"] - 1.25
    (run / "controls" / "reinit" / "control.json").write_text(json.dumps(control))
    text = body_text(write_report([run], tmp_path / "r.html")[0].read_text())
    assert f"The ticket keeps 9.71 % of all parameters and {words} mean PSNR over 2 tasks" in text
    assert f"to {shift + 0.02:+.2f} (derain)" in text
    assert "One run: nothing is known yet about the spread between seeds." in text
    assert "The strongest of 1 controls of at most its size, reinit, is at -1.25 dB from the ticket." in text
    assert "not finished" not in text


def test_seeds_of_one_recipe_become_one_line_with_a_band(tmp_path):
    runs = [make_run(tmp_path / f"seed{seed}", seed=seed, levels=3) for seed in (0, 1)]
    files = write_report(runs, tmp_path / "r.html")
    text = body_text(files[0].read_text())
    assert "seed0, seed1 (2 runs)" in next(p for p in files if p.name == "psnr-mean.svg").read_text()
    assert "; 2 runs, " in text
    assert "FillBetween" in next(p for p in files if p.name == "psnr-mean.svg").read_text()
    alone = next(p for p in write_report(runs[:1], tmp_path / "s.html") if p.name == "psnr-mean.svg")
    assert "FillBetween" not in alone.read_text()


def test_other_recipes_are_other_lines_with_their_own_verdict(tmp_path):
    runs = [make_run(tmp_path / "a", controls=("reinit",)), make_run(tmp_path / "b", name="small")]
    files = write_report(runs, tmp_path / "r.html")
    text = body_text(files[0].read_text())
    assert "a. The ticket" in text
    assert "b. The ticket" in text
    svg = next(p for p in files if p.name == "psnr-mean.svg").read_text()
    assert "reinit of a" in svg


def test_an_unfinished_run_is_reported_and_said_to_be_unfinished(tmp_path):
    run = make_run(tmp_path / "run", levels=3)
    training_in_progress = run / "level-03"
    training_in_progress.mkdir()
    (training_in_progress / "metrics.jsonl").write_text('{"step": 20, "loss": 0.1}\n')
    text = body_text(write_report([run], tmp_path / "r.html")[0].read_text())
    assert "run is not finished: level 2 is at 30.67 % of all parameters and the recipe asks for 10 %" in text
    assert "The last finished level keeps 30.67 %" in text
    assert "The ticket" not in text


def test_a_dense_network_alone_gets_no_verdict(tmp_path):
    run = make_run(tmp_path / "run", levels=1)
    text = body_text(write_report([run], tmp_path / "r.html")[0].read_text())
    assert "Only the dense network is trained yet: there is no ticket to judge." in text


def test_a_curve_cut_by_a_kill_is_read_and_a_damaged_one_is_named(tmp_path):
    run = make_run(tmp_path / "run", levels=2)
    curve = run / "level-01" / "metrics.jsonl"
    whole = curve.read_text()
    curve.write_text(whole + '{"step": 60')
    write_report([run], tmp_path / "r.html")
    curve.write_text('{"step": 60\n' + whole)
    with pytest.raises(MirlError, match=r"line 1 of .*metrics.jsonl is not a line of training metrics"):
        write_report([run], tmp_path / "r.html")


def test_a_run_without_curves_or_layers_still_gets_a_report(tmp_path):
    run = make_run(tmp_path / "run", levels=2)
    for number in (0, 1):
        (run / f"level-0{number}" / "metrics.jsonl").unlink()
        path = run / f"level-0{number}" / "level.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "layers": {}}))
    files = write_report([run], tmp_path / "r.html")
    assert not [p for p in files if p.name.startswith(("loss", "validation", "layers-"))]
    assert "<h2>Training</h2>" not in files[0].read_text()


def test_a_layer_that_kept_nothing_is_drawn(tmp_path):
    run = make_run(tmp_path / "run", levels=2)
    path = run / "level-01" / "level.json"
    record = json.loads(path.read_text())
    record["layers"]["embed.weight"] = 0.0
    path.write_text(json.dumps(record))
    svg = next(p for p in write_report([run], tmp_path / "r.html") if p.name == "layers-0.svg")
    assert "encoder, nothing kept" in svg.read_text()


def test_the_same_runs_give_the_same_bytes(tmp_path):
    run = make_run(tmp_path / "run", levels=3, controls=("reinit",))
    first = [p.read_bytes() for p in write_report([run], tmp_path / "r.html", make_examples(1))]
    again = [p.read_bytes() for p in write_report([run], tmp_path / "r.html", make_examples(1))]
    assert first == again


def test_names_are_escaped_everywhere(tmp_path):
    run = make_run(tmp_path / "<b>&run", levels=2)
    example = make_examples(1)[0]
    spiced = Example("<i>task", '"><script>', example.degraded, example.dense, example.ticket, example.clean)
    page, *others = write_report([run], tmp_path / "r.html", [spiced])
    text = page.read_text()
    assert not re.search(r"<b>|<i>|<script", text)
    assert "&lt;b&gt;&amp;run" in text
    assert "&lt;i&gt;task" in text
    for path in others:
        if path.suffix == ".svg":
            ElementTree.fromstring(path.read_text())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: run.rename(run.with_name("gone")), "no run folder at .*run"),
        (lambda run: (run / "recipe.json").unlink(), "is not a run folder: it has no recipe.json"),
        (lambda run: (run / "recipe.json").write_text("{}"), "recipe.json is not the recipe of a run"),
        (lambda run: (run / "recipe.json").write_text("[1]"), "expected an object"),
        (lambda run: (run / "level-00" / "level.json").unlink(), "no finished level yet"),
        (
            lambda run: (run / "level-01" / "level.json").write_text('{"level": 1'),
            "level.json is not the level.json",
        ),
        (lambda run: rewrite(run, density=float("nan")), "expected a finite number"),
        (lambda run: rewrite(run, density=1.5), "has density 1.5; expected above 0 and at most 1"),
        (lambda run: rewrite(run, validation={}), "shares no validated task"),
    ],
)
def test_a_missing_foreign_or_damaged_run_is_one_clear_error(tmp_path, spoil, message):
    run = make_run(tmp_path / "run", levels=2)
    spoil(run)
    with pytest.raises(MirlError, match=message) as caught:
        write_report([run], tmp_path / "r.html")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "r.html").exists()


def rewrite(run: Path, **values: object) -> None:
    path = run / "level-01" / "level.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_no_run_another_suffix_and_runs_without_a_common_task_are_refused(tmp_path):
    one, other = make_run(tmp_path / "one", levels=1), make_run(tmp_path / "other", levels=1)
    with pytest.raises(MirlError, match="no run to report on"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(MirlError, match=r"expected a name ending in .html"):
        write_report([one], tmp_path / "r.txt")
    path = other / "level-00" / "level.json"
    web = {"web": {"psnr": 30.0, "input_psnr": 28.0}}
    path.write_text(json.dumps({**json.loads(path.read_text()), "validation": web}))
    with pytest.raises(MirlError, match="the runs share no validated task"):
        write_report([one, other], tmp_path / "r.html")
    assert "denoise25" not in body_text(write_report([other], tmp_path / "r.html")[0].read_text()).split("Provenance")[0]


def test_runs_of_one_folder_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / "x" / "run", levels=1), make_run(tmp_path / "y" / "run", levels=1, seed=1)]
    text = write_report(runs, tmp_path / "r.html")[0].read_text()
    assert str(runs[0]) in text
    assert str(runs[1]) in text


def test_the_crop_is_where_the_input_is_worst():
    clean = np.zeros((400, 500, 3), np.float32)
    degraded = clean.copy()
    degraded[200:360, 320:480] = 0.5
    assert crop_window(degraded, clean) == (200, 320)
    assert crop_window(clean, clean) == (0, 0)
    assert crop_window(clean[:100, :90], clean[:100, :90]) == (0, 0)
    degraded[:] = 0
    degraded[399, 499] = 1.0
    top, left = crop_window(degraded, clean)
    assert (top, left) == (240, 340)  # the first windows that hold the last pixel are the last that fit


@pytest.mark.parametrize("seed", range(8))
def test_the_crop_agrees_with_adding_up_every_window(seed):
    error = np.random.default_rng(seed).random((190, 203, 3)) ** 8
    places = [(top, left) for top in (0, 8, 16, 24, 30) for left in (0, 8, 16, 24, 32, 40, 43)]
    totals = [np.square(error[top : top + 160, left : left + 160]).sum() for top, left in places]
    assert crop_window(error, np.zeros_like(error)) == places[int(np.argmax(totals))]


def test_crops_are_at_scale_one_with_the_psnr_of_the_whole_image(finished):
    text = finished[1].read_text()
    assert text.count('width="160" height="160" src="data:image/png;base64,') == 8
    example = make_examples()[0]
    rounded = np.rint(example.ticket * 255) / 255
    expected = -10 * math.log10(np.mean((rounded.astype(np.float64) - example.clean) ** 2))
    assert f"<figcaption>ticket {expected:.2f} dB</figcaption>" in text
    assert "<h3>denoise25: photo0</h3>" in text


def test_an_example_with_images_of_two_sizes_is_refused(tmp_path):
    run, good = make_run(tmp_path / "run", levels=1), make_examples(1)[0]
    bad = Example("dehaze", "a", good.degraded, good.dense[:-1], good.ticket, good.clean)
    with pytest.raises(MirlError, match="different sizes"):
        write_report([run], tmp_path / "r.html", [bad])


def test_every_tensor_of_the_network_has_a_group():
    groups = {name: stage_and_group(name)[1] for name in (p.name for p in parameters(tiny().network))}
    assert groups["embed.weight"] == groups["latent.0.attention.qkv.weight"] == "encoder"
    assert groups["prompt1.values"] == groups["mix3.0.feed_forward.expand.weight"] == "prompt"
    assert groups["output.weight"] == groups["fuse2.weight"] == groups["up1.weight"] == "decoder"


def test_without_matplotlib_the_error_says_what_to_install(tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", levels=1)
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(MirlError, match=r"pip install 'mirl\[report\]'"):
        write_report([run], tmp_path / "r.html")
