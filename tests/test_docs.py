"""The documents: the site builds without a warning, the tutorial runs, every command line names real options."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BIN = Path(sys.executable).parent
QUICK = "--steps 2 --batch 5 --patch 16 --fraction 0.9"  # what the tutorial does in minutes, in seconds
BLOCK = re.compile(r"(?:<!-- run(?P<quick>: quick)? -->\n)?```(?P<kind>sh|python)\n(?P<code>.*?)```", re.DOTALL)


def test_the_site_builds_without_a_warning(tmp_path: Path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path / "site"]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert built.returncode == 0, built.stderr
    pages = {page.name for page in (tmp_path / "site").glob("*.html")}
    assert {f"{page.stem}.html" for page in DOCS.glob("*.md")} <= pages
    reference = (tmp_path / "site" / "api.html").read_text()
    assert "Restore a PIL image or an array" in reference
    results = (tmp_path / "site" / "results.html").read_text()
    pictures = re.findall(r'src="((?:results|results-files)/[^"]+)"', results)
    assert pictures
    assert all((tmp_path / "site" / picture).exists() for picture in pictures)


def test_the_tutorial_runs_as_it_stands(tmp_path: Path):
    (tmp_path / "src").symlink_to(ROOT / "src")
    environment = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"}
    blocks = [m for m in BLOCK.finditer((DOCS / "tutorial.md").read_text()) if m.group().startswith("<!-- run")]
    for block in blocks:
        code = block["code"].replace("--recipe tiny", f"--recipe tiny {QUICK}") if block["quick"] else block["code"]
        command = ["bash", "-euc", code] if block["kind"] == "sh" else [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    assert len(blocks) == 5
    assert (tmp_path / "first.html").stat().st_size > 10_000
    assert len(list((tmp_path / "restored").iterdir())) == 4


def command_lines() -> list[tuple[str, str]]:
    found = []
    for page in [ROOT / "README.md", *sorted(DOCS.glob("*.md"))]:
        for block in BLOCK.finditer(page.read_text()):
            for line in block["code"].replace("\\\n", " ").splitlines() if block["kind"] == "sh" else []:
                for part in re.split(r"&&|\|\||;|\bdo\b", line.split(" # ")[0]):
                    if part.strip().startswith("mirl "):
                        found.append((page.name, part.strip()))
    return found


def options_of(section: str) -> set[str]:
    return set(re.findall(r"(?<![\w-])-{1,2}[a-z][\w-]*", section)) | {"--help", "--debug", "--json"}


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_a_command_in_the_documents_names_real_options(page: str, line: str):
    reference = re.split(r"^## ", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    sections = {text.split("\n", 1)[0]: text for text in reference}
    words = shlex.split(line)
    name = " ".join(words[:3]) if " ".join(words[:3]) in sections else " ".join(words[:2])
    assert name in sections, f"{page}: there is no command {name}"
    used = {word.split("=")[0] for word in words if re.match(r"-{1,2}[a-z]", word)}
    assert used <= options_of(sections[name]), f"{page}: {line}"


def test_enough_command_lines_are_found():
    assert len(command_lines()) > 20
