"""The documents: the site builds without a warning, all that they say to type has run, every command names real options."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

import mirl
from conftest import make_ticket, mini_data
from mirl.cli import main
from mirl.data import published
from mirl.ticket import write_ticket
from test_data_published import photo, unpacked
from test_network_foreign import published as foreign_state
from wasm_jobs import WASM, node

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.glob("*.md")))
BLOCK = re.compile(r"^```(?P<kind>\w*)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
FOR = re.compile(r"for (\w+) in (.*?); do\n(.*?)\ndone", re.DOTALL)
TEXT = ("", "text")  # kinds of blocks that are not to be typed

QUICK = "--recipe tiny --steps 2 --batch 5 --patch 16 --fraction 0.9"
STAND_INS = {
    "--recipe tiny": f"{QUICK} --tasks derain",  # what takes minutes to days, in seconds
    "--recipe small": QUICK,
    "--recipe paper-published --data": f"{QUICK} --tasks derain --prunable name --reset partial --epochs 1 --data",
    "--recipe paper-published --dry-run": "--recipe paper-published --dry-run --batch 1 --patch 8",
    "-o own.mirl --data DIR": "-o own.mirl --data DIR --examples 24 --steps 2",
    "--suite people": "--suite people --limit 1",  # a picture of each set
    "--size 512": "--size 32 --runs 1 --against torch",
}
LEFT_OUT = {
    "make demo": "minutes of training",
    "make bench": "hours of measuring; what it writes is in results/",
    "pip install *": "needs a package index; make setup installs",
    "python3 -m venv *": "make setup makes one",
    ". .venv/bin/activate": "of this shell alone",
    "mirl serve": "runs until it is stopped: test_serve_process.py",
    "curl *": "needs the service: test_serve_api.py and test_serve_process.py",
    "hf auth login": "needs an account",
    "mirl push runs/own/ticket.mirl me/rain": "needs an account: test_hub.py pushes to a stand-in",
    "mirl restore holiday/ -o out/ --ticket hf:me/rain*": "needs the hub: test_hub.py",
    "mirl restore s3://* --workers 8": "needs an object store: test_scale_batch.py has one in memory",
    "export RAY_AUTH_MODE=*": "for the cluster of the next lines",
    "ray start *": "needs other machines",
    "mirl restore s3://* --engine ray *": "needs that cluster: test_scale_batch.py starts one here",
    "torchrun *": "needs GPUs: test_lottery_distributed.py runs torchrun on processors",
    "DATA=* RUN=* sbatch *": "needs Slurm: test_lottery_distributed.py runs the script with stand-ins for srun and scontrol",
}


@dataclass(frozen=True)
class Block:
    """A piece of a page that is to be typed."""

    kind: str
    code: str

    def lines(self) -> Iterator[str]:
        """The single commands of a shell block: loops unrolled, comments gone."""
        for line in FOR.sub(_unrolled, self.code.replace("\\\n", " ")).splitlines():
            for part in line.split("&&"):
                if words := shlex.split(part, comments=True):
                    yield shlex.join(words) if words[0] == "mirl" else " ".join(words)


def _unrolled(loop: re.Match[str]) -> str:
    name, values, body = loop.groups()
    return "\n".join(body.replace(f"${name}", value) for value in values.split())


def blocks(page: Path) -> list[Block]:
    return [Block(found["kind"], found["code"]) for found in BLOCK.finditer(page.read_text()) if found["kind"] not in TEXT]


def left_out(line: str) -> bool:
    return any(fnmatch(line, pattern) for pattern in LEFT_OUT)


def all_lines() -> list[tuple[str, str]]:
    return [(page.name, line) for page in PAGES for block in blocks(page) if block.kind == "sh" for line in block.lines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the documents name, small: photographs, sets, downloads, a checkpoint, a ticket."""
    root = tmp_path_factory.mktemp("docs")
    (root / "src").symlink_to(ROOT / "src")
    (root / "DIR").symlink_to(mini_data())
    for seed, name in enumerate(("holiday/a.jpg", "archive/2024/b.png", "photo.jpg", "hazy.png", "hazy.jpg",
                                 "TESTS/denoise/CLEAN/c.png", "TESTS/denoise/Kodak24/kodim01.png")):  # fmt: skip
        photo(root / name, 100 + seed)
    for task in ("derain", "dehaze"):
        assert main(["data", "synth", str(root / "TESTS/denoise/CLEAN"), "-o", str(root / "TESTS"), "--task", task]) == 0
    unpacked(root / "DOWNLOADS")
    torch.save({"state_dict": {f"net.{name}": value for name, value in foreign_state().items()}}, root / "epoch.ckpt")
    write_ticket(make_ticket(), root / "T.mirl")
    shutil.copytree(WASM, root / "browser")
    write_ticket(make_ticket(), root / "browser" / "ticket.mirl")
    return root


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_all_that_a_page_says_to_type_runs(page: Path, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    few = tuple(replace(one, images=2 if one.name == "OTS" else 1) for one in published.PUBLISHED)
    monkeypatch.setattr(published, "PUBLISHED", few)  # sets of the size of DOWNLOADS
    for block in blocks(page):
        if block.kind == "sh":
            for line in block.lines():
                if not left_out(line):
                    type_in(line)
        elif block.kind == "python":
            code = block.code.replace("time_limit_seconds=3600", "time_limit_seconds=0")  # one update of a search
            ran([sys.executable, "-W", "error", "-c", code], folder)
        elif block.kind == "js":
            script = folder / "browser" / "block.mjs"
            script.write_text(BROWSER + block.code + "console.log(restored.width, restored.height, restored.data.length);\n")
            assert ran([node(), str(script)], script.parent) == "24 16 1536\n"
        else:
            pytest.fail(f"{page.name}: nothing runs blocks of {block.kind}: {block.code}")
    assert [name for name in MADE.get(page.name, ()) if not (folder / name).exists()] == []


MADE = {
    "README.md": ("restored/a.jpg", "restored.webp", "first.html"),
    "engine.md": ("speed.json",),
    "howto.md": ("runs/vignette/recipe.json", "own.html",
                 "runs/own/controls/dense-total/control.json", "runs/published/ticket.mirl", "scores.json",
                 "images.csv", "promptir.mirl", "clear.mirl", "small.onnx", "small.safetensors", "restored/manifest.jsonl"),
    "index.md": ("restored/photo.jpg",),
    "page.md": ("site/index.html",),
    "tutorial.md": ("first.html", "runs/first/controls/reinit/control.json", "restored/lomiri_aitzgorri.jpg"),
}  # fmt: skip


BROWSER = """
import { readFileSync } from "node:fs";
const fetch = async (name) => ({ arrayBuffer: async () => new Uint8Array(readFileSync(name)).buffer });
const imageData = { width: 24, height: 16, data: new Uint8ClampedArray(24 * 16 * 4).fill(128) };
"""


def type_in(line: str) -> None:
    for text, stand_in in STAND_INS.items():
        line = line.replace(text, stand_in)
    words = shlex.split(line)
    assert words[0] == "mirl", f"nothing runs {line!r}; name it in LEFT_OUT, with the reason"
    assert main(words[1:]) == 0, line


def ran(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_left_out_or_replaced_that_no_page_says():
    lines = [line for _, line in all_lines()]
    assert [pattern for pattern in LEFT_OUT if not any(fnmatch(line, pattern) for line in lines)] == []
    assert [text for text in STAND_INS if not any(text in line and not left_out(line) for line in lines)] == []
    assert sum(not left_out(line) for line in lines) > 40
    assert {block.kind for page in PAGES for block in blocks(page)} == {"sh", "python", "js"}


def test_the_site_builds_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert built.returncode == 0, built.stderr
    pages = {page.name for page in (tmp_path / "site").glob("*.html")}
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= pages
    reference = (tmp_path / "site" / "api.html").read_text()
    assert "Restore a PIL image or an array" in reference
    named = re.findall(r"^::: (\S+)$", (DOCS / "api.md").read_text(), re.MULTILINE)
    assert [name for name in named if f'id="{name}"' not in reference] == []
    assert {f"mirl.{name}" for name in mirl.__all__ if name != "MirlError"} | CALLED <= set(named)
    results = (tmp_path / "site" / "results.html").read_text()
    pictures = re.findall(r'src="((?:results|results-files)/[^"]+)"', results)
    assert pictures
    assert all((tmp_path / "site" / picture).exists() for picture in pictures)


CALLED = {
    "mirl.lottery.controls.control", "mirl.lottery.verify.verify", "mirl.evaluate.benchmark.evaluate",
    "mirl.evaluate.report.write_report", "mirl.ticket.write_ticket", "mirl.network.checkpoint.import_checkpoint",
    "mirl.engine.onnx_export.export_onnx", "mirl.ticket_tensors.write_tensors", "mirl.publish.push",
    "mirl.scale.batch.restore_batch",
}  # fmt: skip
"""What the commands of the how-to call: the reference must have it."""


def options_of(section: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])-{1,2}[a-z][\w-]*", section)) | {"--help", "--debug", "--json"}


@pytest.mark.parametrize(("page", "line"), [(page, line) for page, line in all_lines() if line.startswith("mirl ")])
def test_a_command_in_the_documents_names_real_options(page: str, line: str):
    reference = re.split(r"^## ", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    sections = {text.split("\n", 1)[0]: text for text in reference}
    words = shlex.split(line)
    name = " ".join(words[:3]) if " ".join(words[:3]) in sections else " ".join(words[:2])
    assert name in sections, f"{page}: there is no command {name}"
    used = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert used <= options_of(sections[name]), f"{page}: {line}"
