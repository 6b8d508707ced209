"""The commands as typed: every option changes the result, every kind of bad input is one line and an exit code."""

import io
import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import make_ticket, mini_data
from mirl.cli import main, progress
from mirl.image import read_pixels
from mirl.ticket import load_ticket, write_ticket

SEARCH = [
    "search",
    "--recipe",
    "tiny",
    "--steps",
    "2",
    "--batch",
    "5",
    "--patch",
    "16",
    "--device",
    "cpu",
    "--fraction",
    "0.9",
]


def run(*words: object) -> int:
    try:
        return main([str(word) for word in words])
    except SystemExit as stop:
        return int(stop.code or 0)


def fails(capsys: pytest.CaptureFixture[str], *words: object, code: int = 1) -> str:
    """Run a command that must fail with `code` and one line on stderr; return the line."""
    capsys.readouterr()
    assert run(*words) == code
    error = capsys.readouterr().err
    if code == 1:
        assert error.count("\n") == 1, error
        assert error.startswith("mirl: ")
    assert "Traceback" not in error
    return error


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "run"
    assert run(*SEARCH, "--data", mini_data(), "--out", path) == 0
    return path


@pytest.fixture
def ticket(tmp_path: Path) -> Path:
    path = tmp_path / "t.mirl"
    write_ticket(make_ticket(keep=0.9), path)
    return path


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "photo.png"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(path)
    return path


# the command itself


