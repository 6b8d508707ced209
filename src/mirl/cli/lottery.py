"""mirl control, verify, inspect."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mirl.cli.search import parse_seconds, stopped
from mirl.errors import MirlError
from mirl.files import write_json

if TYPE_CHECKING:
    from mirl.ticket import Ticket

Kind = Literal[
    "reinit", "shuffle", "random", "oneshot", "deeper", "ticket", "dense", "dense-small", "dense-macs", "finetune",
    "lr-rewind", "partial-reset",
]  # fmt: skip


def control(
    run: tyro.conf.Positional[Path],
    kind: Kind,
    seed: int = 0,
    budget: Literal["level", "total"] = "level",
    data: Path | None = None,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    time_limit: str | None = None,
    tensorboard: bool = False,
    skip_bad: bool = False,
) -> None:
    """Train one control beside a finished search: the same recipe and budget with one thing changed.

    Args:
        run: Run folder whose search has ended.
        kind: reinit (new initial values), shuffle (masks permuted in each layer), random (weights drawn from everywhere),
            oneshot (all pruning at once), deeper (one level more, to half the density), ticket (the ticket again; with the
            total budget, longer), dense, dense-small (narrower, as many parameters), dense-macs (narrower, as much work),
            finetune and lr-rewind (weights not rewound), partial-reset (MIR-L's: prompts and temperatures stay warm).
        seed: Seed of what the control draws: for reinit, shuffle, random, dense-small and dense-macs.
        budget: Updates of one level, or of the whole search.
        data: Where the run's training data lie now, when they have moved.
        device: Where to train.
        time_limit: Stop at a safe point after this time, such as 90s, 9m or 2h.
        tensorboard: Write TensorBoard events into the run folder.
        skip_bad: Leave out files that cannot be used instead of stopping.
    """
    from mirl.cli.progress import training_progress
    from mirl.lottery.controls import control as train_control
    from mirl.lottery.run import TrainingFolder

    with training_progress() as progress:
        result = train_control(run, kind, data, seed=seed, budget=budget, device=device, tensorboard=tensorboard,
                               skip_bad=skip_bad,
                               time_limit_seconds=parse_seconds(time_limit), progress=progress)  # fmt: skip
    if not result.finished:
        stopped(f"{result.run}: stopped at a safe point after update {result.step}", time_limit)
        return
    record = TrainingFolder(result.run, "control.json").record()
    scores = ", ".join(f"{task} {value['psnr']:.2f}" for task, value in record["validation"].items())
    print(f"{result.run}: density {record['density']:.2%}, validation PSNR in dB: {scores}")


def verify(target: tyro.conf.Positional[Path], json: Path | None = None) -> None:
    """Audit a run folder or a ticket from its files: rewinds by hash, nested masks, exact zeros, counts.

    Args:
        target: Run folder, .mirl file, name of a shipped ticket, or hf:owner/name[@revision] of the Hugging Face hub.
        json: Write the audit to this file.
    """
    from mirl.hub import is_hub_name
    from mirl.lottery.verify import verify as audit_files
    from mirl.ticket import find_ticket

    try:
        found = target if target.exists() else find_ticket(target)
    except MirlError as error:
        if is_hub_name(target):
            raise
        raise MirlError(f"{target} is no run folder, and there is {error}") from error
    audit = audit_files(found)
    if json is not None:
        write_json(json, audit.to_json())
    checks = ("rewound", "start_exact", "nested", "counts_exact", "zeros_exact", "hashes_match")
    table = Table("", "density", *checks)
    for row in [*audit.levels, *audit.controls]:
        level = row.get("level")
        name = row.get("control") or ("ticket" if level is None else f"level {level}")
        marks = ["" if row.get(c) is None else "yes" if row[c] else "NO" for c in checks]
        table.add_row(name, f"{row['density']:.2%}" if "density" in row else "", *marks)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for note in audit.notes:
        print(f"note: {note}")
    if not audit.ok:
        more = f" (and {len(audit.problems) - 8} more; see --json)" if len(audit.problems) > 8 else ""
        raise MirlError(f"{target} fails the audit: " + "; ".join(audit.problems[:8]) + more)
    if found.is_file():
        print("ok: counts and zeros; what it began from, and how it was pruned, only the run folder can show")
        return
    print("ok" if audit.finished else "ok so far: the search has not ended")


def inspect(ticket: tyro.conf.Positional[str], layers: bool = False, json: Path | None = None) -> None:
    """Say what is in a ticket: densities, size, windows, haze head, tasks, provenance.

    Args:
        ticket: Name of a shipped ticket, a .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        layers: List every tensor with its density.
        json: Write the figures to this file.
    """
    from mirl.ticket import describe_ticket, find_ticket, read_ticket

    file = find_ticket(ticket)
    loaded = read_ticket(file)
    figures = describe_ticket(loaded, file.stat().st_size) | _engine_figures(loaded)
    if json is not None:
        write_json(json, {**figures, "provenance": loaded.provenance})
    table = Table(show_header=False, box=None)
    table.add_row("parameters", f"{figures['nonzero']:,} of {figures['parameters']:,} are not zero")
    table.add_row("density of all parameters", f"{figures['density']:.2%}")
    table.add_row("density of prunable parameters", f"{figures['density_prunable']:.2%}")
    table.add_row("density by multiply-accumulates", f"{figures['density_macs']:.2%} of those with weights")
    if figures["plan_bytes"] is None:
        table.add_row("compaction", "not counted: the native engine is not built here")
    else:
        share = f"{figures['compaction_share']:.2%} of the weights of convolutions, in dead channels"
        table.add_row("removed by compaction", f"{figures['compaction_removed']:,}: {share}")
        share = f"{figures['macs_share_with_attention']:.2%} of the dense network's multiply-accumulates"
        table.add_row("work that remains", f"{share}, attention included")
        table.add_row("packed in memory", f"{figures['plan_bytes']:,} bytes")
    table.add_row("size", f"{figures['bytes']:,} bytes; dense float32 {figures['dense_bytes']:,}")
    table.add_row("windows", _windows(loaded))
    table.add_row("haze head", _head(loaded))
    table.add_row("tasks", escape(", ".join(figures["tasks"])) or "not stated")
    for key, value in loaded.provenance.items():
        if key == "scores":
            for task, score in value.items():
                table.add_row(escape(f"validation, {task}"), escape(_psnr(score)))
        elif key == "recipe":
            table.add_row("recipe", escape(_recipe(value, loaded.provenance.get("kind"))))
        elif key == "steps":
            table.add_row("updates of this training", escape(f"{value:,}" if isinstance(value, int) else str(value)))
        elif key not in ("tasks", "haze_head"):
            table.add_row(escape(key), escape(str(value)))
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table)
    if layers:
        rows = Table("tensor", "kind", "shape", "kept", "density")
        for row in figures["layers"]:
            rows.add_row(
                row["name"],
                row["kind"],
                "x".join(map(str, row["shape"])),
                f"{row['kept']:,}",
                f"{row['density']:.2%}",
            )
        console.print(rows)


def _windows(ticket: "Ticket") -> str:
    """Return in a line how the ticket cuts large photographs."""
    windows = ticket.windows
    if not windows.size:
        return "none: statistics of the whole photograph"
    return f"{windows.size} pixels, overlapping by at least {windows.overlap}, each with its own statistics"


def _head(ticket: "Ticket") -> str:
    """Return in a line what the ticket's haze head is, and what its provenance says of its training."""
    head, told = ticket.haze_head, ticket.provenance.get("haze_head")
    if head is None:
        return "none: every photograph is dehazed"
    trained = ""
    match told:
        case {"photos": int(photos), "steps": int(steps), "hazy": float(hazy), "false": float(false)}:
            trained = f"; {steps:,} updates on {photos:,} photographs, held out {hazy:.1%} told, {false:.1%} false"
    return f"{head.size:,} weights, haze from a probability of {head.low:g} on, fully from {head.high:g}{trained}"


def _recipe(recipe: Any, kind: Any) -> str:
    """Return in a line how a ticket (of a control, if `kind` says so) was trained and pruned; of others, what they say."""
    from mirl.lottery.budget import UNTRAINED

    match recipe:
        case {
            "name": name,
            "seed": seed,
            "rewind_step": rewound,
            "train": {"steps": steps},
            "prune": {"score": score, "scope": scope},
        }:
            begun = "begun from new initial values" if kind in UNTRAINED else f"rewound to update {rewound}"
            return f"{name}, seed {seed}: pruned by {score} ({scope}), {begun}, trained to {steps}"
    return str(recipe)


def _psnr(score: Any) -> str:
    """Return the PSNR of degraded and restored images, or what a ticket of others has in its place."""
    match score:
        case {"input_psnr": float(before), "psnr": float(after)}:
            return f"{before:.2f} to {after:.2f} dB"
    return str(score)


def _engine_figures(ticket: "Ticket") -> dict[str, Any]:
    """What the native engine makes of a ticket: weights dropped with dead channels, work left, memory. None: not built."""
    names = ("compaction_removed", "compaction_share", "macs_share_with_attention", "plan_bytes")
    try:
        from mirl.engine.sparse import NativeBackend
    except ImportError:
        return dict.fromkeys(names)
    facts = NativeBackend(ticket, threads=1).facts
    removed, left = facts.removed / max(facts.nonzero, 1), facts.macs_per_pixel / facts.dense_macs_per_pixel
    return dict(zip(names, (facts.removed, removed, left, facts.plan_bytes), strict=True))
