"""A ticket given to others: its model card, made from its provenance and figures, and both uploaded to the hub."""

import json
import math
import re
from pathlib import Path
from typing import Any

from mirl import hub
from mirl.errors import MirlError
from mirl.ticket import Ticket, describe_ticket, read_ticket

_TASK = re.compile(r"[a-z0-9]{1,32}")


def push(file: Path, repository: str, private: bool = False) -> str:
    """Upload the ticket in `file` with its model card to `owner/name` on the hub; return the address.

    The file goes up as it is, once it has been read. Raises MirlError for a bad ticket or name, or when the hub refuses.
    """
    hub.check_repository(repository)
    try:
        content = Path(file).read_bytes()
    except OSError as error:
        raise MirlError(f"cannot read the ticket {file}: {error.strerror}; expected a .mirl file") from error
    try:
        card = model_card(read_ticket(content), len(content), repository)
    except MirlError as error:
        raise MirlError(f"{file}: {error}") from error
    return hub.upload(repository, {hub.FILE: content, "README.md": card.encode()}, private)


def model_card(ticket: Ticket, size_bytes: int, repository: str) -> str:
    """Return the Markdown page of a ticket with the front matter that the hub reads; states no licence."""
    figures = describe_ticket(ticket, size_bytes)
    tags = ["image-restoration", "lottery-ticket", "pruning", "sparse", *filter(_TASK.fullmatch, ticket.tasks)]
    return "\n".join(
        [
            "---",
            "library_name: mirl",
            "pipeline_tag: image-to-image",
            f"tags: [{', '.join(dict.fromkeys(tags))}]",
            "---",
            "",
            f"# {repository.partition('/')[2]}",
            "",
            f"A network that restores photographs: {ticket.kept:,} of {ticket.total:,} parameters are kept. It is a "
            "PromptIR ([arXiv 2306.13090](https://arxiv.org/abs/2306.13090)), pruned as a lottery ticket "
            "([arXiv 2510.14463](https://arxiv.org/abs/2510.14463)).",
            "",
            "```python",
            "import mirl  # pip install 'mirl[hub]'",
            "",
            f'restored = mirl.restore(photo, mirl.load("hf:{repository}"))  # a PIL image or an array',
            "```",
            "",
            f"On the command line: `mirl restore PHOTOS -o OUT --ticket hf:{repository}`.",
            "",
            "| figure | value |",
            "|---|---|",
            f"| density of all parameters | {ticket.density:.2%} |",
            f"| density of prunable parameters | {figures['density_prunable']:.2%} |",
            f"| density by multiply-accumulates | {figures['density_macs']:.2%} |",
            f"| size of the file | {size_bytes:,} bytes; dense float32 {figures['dense_bytes']:,} |",
            f"| tasks | {', '.join(filter(_TASK.fullmatch, ticket.tasks)) or 'not stated'} |",
            "",
            *_scores(ticket.provenance.get("scores")),
            *_origin(ticket.provenance.get("imported")),
            "## Provenance",
            "",
            "As the ticket states it; `mirl inspect` shows the same.",
            "",
            *_fenced(json.dumps(ticket.provenance, indent=2, sort_keys=True)),
            "",
        ]
    )


def _scores(scores: Any) -> list[str]:
    """The validation scores, where the provenance has them in the form that `mirl search` writes."""
    rows = []
    for task, value in sorted(scores.items()) if isinstance(scores, dict) else []:
        pair = [_number(value.get(name)) for name in ("input_psnr", "psnr")] if isinstance(value, dict) else [None]
        if _TASK.fullmatch(task) and None not in pair:
            rows.append(f"| {task} | {pair[0]:.2f} | {pair[1]:.2f} |")
    if not rows:
        return ["## Scores", "", "None stated.", ""]
    head = ["| task | PSNR of the degraded input, dB | restored, dB |", "|---|---|---|"]
    return ["## Scores", "", "Validation PSNR of its own training:", "", *head, *rows, ""]


def _number(value: Any) -> float | None:
    """The value as a finite number, None for anything else: an integer may be of any length."""
    try:
        number = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _origin(imported: Any) -> list[str]:
    if not isinstance(imported, dict):
        return []
    return ["Imported from a checkpoint of the published layout by `mirl import`; what was dropped is below.", ""]


def _fenced(text: str) -> list[str]:
    """A code block that the text cannot end."""
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return [f"{fence}json", text, fence]
