"""The pipeline of the evidence, whole, with a network that trains in milliseconds."""

import json
import shutil
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
from PIL import Image

from conftest import mini_data
from mirl.errors import MirlError
from mirl.evaluate.crops import GAP, RANKS
from mirl.evaluate.evidence import MARKS, write_results
from mirl.evaluate.page import CROP
from mirl.evaluate.runs import Level, Run, read_runs
from mirl.evaluate.scores import COLUMNS, Scored, ratio, read_scores
from mirl.evaluate.verdict import ASKED, paired, verdict
from mirl.files import make_folder, sha256, write_json
from mirl.lottery.run import RunFolder
from mirl.lottery.verify import verify
from mirl.recipe import PruneConfig, Recipe, TrainConfig
from mirl.ticket import SHIPPED

sys.path.append(str(Path(__file__).parents[1] / "bench"))

import evidence
import evidence_files
import evidence_measure
import ticket_times


@pytest.fixture
def places(mini_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> evidence.Places:
    monkeypatch.setattr(evidence, "PUBLISHED", replace(mini_recipe, rewind_step=1))
    pilot = replace(mini_recipe, train=TrainConfig(steps=2, batch=2, patch=16), prune=replace(mini_recipe.prune, keep=1.0))
    thin = replace(pilot, prune=PruneConfig(keep=0.5, fraction=0.9, score="lamp", rate_exponent=0.5))
    late = replace(thin, rewind_step=1)
    monkeypatch.setattr(evidence, "PILOTS", {"first": pilot, "thin": thin, "late": late})
    monkeypatch.setattr(evidence_files, "PILOTS", evidence.PILOTS)
    monkeypatch.setattr(evidence, "BASE", "first")
    monkeypatch.setattr(evidence, "WITH_LESS_RAIN", replace(mini_recipe, seed=4))
    monkeypatch.setattr(evidence, "BY_MAGNITUDE", replace(mini_recipe, seed=5))
    monkeypatch.setattr(evidence_measure, "ROUNDS", 1)
    monkeypatch.setattr(ticket_times, "HEIGHT", 48)
    tests = tmp_path / "tests"
    for kind, suffix in (("derain", "rainy"), ("dehaze", "hazy")):
        for side, name in (("input", f"a_{suffix}.png"), ("target", "a_gt.png")):
            folder = tests / kind / "SET" / side
            folder.mkdir(parents=True)
            Image.new("RGB", (24, 20), "teal").save(folder / name)
    (tests / "denoise" / "SET").mkdir(parents=True)
    Image.new("RGB", (24, 20), "teal").save(tests / "denoise" / "SET" / "a.png")
    return evidence.Places(mini_data(), tests, tmp_path / "runs", tmp_path / "results", "cpu")


def test_the_pipeline_runs_to_its_end_from_any_number_of_windows(
    places: evidence.Places, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
):
    evidence.advance(places, evidence.time.monotonic() - 1, "")
    assert "time is up before: pilots/first: search" in capsys.readouterr().out
    first = next(step for step in evidence.steps(places))
    assert not first.work(0.0), "one update, then stopped at a safe point"
    evidence.advance(places, None, "small: search")
    shutil.move(places.runs, tmp_path / "moved")  # a copied folder of runs goes on
    places = replace(places, runs=tmp_path / "moved")
    evidence.advance(places, None, "")
    assert "all steps are done" in capsys.readouterr().out
    assert waiting(places) == []
    for name, controls in (
        ("small", len(evidence.CONTROLS) + 1),
        ("small-start", 1),
        ("small-web", 0),
        ("less-rain", len(evidence.CONTROLS)),
        ("small-macs", 0),
        ("small-seed1", 1),
        ("magnitude", 0),
    ):
        audit = verify(places.runs / name)
        assert audit.ok, audit.problems
        assert audit.finished
        assert len(audit.controls) == controls
    names = {path.name for path in (places.results / "scores").glob("*.json")}
    assert {"small-level-00-standard.json", "small-reinit-standard.json"} <= names
    scores = json.loads((places.results / "scores" / "small-level-00-standard.json").read_text())
    assert {row["task"] for row in scores["rows"]} == set(evidence_measure.MEASURED)
    assert scores["figures"]["density"] == 1.0
    pilots = json.loads((places.results / "pilots.json").read_text())["rows"]
    assert [(row["pilot"], row["steps"], row["density"] > 0.5) for row in pilots] == [
        ("first", 2, True), ("thin", 2, False), ("late", 1, False),
    ]  # fmt: skip
    assert all(set(row["validation_psnr"]) == {"denoise25", "derain", "dehaze"} for row in pilots)
    runs = places.runs / "pilots"
    dense = [(runs / name / "level-00" / "weights.safetensors").read_bytes() for name in ("first", "thin", "late")]
    assert dense[0] == dense[1] != dense[2], "the sparse pilots begin with the dense one, but for a late rewind point"
    record = places.results / "runs" / "small" / "level-01" / "level.json"
    assert record.read_bytes() == (RunFolder(places.runs / "small").level(1).path / "level.json").read_bytes()
    assert not list(places.results.rglob("*.safetensors"))
    shutil.rmtree(places.runs)
    evidence.unpack(places)  # what is published is enough to verify a run, and to go on
    for name in evidence.PACKED:
        audit = verify(places.runs / name)
        assert audit.ok, audit.problems
        assert audit.finished
        assert len(audit.levels) == 3
    assert len(verify(places.runs / "small").controls) == len(evidence.CONTROLS) + 1
    assert not waiting(places), "what is published is not trained again"
    evidence.publish(places, evidence.recipes())
    assert json.loads((places.results / "pilots.json").read_text())["rows"] == pilots
    recorded = places.results / "scores" / "small-level-01-standard.json"
    write_json(recorded, json.loads(recorded.read_text()) | {"sha256": "of another ticket"})
    assert waiting(places) == ["small-level-01: scores"]
    evidence.advance(places, None, "small-level-01")
    nothing_of_another_recipe_ticket_or_test_set_is_taken_as_done(places)
    page = tmp_path / "page.md"
    run = RunFolder(places.runs / "small")
    for psnr in (0.0, 99.0):
        record = evidence_measure.longer(run).record()
        for scores in record["validation"].values():
            scores["psnr"] = psnr
        write_json(evidence_measure.longer(run).path / "control.json", record)
        best = evidence_measure.best_ticket(run)
        assert best.path.name == ("ticket-total" if psnr else "level-02")
    monkeypatch.setattr("mirl.ticket.SHIPPED", best.path / "package")
    make_folder(best.path / "package")
    shutil.copy(best.ticket, best.path / "package" / "small.mirl")
    shutil.copy(Path(__file__).parents[1] / "results" / "peers.json", places.results.parent)
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{MARKS[0]}\nold figures\n{MARKS[1]}\nafter\n")
    begun = places.results / "runs" / "begun"
    begun.mkdir()
    shutil.copy(places.results / "runs" / "small" / "recipe.json", begun)
    files = write_results(places.results, page, "the command", readme)
    assert all(file.stat().st_size for file in files)
    text = page.read_text()
    for name, controls in (
        ("small", 6), ("less-rain", 6), ("small-start", 1), ("small-web", 0), ("small-macs", 0), ("small-seed1", 1),
        ("magnitude", 0),
    ):  # fmt: skip
        (part,) = [part for part in text.split("\n## ") if part.startswith(name + "\n")]
        assert f"{scores_of(places, name, 1)['derain']:.2f}" in part
        assert (f"Not measured of what a winning ticket must beat: {'' if controls else 'reinit, '}" in part) == (
            name not in ("small", "less-rain")
        )
        assert ("weights were not kept" in part) == (name not in evidence.PACKED)
        assert part.count("The recipe of `mirl search --recipe small-laboratory` but for network.width 4, ") == 1
        assert ("prune.score macs" in part) == (name == "small-macs")
    (part,) = [part for part in text.split("\n## ") if part.startswith("small\n")]
    file = best.ticket.relative_to(places.runs)
    assert f"`cmp runs/packed/{file} src/mirl/tickets/small.mirl`" in part
    shown = json.loads((places.results / "crops" / "small" / "sha256.json").read_text())["ticket"]
    (place,) = [file.parent.name for file in (places.runs / "small").glob("**/*/ticket.mirl") if sha256(file) == shown]
    longer = " (trained for longer)" if place == "ticket-total" else ""
    assert f"dense level, {place}{longer}, clean; PSNR" in part
    assert "| thin | lamp, over all layers, rates times d^-0.5, rewound to update 0 |" in text
    assert "| first | adamw 0.0002, batch 2, width 4, blocks 1-1-1-1 |" in text
    ours, web = scores_of(places, "less-rain", 2), scores_of(places, "small-web", 2)
    assert "in as many updates: the ticket of small-web is at " in text
    assert " dB from that of less-rain (noise 15 " in text
    assert f"rain {web['derain'] - ours['derain']:+.2f}, " in text
    seeds = text.split("The recipe of small with 2 seeds, ")[1].split("\n\n")[1].splitlines()
    assert seeds[0] == "|  | seed 0 (small) | seed 1 (small-seed1) | mean |"
    assert [line.split(" | ")[0] for line in seeds[2:]] == ["| level-02 from level-00", "| reinit from level-02"]
    gaps = [gap_of(places, name, "level-02", "level-00") for name in ("small", "small-seed1")]
    found = seeds[2].strip("| ").split(" | ")[1:]
    assert [cell.split(" ±")[0] for cell in found] == [f"{gap:+.2f}" for gap in (*gaps, sum(gaps) / 2)]
    assert text.count("in as many updates") == 1, "one run alone has more tasks than another of the same recipe"
    file = places.results / "runs" / "less-rain" / "recipe.json"
    record = json.loads(file.read_text())
    record["recipe"]["tasks"][0]["sampling"] += 1
    file.write_text(json.dumps(record))
    write_results(places.results, page, "the command")
    assert "in as many updates" not in page.read_text(), "other shares of the same tasks are another recipe"
    summary = readme.read_text()
    assert summary.startswith(f"before\n{MARKS[0]}\n")
    assert summary.endswith(f"{MARKS[1]}\nafter\n")
    assert "old figures" not in summary
    assert f"{scores_of(places, 'small', 1)['derain']:.2f}" in summary
    assert "![PSNR against density: mean of three tasks](page-files/small-mean.svg)" in summary
    assert "| **ours, small** | all, blind |" in text
    for block in text.split("\n\n"):
        assert not block.startswith("| ") or len({line.count("|") for line in block.splitlines()}) == 1, block
    assert text.count(f"| **{best.path.name}, in the package** |") == 2, "in the tables of PSNR and SSIM"
    assert "| PReNet | rain | 169 k | 0.7 | 1.87 |" in text
    times = json.loads((places.results / "times" / "small.json").read_text())
    assert [row["place"] for row in times["rows"]] == [
        *("level-00", "level-01", "level-02"),
        *(evidence.control_name(*control) for control in evidence.CONTROLS),
        "dense-macs",
    ]
    assert all(0 < row["ratio"] < 1 for row in times["rows"]), "a network of a few channels against CDnCNN-B"
    for task, cost in product(("denoise25", "derain", "dehaze"), ("time", "size")):
        assert "ours, small" in (tmp_path / "page-files" / f"peers-{task}-{cost}.svg").read_text()
    strips = json.loads((places.results / "crops" / "small" / "crops.json").read_text())
    assert {(strip["task"], strip["rank"]) for strip in strips} == set(product(evidence_measure.PICTURED, RANKS))
    gains = {(strip["task"], strip["rank"]): strip["ticket"] - strip["degraded"] for strip in strips}
    for task in evidence_measure.PICTURED:
        assert gains[task, "best"] >= gains[task, "median"] >= gains[task, "worst"]
    with Image.open(places.results / "crops" / "small" / strips[0]["file"]) as picture:
        assert picture.size == (4 * CROP + 3 * GAP, CROP)
    assert f"](results/crops/small/{strips[0]['file']})" in text
    assert text.count("](page-files/") == len([f for f in files if f.suffix == ".svg"])


def waiting(places: evidence.Places) -> list[str]:
    return [step.name for step in evidence.steps(places) if not step.done()]


def nothing_of_another_recipe_ticket_or_test_set_is_taken_as_done(places: evidence.Places) -> None:
    """Of a pipeline that has ended; it is left as it was."""
    picture = places.tests / "denoise" / "SET" / "b.png"
    Image.new("RGB", (24, 20), "navy").save(picture)
    late = waiting(places)
    assert "small-level-00: scores" in late
    assert all(name.endswith(": scores") for name in late), late
    picture.unlink()
    times = places.results / "times" / "small.json"
    content = times.read_bytes()
    value = json.loads(content)
    value["rows"][1]["sha256"] = "of another ticket"
    write_json(times, value)
    assert waiting(places) == ["small: times"]
    times.write_bytes(content)
    archive = places.results / "weights" / "small" / "level-01.tar.xz"
    content = archive.read_bytes()
    shutil.copy(archive.with_name("level-02.tar.xz"), archive)
    assert waiting(places) == ["small: weights of level-01"]
    archive.write_bytes(content[: len(content) // 2])
    assert waiting(places) == ["small: weights of level-01"], "a damaged one is packed again"
    with pytest.raises(MirlError, match=r"level-01.tar.xz is damaged .*; take it again from the repository"):
        evidence.unpack(replace(places, runs=places.runs / "elsewhere"))
    archive.write_bytes(content)
    record = RunFolder(places.runs / "small").control("dense-small").path / "control.json"
    content = record.read_bytes()
    value = json.loads(content)
    value["recipe"]["network"]["expansion"] += 1
    write_json(record, value)
    assert waiting(places)[0] == "small: control dense-small"
    with pytest.raises(MirlError, match="dense-small was trained with another recipe"):
        evidence.advance(places, None, "small: control")
    record.write_bytes(content)
    run, kept = places.runs / "small", places.runs / "kept"
    run.rename(kept)
    shutil.copytree(places.runs / "less-rain", run)
    stray = make_folder(places.runs / ".unpack-x" / "small" / "level-00")
    shutil.copy(run / "level-00" / "level.json", stray)
    records = {path: path.read_bytes() for path in sorted((places.results / "runs").rglob("*.json*"))}
    assert "small: search" in waiting(places)
    assert not [name for name in waiting(places) if name.startswith("small-level") or name == "small: times"]
    with pytest.raises(MirlError, match="holds a run of another recipe"):
        evidence.advance(places, None, "small: search")
    evidence.publish(places, evidence.recipes())
    assert {path: path.read_bytes() for path in sorted((places.results / "runs").rglob("*.json*"))} == records
    shutil.rmtree(run)
    shutil.rmtree(stray.parents[1])
    kept.rename(run)
    file = places.results / "runs" / "magnitude" / "recipe.json"
    assert not (places.runs / "magnitude").exists(), "its records are enough"
    value = json.loads(content := file.read_bytes())
    value["recipe"]["seed"] += 1
    write_json(file, value)
    assert waiting(places) == ["magnitude: search"], "unless they are of another recipe"
    with pytest.raises(MirlError, match=r"magnitude holds the records of another recipe; move them away"):
        evidence.advance(places, None, "magnitude")
    assert not (places.runs / "magnitude").exists()
    file.write_bytes(content)
    table = places.results / "pilots.json"
    value = json.loads(content := table.read_bytes())
    value["rows"][1]["recipe"]["seed"] += 1
    write_json(table, value)
    assert waiting(places) == ["pilots/thin: search"]
    table.write_bytes(content)
    assert waiting(places) == []


def test_the_published_runs_pass_their_audit_and_are_those_of_the_shipped_tickets(tmp_path: Path):
    published = Path(__file__).parents[1] / "results" / "evidence"
    evidence.unpack(evidence.Places(tmp_path, None, tmp_path / "runs", published, "cpu"))
    runs = {path.name: RunFolder(path) for path in (tmp_path / "runs").iterdir()}
    audits = {name: verify(run.path) for name, run in runs.items()}
    for audit in audits.values():
        assert audit.ok, audit.problems
    shipped = SHIPPED / "small-laboratory.mirl"
    assert shipped.read_bytes() == evidence_measure.best_ticket(runs["small"]).ticket.read_bytes()
    for name, audit in audits.items():
        controls = {path.parent.name for path in published.glob(f"runs/{name}/controls/*/control.json")}
        assert {control["control"] for control in audit.controls} == controls


def scores_of(places: evidence.Places, name: str, level: int) -> dict[str, float]:
    value = json.loads((places.results / "scores" / f"{name}-level-{level:02d}-standard.json").read_text())
    return {row["task"]: row["psnr"] for row in value["rows"]}


def gap_of(places: evidence.Places, name: str, one: str, other: str) -> float:
    runs = read_runs(sorted(path.parents[1] for path in (places.results / "runs").glob("*/level-00/level.json")))
    found = {each.place: each for each in read_scores(places.results, runs) if each.run == name}
    return found[one].mean - found[other].mean


def scored(place: str, density: float, *psnr: float, run: str = "r") -> Scored:
    """A ticket measured on as many images of every set as `psnr` has values."""
    scores = dict.fromkeys(COLUMNS, sum(psnr) / len(psnr))
    images = [
        {"task": task, "set": name, "image": str(n), "psnr": str(value), "input_psnr": "20.0"}
        for task, sets in COLUMNS.items() for name in sets for n, value in enumerate(psnr)
    ]  # fmt: skip
    return Scored(run, place, density, {"density": density}, scores, dict.fromkeys(COLUMNS, 20.0), tuple(images))


def test_the_verdict_follows_from_the_scores():
    levels = [scored("level-00", 1.0, 30.0), scored("level-01", 0.1, 30.5)]
    weak = [scored(kind, 0.1, 29.0) for kind in ASKED]
    run = make_run()
    assert "beats its dense network: +0.50 dB" in verdict(run, levels)
    poor = verdict(run, [levels[0], scored("level-01", 0.1, 19.0)])
    assert "loses to its dense network: -11.00 dB" in poor
    assert "Worse than left alone: noise 15 -1.00, noise 25 -1.00" in poor
    assert "one that loses is none whatever they say" in poor
    assert "web -1.00 (on which it was not trained)." in poor
    assert "Nothing is worse than left alone" in verdict(run, levels)
    assert "It returns every picture as it came." in verdict(run, [levels[0], scored("level-01", 0.1, 20.0)])
    assert "By these runs it is a winning ticket" in verdict(run, [*levels, *weak])
    for kind in ASKED:
        short = verdict(run, [*levels, *(each for each in weak if each.place != kind)])
        assert f"must beat: {kind}; so nothing says whether it is one." in short
    assert "must beat: reinit, shuffle, oneshot, dense-small; so" in verdict(
        run, [*levels, scored("reinit-total", 0.1, 1.0)]
    )
    assert "not shown to be a winning ticket" in verdict(run, [*levels, *weak, scored("random", 0.1, 31.0)])
    lost = verdict(run, [levels[0], scored("level-01", 0.1, 29.5), *weak])
    assert "It beats them, yet is not shown to match its dense network: by these runs it is no winning ticket" in lost
    warm = verdict(run, [*levels, *weak, scored("partial-reset-seed1", 0.1, 31.0)])
    assert "a winning ticket.\n- Begun from values that stay trained: partial-reset-seed1 at +0.50 dB from it." in warm
    partial = dict(run.recipe_file["recipe"], prune={"reset": "partial"})
    assert "It was not rewound whole" in verdict(replace(run, recipe_file={"recipe": partial}), [*levels, *weak])
    longer = [*levels, *weak, scored("dense-total", 1.0, 31.0)]
    assert "10 updates of all levels at once, the dense network (dense-total) is at +1.00 dB from level-00 (" in verdict(
        run, longer
    )
    both = verdict(run, [*longer, scored("ticket-total", 0.1, 29.9)])
    assert "from it: reinit at -1.50, shuffle at -1.50, oneshot at -1.50, dense-small at -1.50." in both
    assert (
        "the ticket (ticket-total) is at -0.10 dB and the dense network (dense-total) is at +1.00 dB from level-00 (" in both
    )
    assert "; not in the mean: web -0.10, clean -0.10; the dense network: noise 15 +1.00, " in both
    assert "at once" not in verdict(run, levels)
    equal_work = replace(scored("dense-macs", 0.25, 29.5), time=0.06)
    timed = [levels[0], replace(levels[1], time=0.12), *weak, equal_work]
    assert "(dense-macs, 25.0% of the parameters), is at -1.00 dB from it, in 0.50 of its time." in verdict(run, timed)
    assert "By these runs it is a winning ticket" in verdict(run, [*levels, *weak, scored("dense-macs", 0.09, 31.0)])
    assert "no measured ticket" in verdict(run, levels[:1])


def test_differences_are_paired_and_no_more_is_said_than_they_bear():
    dense, ticket = scored("level-00", 1.0, 30.0, 20.0, 40.0), scored("level-01", 0.1, 30.0, 20.3, 40.6)
    gain = paired(ticket, dense, "derain", COLUMNS["derain"])
    assert (round(gain.mean, 6), round(gain.error, 6), gain.better, gain.images) == (0.3, 0.173205, 2, 3)
    assert str(gain) == "+0.30 ± 0.17"
    assert paired(ticket, dense, "derain", ["other"]).images == 0
    fewer = replace(dense, images=dense.images[1:])
    with pytest.raises(MirlError, match=r"other images of denoise15: 1 are of one alone, such as CBSD68/0; measure both"):
        paired(ticket, fewer, "denoise15", COLUMNS["denoise15"])
    run = make_run()
    assert "beats its dense network: +0.30 ± 0.09 dB" in verdict(run, [dense, ticket])
    spread = scored("level-01", 0.1, 29.0, 20.0, 41.9)
    assert "cannot be told from its dense network: +0.30 ± 0.44" in verdict(run, [dense, spread])
    wide = scored("level-01", 0.1, 29.0, 20.0, 40.9)
    assert "cannot be told from its dense network: -0.03 ±" in verdict(run, [dense, wide])
    sure = [scored(kind, 0.1, 29.0, 19.3, 39.6) for kind in ASKED[1:]]
    assert "is a winning ticket" in verdict(run, [dense, ticket, *sure, scored(ASKED[0], 0.1, 29.0, 19.3, 39.6)])
    unsure = scored(ASKED[0], 0.1, 20.0, 19.3, 45.0)
    assert "not shown to be a winning ticket" in verdict(run, [dense, ticket, *sure, unsure]), "the weakest is not beaten"
    close = [scored(kind, 0.1, 30.5, 18.0, 41.0) for kind in ASKED]
    assert "not shown to be a winning ticket" in verdict(run, [dense, ticket, *close])


def make_run() -> Run:
    level = Level("0", 0, 1.0, 1.0, 10, 10, 5, 1.0, {}, {}, (), ())
    recipe = {"seed": 0, "tasks": [{"task": "denoise15"}, {"task": "denoise25"}], "prune": {"reset": "full"}}
    levels = (level, replace(level, name="1", number=1, density=0.1))
    return Run("r", {"recipe": recipe}, levels, (), 0.1)


def test_a_readme_without_a_place_for_results_is_refused(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("# Title\n")
    results = Path(__file__).parents[1] / "results" / "evidence"
    with pytest.raises(MirlError, match="no place for results"):
        write_results(results, tmp_path / "page.md", "c", readme)
    assert readme.read_text() == "# Title\n"
    assert not (tmp_path / "page.md").exists()


def test_scores_of_other_test_sets_are_refused_and_times_of_another_ticket_left_out(tmp_path: Path):
    published = Path(__file__).parents[1] / "results" / "evidence"
    for part in ("runs", "scores", "times"):
        shutil.copytree(published / part, tmp_path / part)
    runs = read_runs([tmp_path / "runs" / "small"])
    scores = [tmp_path / "scores" / f"small-{place}-standard.json" for place in ("level-00", "level-01")]
    for file in (tmp_path / "scores").glob("*.json"):
        if file not in scores:
            file.unlink()
    assert all(each.time for each in read_scores(tmp_path, runs))
    write_json(scores[1], json.loads(scores[1].read_text()) | {"sha256": "of another ticket"})
    assert [each.time is None for each in read_scores(tmp_path, runs)] == [False, True]
    for file in scores:  # none says of which ticket it is
        write_json(file, {name: value for name, value in json.loads(file.read_text()).items() if name != "sha256"})
    times = json.loads((tmp_path / "times" / "small.json").read_text())
    for row in times["rows"]:
        del row["sha256"]
    write_json(tmp_path / "times" / "small.json", times)
    assert not any(each.time for each in read_scores(tmp_path, runs))
    write_json(scores[1], json.loads(scores[1].read_text()) | {"tests": "others"})
    with pytest.raises(
        MirlError, match=r"level-00-standard.json and .*level-01-standard.json do not name the same test sets"
    ):
        read_scores(tmp_path, runs)
    value = json.loads(scores[0].read_text())
    del value["figures"]["macs_per_pixel"]
    write_json(scores[0], value)
    with pytest.raises(MirlError, match="does not say macs_per_pixel of the ticket"):
        read_scores(tmp_path, runs)


def test_ratios_have_two_digits_and_no_more():
    assert [ratio(x) for x in (0.0271, 0.1, 0.996, 1.87, 9.04, 99.6, 150.4)] == [
        "0.027", "0.10", "1.0", "1.9", "9.0", "100", "150",
    ]  # fmt: skip


def test_a_run_that_is_not_measured_yet_is_said_to_be_so(tmp_path: Path):
    shutil.copytree(Path(__file__).parents[1] / "results" / "evidence" / "runs", tmp_path / "evidence" / "runs")
    readme = tmp_path / "README.md"
    readme.write_text(f"{MARKS[0]}\n{MARKS[1]}\n")
    write_results(tmp_path / "evidence", tmp_path / "page.md", "c", readme)
    assert "no measured ticket yet" in readme.read_text()
    assert "page-files" not in readme.read_text(), "plots that were not made"


def test_the_published_page_is_what_the_results_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = Path(__file__).parents[1]
    (tmp_path / "results").symlink_to(root / "results")
    shutil.copy(root / "README.md", tmp_path)
    shutil.copy(root / "docs" / "reports.md", make_folder(tmp_path / "docs"))
    monkeypatch.chdir(tmp_path)
    command = "mirl report --evidence results/evidence -o docs/results.md"
    write_results(Path("results/evidence"), Path("docs/results.md"), command, Path("README.md"))
    page = Path("docs/results.md").read_text()
    assert page == (root / "docs" / "results.md").read_text(), f"run: {command} --readme README.md"
    assert Path("README.md").read_text() == (root / "README.md").read_text()
    assert "| level-03 | 4,000 to 5,000 | " in page, "where training was still improving"
    assert "(ticket-total, the one in the package) is at" in page
    assert "[reports.md](reports.md)" in page
    assert "Share of each task: noise 15 1, noise 25 1, noise 50 1, rain 1.5, haze 2.5. PSNR on" in page, "of the pilots"


def test_bad_folders_of_evidence_are_one_error(tmp_path: Path):
    with pytest.raises(MirlError, match="holds no runs"):
        write_results(tmp_path, tmp_path / "page.md", "c")
    with pytest.raises(MirlError, match="Markdown"):
        write_results(tmp_path, tmp_path / "page.html", "c")
