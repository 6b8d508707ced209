"""Write docs/commands.md: every command's help, as printed. `--check` fails when the page is out of date."""

import contextlib
import io
import os
import sys
from pathlib import Path

PAGE = Path(__file__).parent / "commands.md"
COMMANDS = (
    "", "restore", "search", "control", "verify", "evaluate", "report", "inspect", "haze-head", "bench", "export", "import",
    "push", "serve", "data", "data list", "data check", "data paper", "data tasks", "data synth",
)  # fmt: skip


def page() -> str:
    """Return the page."""
    os.environ |= {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    from mirl.cli import main

    parts = ["# Commands", "", "Made by `make docs` from `mirl COMMAND --help`.", ""]
    for command in COMMANDS:
        text = io.StringIO()
        with contextlib.redirect_stdout(text), contextlib.suppress(SystemExit):
            main([*command.split(), "--help"])
        lines = [line.rstrip() for line in text.getvalue().strip().splitlines()]
        parts += [f"## mirl {command}".rstrip(), "", "```text", *lines, "```", ""]
    return "\n".join(parts)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif not PAGE.exists() or PAGE.read_text() != page():
        sys.exit("docs/commands.md is out of date; run `make docs`")