def test_help_imports_no_torch_and_answers_at_once():
    code = (
        "import sys; from mirl.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_public_names_are_there_and_no_others():
    import mirl

    assert all(getattr(mirl, name) is not None for name in mirl.__all__)
    with pytest.raises(AttributeError):
        _ = mirl.nothing


def test_version_and_wrong_commands(capsys: pytest.CaptureFixture[str]):
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("mirl 0.")
    for wrong in (
        ["fly"],
        ["search"],
        ["restore", "--out"],
        ["verify"],
        ["search", "--out", "x", "--keep", "many"],
        ["data"],
    ):
        fails(capsys, *wrong, code=2)


def test_a_missing_library_is_one_line_that_says_what_to_install():
    code = "import sys; sys.modules['torch'] = None\nfrom mirl.cli import main\nsys.exit(main(['search', '--out', 'x']))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("mirl: this needs torch")
    assert "pip install 'mirl[train]'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_warning_is_one_line_and_the_command_goes_on(ticket: Path, photo: Path, tmp_path: Path):
    code = "import sys; sys.modules['mirl.engine._native'] = None\nfrom mirl.cli import main\nsys.exit(main(sys.argv[1:]))"
    words = ["restore", photo, "-o", tmp_path / "out", "--ticket", ticket]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert result.returncode == 0
    assert result.stderr.count("\n") == 1, result.stderr
    assert result.stderr.startswith("mirl: the native engine was not built, so the slower ")
    assert (tmp_path / "out" / "photo.png").exists()


def test_debug_shows_the_traceback():
    result = subprocess.run([sys.executable, "-m", "mirl", "--debug", "inspect", "none"], capture_output=True, text=True)
    assert result.returncode == 1
    assert "Traceback" in result.stderr


def test_the_list_of_options_changes_only_on_purpose():
    """Documents, scripts and recipes of others rely on these."""
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text()
    flags = {}
    for command in page.split("## mirl ")[1:]:
        option_lines = "\n".join(re.findall(r"(?m)^[|│]? *(-.*)", command))
        flags[command.splitlines()[0]] = sorted(set(re.findall(r"--[a-z][a-z-]*", option_lines)) - {"--help"})
    assert flags == {
        "restore": [
            "--address", "--backend", "--dehaze", "--denoise", "--engine", "--format", "--manifest", "--max-megapixels",
            "--no-recursive", "--out", "--quality", "--recursive", "--strength", "--threads", "--ticket", "--tile", "--tone",
            "--window", "--workers",
        ],
        "search": [
            "--batch", "--checkpoint-seconds", "--clip-norm", "--compile", "--data", "--dense-from", "--device", "--devices",
            "--dry-run", "--epochs", "--fraction", "--keep", "--kernels", "--learning-rate", "--levels-now",
            "--min-layer-density", "--minimum-learning-rate", "--no-compile", "--no-dry-run", "--no-prune-depthwise",
            "--no-prune-prompts", "--no-skip-bad", "--no-tensorboard", "--nodes", "--normalise", "--optimizer", "--out",
            "--patch", "--precision",
            "--prunable", "--prune-depthwise", "--prune-prompts", "--rate-exponent", "--real-share", "--recipe", "--reset",
            "--rewind-step", "--scope", "--score", "--seed", "--skip-bad", "--steps", "--tasks", "--tensorboard",
            "--time-limit",
        ],
        "control": [
            "--budget", "--data", "--device", "--kind", "--no-skip-bad", "--no-tensorboard", "--seed", "--skip-bad",
            "--tensorboard", "--time-limit",
        ],
        "verify": ["--json"],
        "evaluate": [
            "--as-written", "--backend", "--csv", "--data", "--json", "--limit", "--no-as-written", "--no-skip-bad",
            "--peers", "--pictures", "--protocol", "--skip-bad", "--suite", "--tasks", "--threads", "--ticket", "--window",
        ],
        "report": ["--crops", "--evidence", "--out", "--readme"],
        "inspect": ["--json", "--layers", "--no-layers"],
        "haze-head": [
            "--data", "--examples", "--like", "--no-skip-bad", "--out", "--seed", "--skip-bad", "--steps", "--window",
        ],
        "bench": ["--against", "--json", "--runs", "--seconds", "--size", "--threads", "--ticket"],
        "export": ["--format", "--out"],
        "import": ["--out", "--values"],
        "push": ["--no-private", "--private"],
        "serve": [
            "--backend", "--host", "--max-megabytes", "--max-megapixels", "--port", "--queue", "--seconds", "--static-only",
            "--threads", "--ticket", "--workers",
        ],
        "data": [],
        "data list": [],
        "data check": ["--against"],
        "data paper": ["--link"],
        "data tasks": [],
        "data synth": ["--count", "--out", "--seed", "--task"],
    }  # fmt: skip


# search, verify, control, inspect, report


@pytest.mark.parametrize(
    "options",
    [
        ["--keep", "0.5"], ["--fraction", "0.5"], ["--scope", "layer"], ["--score", "macs"], ["--normalise", "none"],
        ["--min-layer-density", "0.08"], ["--no-prune-prompts"],
        ["--no-prune-depthwise", "--min-layer-density", "0"], ["--rewind-step", "1"],
        ["--seed", "3"], ["--steps", "3"], ["--batch", "6"], ["--patch", "24"],
        ["--learning-rate", "0.01"], ["--precision", "bf16-mixed"], ["--optimizer", "muon"], ["--tasks", "derain", "web"],
        ["--prunable", "name"], ["--reset", "partial"], ["--epochs", "1"], ["--score", "lamp"], ["--rate-exponent", "0.5"],
        ["--minimum-learning-rate", "0"], ["--clip-norm", "0.001"],
    ],
    ids=lambda options: options[0],
)  # fmt: skip
def test_each_option_of_search_changes_the_ticket(found: Path, tmp_path: Path, options: list[str]):
    assert run(*SEARCH, "--data", mini_data(), "--out", tmp_path / "run", *options) == 0
    one, other = load_ticket(found / "ticket.mirl"), load_ticket(tmp_path / "run" / "ticket.mirl")
    same = set(one.masks) == set(other.masks) and all(np.array_equal(one.masks[n], other.masks[n]) for n in one.masks)
    assert not (same and all(np.array_equal(one.weights[n], other.weights[n]) for n in one.weights))
    assert run("verify", tmp_path / "run") == 0
    if options[0] == "--tasks":
        assert other.tasks == ("derain", "web")


def test_a_time_limit_stops_and_the_same_command_goes_on(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    command = [*SEARCH, "--data", mini_data(), "--out", tmp_path / "run"]
    assert run(*command, "--time-limit", "0s", "--checkpoint-seconds", "0") == 0
    assert "the same command goes on" in capsys.readouterr().out
    assert run("verify", tmp_path / "run") == 0
    assert "has not ended" in capsys.readouterr().out
    assert run(*command) == 0
    assert (tmp_path / "run" / "ticket.mirl").read_bytes() == (found / "ticket.mirl").read_bytes()


def test_tensorboard_writes_events(tmp_path: Path):
    assert run(*SEARCH, "--data", mini_data(), "--out", tmp_path / "run", "--keep", "1", "--tensorboard") == 0
    assert list((tmp_path / "run" / "tensorboard").rglob("events.*"))


def test_verify_says_ok_and_writes_its_audit(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("verify", found, "--json", tmp_path / "audit.json") == 0
    assert capsys.readouterr().out.rstrip().endswith("ok")
    audit = json.loads((tmp_path / "audit.json").read_text())
    assert audit["ok"] is True
    assert {"level", "density", "rewound", "nested", "zeros_exact"} <= set(audit["levels"][0])
    assert run("verify", found / "ticket.mirl") == 0
    assert run("verify", "small") == 0


def test_a_failed_audit_names_the_tensor_and_fails(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from mirl.lottery.run import load_arrays, save_arrays

    subprocess.run(["cp", "-r", found, tmp_path / "run"], check=True)
    file = tmp_path / "run" / "level-01" / "weights.safetensors"
    weights = load_arrays(file)[0]
    weights["embed.weight"].reshape(-1)[0] += 1
    save_arrays(file, weights)
    assert "level-01/weights.safetensors: embed.weight" in fails(capsys, "verify", tmp_path / "run")


def test_control_and_report_go_through(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("control", found, "--kind", "shuffle", "--device", "cpu") == 0
    assert "density" in capsys.readouterr().out
    assert run("control", found, "--kind", "shuffle", "--seed", "2", "--device", "cpu", "--time-limit", "0s") == 0
    assert "goes on" in capsys.readouterr().out
    assert run("report", found, "-o", tmp_path / "r.html", "--crops", "1") == 0
    page = (tmp_path / "r.html").read_text()
    assert "shuffle" in page
    assert page.count("data:image/png") >= 3
    assert run("report", found, "-o", tmp_path / "bare.html", "--crops", "0") == 0
    assert "data:image/png" not in (tmp_path / "bare.html").read_text()
    assert "at least one" in fails(capsys, "report", "-o", tmp_path / "x.html")
    assert "--crops" in fails(capsys, "report", found, "-o", tmp_path / "x.html", "--crops", "-1")


def test_inspect_gives_the_documented_figures(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("inspect", found / "ticket.mirl", "--json", tmp_path / "i.json", "--layers") == 0
    assert "encoder1.0.attention.qkv.weight" in capsys.readouterr().out
    figures = json.loads((tmp_path / "i.json").read_text())
    assert {
        "parameters",
        "nonzero",
        "density",
        "density_prunable",
        "density_macs",
        "bytes",
        "dense_bytes",
        "tasks",
    } <= set(figures)
    assert figures["density"] <= 0.1
    assert figures["bytes"] == (found / "ticket.mirl").stat().st_size
    assert run("inspect", found / "ticket.mirl") == 0
    shown = capsys.readouterr().out
    assert "encoder1.0" not in shown
    recipe = figures["provenance"]["recipe"]
    assert f"{recipe['name']}, seed {recipe['seed']}: pruned by magnitude (" in shown
    assert f"rewound to update {recipe['rewind_step']}, trained to {recipe['train']['steps']}" in shown


def test_bad_searches_are_one_line(found: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    new = tmp_path / "new"
    assert "does not exist" in fails(capsys, *SEARCH, "--data", tmp_path / "none", "--out", new)
    empty = tmp_path / "empty" / "denoise" / "SET"
    empty.mkdir(parents=True)
    assert "holds no image" in fails(capsys, *SEARCH, "--data", tmp_path / "empty", "--out", new)
    assert "unknown task 'sharpen'" in fails(capsys, *SEARCH, "--out", new, "--tasks", "sharpen")
    assert "--time-limit" in fails(capsys, *SEARCH, "--out", new, "--time-limit", "soon")
    assert "--keep" in fails(capsys, *SEARCH, "--out", new, "--keep", "0")
    assert "--clip-norm" in fails(capsys, *SEARCH, "--out", new, "--clip-norm", "-1")
    assert "minimum_learning_rate" in fails(capsys, *SEARCH, "--out", new, "--minimum-learning-rate", "0.1")
    assert "protects" in fails(capsys, *SEARCH, "--out", new, "--min-layer-density", "0.5")
    assert "devices" in fails(capsys, *SEARCH, "--out", new, "--devices", "0")
    assert "--seed" in fails(capsys, *SEARCH, "--out", new, "--seed", "-1")
    assert "each task once" in fails(capsys, *SEARCH, "--out", new, "--tasks", "web", "web")
    assert "never pruned" in fails(capsys, *SEARCH, "--out", new, "--keep", "0.001")
    assert not list(new.iterdir())
    assert "another recipe" in fails(capsys, *SEARCH, "--data", mini_data(), "--out", found, "--seed", "9")
    assert "cannot make the folder" in fails(capsys, *SEARCH, "--out", "/proc/none/run")
    assert "cannot write" in fails(capsys, "verify", found, "--json", "/proc/none/a.json")
    assert "has not ended" in fails(capsys, "control", half(tmp_path), "--kind", "reinit")
    assert "recipe.json is missing" in fails(capsys, "verify", tmp_path)
    assert "no run folder, and there is no ticket" in fails(capsys, "verify", tmp_path / "none")
    assert "recipe.json" in fails(capsys, "report", tmp_path, "-o", tmp_path / "x.html")


def half(tmp_path: Path) -> Path:
    assert run(*SEARCH, "--data", mini_data(), "--out", tmp_path / "half", "--time-limit", "0s") == 0
    return tmp_path / "half"


# restore


def test_restore_keeps_the_name_and_each_option_changes_the_result(ticket: Path, photo: Path, tmp_path: Path):
    before = photo.read_bytes()

    def restored(name: str, *options: object) -> np.ndarray:
        assert run("restore", photo, "-o", tmp_path / name, "--ticket", ticket, *options) == 0
        return read_pixels(tmp_path / name / "photo.png")

    plain = restored("plain")
    assert plain.shape == (40, 56, 3)
    assert not np.array_equal(plain, read_pixels(photo))
    assert np.array_equal(restored("zero", "--strength", 0), read_pixels(photo))
    assert not np.array_equal(restored("half", "--strength", 0.5), plain)
    assert not np.array_equal(restored("tiles", "--tile", 32), plain)
    assert np.array_equal(restored("native", "--backend", "native"), plain)
    assert np.abs(restored("torch", "--backend", "torch") - plain).max() <= 1.001 / 255
    assert np.abs(restored("one", "--threads", 1) - plain).max() <= 1 / 255
    for format, ending in (
        ("keep", "png"),
        ("jpeg", "jpg"),
        ("png", "png"),
        ("webp", "webp"),
        ("tiff", "tif"),
        ("bmp", "bmp"),
    ):
        assert run("restore", photo, "-o", tmp_path / format, "--ticket", ticket, "--format", format) == 0
        with Image.open(tmp_path / format / f"photo.{ending}") as image:
            assert image.format == ("PNG" if format == "keep" else format.upper())
    sizes = []
    for quality in (10, 90):
        words = ["--format", "jpeg", "--quality", quality]
        assert run("restore", photo, "-o", tmp_path / f"q{quality}", "--ticket", ticket, *words) == 0
        sizes.append((tmp_path / f"q{quality}" / "photo.jpg").stat().st_size)
    assert sizes[0] < 0.5 * sizes[1]
    assert photo.read_bytes() == before


def test_restore_takes_folders_and_streams(ticket: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    deep = photo.parent / "deep" / "other.jpg"
    deep.parent.mkdir()
    Image.new("RGB", (20, 20), "red").save(deep)
    assert run("restore", photo.parent, "-o", tmp_path / "flat", "--ticket", ticket) == 0
    assert not (tmp_path / "flat" / "deep").exists()
    assert run("restore", photo.parent, "-o", tmp_path / "all", "--ticket", ticket, "--recursive") == 0
    assert (tmp_path / "all" / "deep" / "other.jpg").exists()
    out = io.BytesIO()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(photo.read_bytes())))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out))
    assert run("restore", "-", "-o", "-", "--ticket", ticket) == 0
    assert Image.open(io.BytesIO(out.getvalue())).size == (56, 40)


def test_bad_restores_are_one_line(ticket: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    base = ["--ticket", ticket]
    assert "does not exist" in fails(capsys, "restore", tmp_path / "none.png", "-o", tmp_path / "o", *base)
    assert "never overwritten" in fails(capsys, "restore", photo, "-o", photo, *base)
    assert "no ticket 'nothing'" in fails(capsys, "restore", photo, "-o", tmp_path / "o", "--ticket", "nothing")
    assert "not a ticket" in fails(capsys, "restore", photo, "-o", tmp_path / "o", "--ticket", photo)
    assert "strength must lie" in fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--strength", "2")
    assert "tile must be 0" in fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--tile", "3")
    assert "--threads" in fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--threads", "0")
    assert "--quality" in fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--quality", "0")
    assert "--format" in fails(capsys, "restore", photo, "-o", tmp_path / "o.png", *base, "--format", "jpeg")
    fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--format", "gif", code=2)
    assert "cannot make the folder" in fails(capsys, "restore", photo, "-o", photo / "below", *base)
    fails(capsys, "restore", photo, "-o", tmp_path / "o", *base, "--backend", "abacus", code=2)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no photos in" in fails(capsys, "restore", empty, "-o", tmp_path / "o", *base)


@pytest.mark.parametrize("options", [(), ("--engine", "pool", "--workers", "1")])
def test_pictures_of_formats_that_are_not_read_are_named(
    ticket: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
):
    album = tmp_path / "album"
    album.mkdir()
    (album / "a.png").write_bytes(photo.read_bytes())
    for name in ("IMG_1.HEIC", "b.gif", "notes.txt", ".hidden.gif"):
        (album / name).touch()
    assert run("restore", album, "-o", tmp_path / "out", "--ticket", ticket, *options) == 0
    assert capsys.readouterr().err.splitlines()[-1] == "mirl: left out, of no format that is read here: IMG_1.HEIC, b.gif"


def test_a_bad_photo_among_good_ones_is_named_and_the_others_are_done(
    ticket: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (photo.parent / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    Image.new("RGB", (400, 300)).save(photo.parent / "large.png")
    code = run("restore", photo.parent, "-o", tmp_path / "o", "--ticket", ticket, "--max-megapixels", "0.1")
    assert code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert any("broken.jpg" in line for line in lines)
    assert any("large.png" in line and "megapixel" in line for line in lines)
    assert "2 of 3 photos were not restored" in lines[-1]
    assert [p.name for p in (tmp_path / "o").iterdir()] == ["photo.png"]


def test_a_full_disk_is_one_line_and_leaves_nothing(ticket: Path, photo: Path, tmp_path: Path):
    """A file size limit of the process stands for a full disk."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from mirl.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"sys.exit(main(['restore', {str(photo)!r}, '-o', {str(tmp_path / 'o')!r}, '--ticket', {str(ticket)!r}]))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "cannot write" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "o").exists(), "neither a part nor the folder made for it"


def test_a_full_disk_during_a_search_is_one_line_and_the_search_goes_on_later(tmp_path: Path):
    words = [*SEARCH, "--data", str(mini_data()), "--out", str(tmp_path / "run")]
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from mirl.cli import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"sys.exit(main({words!r}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith("mirl: cannot write")
    assert "Traceback" not in result.stderr
    assert run(*words) == 0
    assert run("verify", tmp_path / "run") == 0


def test_inspect_shows_any_provenance_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ticket = make_ticket()
    odd = {"tasks": 3, "[/x]": "[bold", "density": ticket.density, "recipe": "[/grandma's"}
    write_ticket(replace(ticket, provenance=odd), tmp_path / "odd.mirl")
    assert run("inspect", tmp_path / "odd.mirl") == 0
    shown = capsys.readouterr().out
    assert "[bold" in shown
    assert "[/grandma's" in shown


# evaluate


@pytest.fixture(scope="module")
def tests(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Test sets: two clean photos, and a rainy and a hazy pair made from them."""
    root = tmp_path_factory.mktemp("sets")
    clean = root / "denoise" / "CLEAN"
    clean.mkdir(parents=True)
    for path in sorted((mini_data() / "denoise" / "MINI").iterdir())[::20]:
        (clean / path.name).write_bytes(path.read_bytes())
    for task in ("derain", "dehaze"):
        assert run("data", "synth", clean, "-o", root, "--task", task) == 0
    return root


def test_evaluate_writes_the_documented_json_and_each_option_matters(ticket: Path, tests: Path, tmp_path: Path):
    def rows(name: str, *options: object) -> list[dict]:
        words = ["evaluate", "--ticket", ticket, "--data", tests, "--json", tmp_path / name, *options]
        assert run(*words) == 0
        value = json.loads((tmp_path / name).read_text())
        assert set(value) == {"ticket", "protocol", "rows"}
        return value["rows"]

    plain = rows("plain.json", "--csv", tmp_path / "images.csv")
    assert [(r["task"], r["images"]) for r in plain] == [
        (t, 2) for t in ("denoise15", "denoise25", "denoise50", "derain", "dehaze")
    ]
    assert set(plain[0]) == {"task", "set", "images", "psnr", "ssim", "input_psnr", "input_ssim"}
    assert len((tmp_path / "images.csv").read_text().splitlines()) == 11
    assert rows("again.json", "--backend", "torch", "--threads", 1)[0]["psnr"] == pytest.approx(plain[0]["psnr"], abs=1e-3)
    assert rows("paper.json", "--protocol", "paper") != plain
    assert [r["task"] for r in rows("two.json", "--tasks", "dehaze", "web")] == ["dehaze", "web"]
    assert {r["images"] for r in rows("one.json", "--limit", 1)} == {1}


def test_the_suite_people_is_measured_beside_the_papers_or_alone(
    ticket: Path, tests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    root = tmp_path / "sets"
    shutil.copytree(tests, root)
    (root / "denoise" / "CLEAN").rename(root / "denoise" / "Kodak24")

    def found(*options: object) -> dict:
        assert (
            run("evaluate", "--ticket", ticket, "--data", root, "--limit", 1, "--json", tmp_path / "x.json", *options) == 0
        )
        return json.loads((tmp_path / "x.json").read_text())

    people = found("--suite", "people", "--tasks", "grey", "real", "--csv", tmp_path / "x.csv", "--peers", "nlm")
    assert [(row["method"], row["task"]) for row in people["rows"]] == [
        (method, f"grey{sigma}") for method in (str(ticket), "nlm") for sigma in (15, 25, 50)
    ]
    assert set(people) == {"ticket", "suite", "as_written", "rows", "groups", "lacking"}
    assert len((tmp_path / "x.csv").read_text().splitlines()) == 7
    shown = capsys.readouterr()
    assert "What people have: nlm" in shown.out
    assert "real/PolyU is missing" in shown.err
    both = found("--suite", "all", "--tasks", "derain", "jpeg", "--as-written")
    assert [row["task"] for row in both["rows"]] == ["derain", *(f"jpeg{q}" for q in (10, 20, 30, 50, 75, 90))]
    assert both["rows"][:1] == found("--tasks", "derain")["rows"]
    assert (both["protocol"], both["suite"], both["as_written"]) == ("standard", "all", True)
    base = ["evaluate", "--ticket", ticket, "--data", root]
    assert "--pictures are for --suite people" in fails(capsys, *base, "--as-written")
    assert "is for the suite paper" in fails(capsys, *base, "--suite", "people", "--protocol", "paper")
    assert "--csv holds the images of one suite" in fails(capsys, *base, "--suite", "all", "--csv", tmp_path / "x.csv")
    assert "unknown group 'derain'" in fails(capsys, *base, "--suite", "people", "--tasks", "derain")


def test_bad_evaluations_are_one_line(ticket: Path, tests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    base = ["evaluate", "--ticket", ticket]
    assert "does not exist" in fails(capsys, *base, "--data", tmp_path / "none")
    assert "unknown task 'sharpen'" in fails(capsys, *base, "--data", tests, "--tasks", "sharpen")
    assert "--limit" in fails(capsys, *base, "--data", tests, "--limit", 0)
    assert "cannot write" in fails(capsys, *base, "--data", tests, "--json", "/proc/none/x.json", "--limit", 1)
    fails(capsys, *base, "--data", tests, "--protocol", "mine", code=2)
    pair = tmp_path / "sets" / "derain" / "SET"
    (pair / "input").mkdir(parents=True)
    (pair / "target").mkdir()
    image = Image.new("RGB", (32, 32))
    image.save(pair / "input" / "a_rainy.png")
    image.save(pair / "target" / "a_gt.png")
    image.save(pair / "input" / "lone_rainy.png")
    message = fails(capsys, *base, "--data", pair.parents[1])
    assert "lone_rainy.png" in message
    assert "--skip-bad" in message
    assert run(*base, "--data", pair.parents[1], "--skip-bad") == 0
    Image.new("RGB", (16, 16)).save(pair / "target" / "lone_gt.png")
    assert "lone_" in fails(capsys, *base, "--data", pair.parents[1])
    (pair / "target" / "lone_gt.png").write_bytes(b"no image")
    assert "lone_gt.png" in fails(capsys, *base, "--data", pair.parents[1])


# bench


@pytest.fixture
def known_peaks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring the machine's own peaks takes seconds."""
    from mirl.evaluate import speed
    from mirl.evaluate.roofline import Peak

    monkeypatch.setattr(speed, "measure_peak", lambda threads: Peak(100.0, 10.0))


@pytest.mark.usefixtures("known_peaks")
def test_bench_writes_the_documented_json_and_each_option_matters(
    ticket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = tmp_path / "bench.json"
    words = ["bench", "--ticket", ticket, "--size", "24x40", "--threads", 2, "--against", "torch", "--json", file]
    assert run(*words, "--runs", 3) == 0
    out = capsys.readouterr().out
    value = json.loads(file.read_text())
    assert (value["size"], value["threads"], value["runs"], value["ticket"]) == ([24, 40], 2, 3, str(ticket))
    assert {"torch"} <= {row["backend"] for row in value["rows"]} <= {"native", "torch"}
    assert value["command"].startswith("mirl bench --ticket ")
    assert "torch" in out
    assert "roofline: " in out
    assert run(*words, "--runs", 1000, "--seconds", 0) == 0
    assert json.loads(file.read_text())["runs"] == 1


def test_bad_benches_are_one_line(
    ticket: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    base = ["bench", "--ticket", ticket, "--against", "torch"]
    assert "--size 'big' is not understood" in fails(capsys, *base, "--size", "big")
    assert "no ticket" in fails(capsys, "bench", "--ticket", tmp_path / "none.mirl")
    fails(capsys, *base, "--against", "abacus", code=2)
    from mirl.evaluate import speed

    monkeypatch.setattr(speed, "lacks", {"openvino": "openvino needs openvino; pip install openvino"}.get)
    assert "pip install openvino" in fails(capsys, "bench", "--ticket", ticket, "--against", "openvino")
    monkeypatch.setattr(speed, "lacks", {"native": "native needs a compiler"}.get)
    capsys.readouterr()
    assert run(*base, "--threads", 0) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "mirl: left out: native needs a compiler"
    assert lines[1:] == ["mirl: --threads and --runs must be at least 1, found 0 and 5"]


# data


def test_data_list_check_and_synth(tests: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run("data", "list", tests) == 0
    assert "derain" in capsys.readouterr().out
    assert run("data", "check", tests) == 0
    assert "ok: " in capsys.readouterr().out
    message = fails(capsys, "data", "check", tests, "--against", mini_data())
    assert "photos also in" in message
    clean = tests / "denoise" / "CLEAN"
    assert run("data", "synth", clean, "-o", tmp_path / "a", "--task", "web", "--count", 3) == 0
    assert len(list((tmp_path / "a" / "web" / "CLEAN" / "input").iterdir())) == 3
    assert run("data", "synth", clean, "-o", tmp_path / "b", "--task", "web", "--count", 3, "--seed", 1) == 0
    pictures = [sorted((tmp_path / n / "web" / "CLEAN" / "input").iterdir())[0].read_bytes() for n in "ab"]
    assert pictures[0] != pictures[1]
    assert "3 more exist already" in fails(capsys, "data", "synth", clean, "-o", tmp_path / "a", "--task", "web")
    assert "is not a folder" in fails(capsys, "data", "synth", tmp_path / "none", "-o", tmp_path / "c", "--task", "web")
    (clean / "broken.png").write_bytes(b"no image")
    try:
        assert "broken.png" in fails(capsys, "data", "synth", clean, "-o", tmp_path / "d", "--task", "web")
        capsys.readouterr()
        assert run("data", "check", tests) == 1
        assert "broken.png" in capsys.readouterr().out
    finally:
        (clean / "broken.png").unlink()


def test_the_time_left_of_a_resumed_training_counts_from_where_it_went_on(monkeypatch, capsys):
    clock = iter([0.0, 100.0, 120.0])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.training_progress() as report:
        report.describe("level 0")
        report.update(1000, 5000, {})
        report.update(1100, 5000, {})  # 100 updates in 20 s
    assert "update 1100/5000" in (last := capsys.readouterr().err.splitlines()[-1])
    assert last.endswith(", 780 s left")
