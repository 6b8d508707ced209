"""mirl search, control, verify, inspect."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mirl.errors import MirlError
from mirl.files import write_json
from mirl.recipe import Normalise, Optimizer, Precision, Recipe, Scope, Score, TaskShare, named_recipe, with_steps

if TYPE_CHECKING:
    from mirl.ticket import Ticket

Kind = Literal[
    "reinit", "shuffle", "random", "oneshot", "deeper", "dense", "dense-small", "finetune", "lr-rewind", "partial-reset"
]


def search(
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    recipe: Literal["tiny", "small", "paper"] = "tiny",
    data: Path | None = None,
    keep: float | None = None,
    fraction: float | None = None,
    scope: Scope | None = None,
    score: Score | None = None,
    normalise: Normalise | None = None,
    min_layer_density: float | None = None,
    prune_prompts: bool | None = None,
    prune_depthwise: bool | None = None,
    rewind_step: int | None = None,
    tasks: tuple[str, ...] = (),
    seed: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
    patch: int | None = None,
    learning_rate: float | None = None,
    optimizer: Optimizer | None = None,
    precision: Precision | None = None,
    compile: bool | None = None,
    checkpoint_seconds: float = 60.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    nodes: int = 1,
    time_limit: str | None = None,
    tensorboard: bool = False,
    skip_bad: bool = False,
    dense_from: Path | None = None,
) -> None:
    """Find a winning ticket: train, prune the smallest weights, rewind, train again, until --keep is reached.

    The same command goes on with a run that was stopped. Options left out keep the recipe's value.

    Args:
        out: Run folder to make or to go on with.
        recipe: tiny (minutes), small (hours on a CPU) or paper (the published network).
        data: Training folder in MIR-L's layout; the bundled photographs when left out.
        keep: Density to reach, over all trainable parameters.
        fraction: Share of the surviving prunable weights that one level removes.
        scope: Rank weights over the whole network or layer by layer.
        score: magnitude, or macs: magnitude against what the weight costs to compute.
        normalise: initial-rms ranks |w| over its tensor's initial RMS; prompts rescales the prompts alone; none is the
            paper's raw magnitude.
        min_layer_density: No tensor is pruned below this density.
        prune_prompts: Prune prompt values too.
        prune_depthwise: Prune depthwise filters too.
        rewind_step: Rewind to the weights after so many updates instead of the initial ones.
        tasks: Tasks to train, of denoise15 denoise25 denoise50 derain dehaze web; all but web when left out.
        seed: Seed of initial values and data.
        steps: Updates of each level; the warm-up keeps its share.
        batch: Patches an update.
        patch: Patch side in pixels, a multiple of 8.
        learning_rate: Peak of the schedule.
        optimizer: adamw, as in the paper, or muon, which learns more by each update.
        precision: 32-true or bf16-mixed.
        compile: Run the network through torch.compile.
        checkpoint_seconds: Longest time that a kill -9 can lose.
        device: Where to train.
        devices: Devices of this machine to train on.
        nodes: Machines to train on, under torchrun.
        time_limit: Stop at a safe point after this time, such as 90s, 9m or 2h.
        tensorboard: Write TensorBoard events into the run folder.
        skip_bad: Leave out files that cannot be used instead of stopping.
        dense_from: Take the dense level of this run, whose recipe may differ in how it prunes alone, instead of training it.
    """
    chosen = _recipe(recipe, locals())
    from mirl.cli.progress import training_progress
    from mirl.lottery.search import search as find

    with training_progress() as progress:
        result = find(
            chosen, out, data, device=device, devices=devices, nodes=nodes, tensorboard=tensorboard, skip_bad=skip_bad,
            checkpoint_seconds=checkpoint_seconds, time_limit_seconds=parse_seconds(time_limit), progress=progress,
            dense_from=dense_from,
        )  # fmt: skip
    if not result.finished:
        _stopped(f"{out}: stopped at a safe point in level {result.level} of {result.levels - 1} after update {result.step}",
                 time_limit)  # fmt: skip
        return
    _print_levels(out)
    print(f"ticket: {out / 'ticket.mirl'}")


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
            oneshot (all pruning at once), deeper (one level more, to half the density), dense, dense-small (narrower, as
            many parameters), finetune and lr-rewind (weights not rewound), partial-reset (MIR-L's: prompts and
            temperatures stay warm).
        seed: Seed of what the control draws.
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
        _stopped(f"{result.run}: stopped at a safe point after update {result.step}", time_limit)
        return
    record = TrainingFolder(result.run, "control.json").record()
    scores = ", ".join(f"{task} {value['psnr']:.2f}" for task, value in record["validation"].items())
    print(f"{result.run}: density {record['density']:.2%}, validation PSNR in dB: {scores}")


def verify(target: tyro.conf.Positional[Path], json: Path | None = None) -> None:
    """Audit a run folder or a ticket from its files: rewinds by hash, nested masks, exact zeros, counts.

    Args:
        target: Run folder, .mirl file, or hf:owner/name[@revision] of the Hugging Face hub.
        json: Write the audit to this file.
    """
    from mirl.hub import fetch, is_hub_name
    from mirl.lottery.verify import verify as audit_files

    audit = audit_files(fetch(target) if is_hub_name(target) else target)
    if json is not None:
        write_json(json, audit.to_json())
    checks = ("rewound", "nested", "counts_exact", "zeros_exact", "hashes_match")
    table = Table("", "density", *checks)
    for row in [*audit.levels, *audit.controls]:
        name = row.get("control", f"level {row.get('level')}")
        marks = ["" if row.get(c) is None else "yes" if row[c] else "NO" for c in checks]
        table.add_row(name, f"{row['density']:.2%}" if "density" in row else "", *marks)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    for note in audit.notes:
        print(f"note: {note}")
    if not audit.ok:
        more = f" (and {len(audit.problems) - 8} more; see --json)" if len(audit.problems) > 8 else ""
        raise MirlError(f"{target} fails the audit: " + "; ".join(audit.problems[:8]) + more)
    print("ok" if audit.finished else "ok so far: the search has not ended")


def inspect(ticket: tyro.conf.Positional[str], layers: bool = False, json: Path | None = None) -> None:
    """Say what is in a ticket: densities, size, tasks, provenance.

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
    table.add_row("density by multiply-accumulates", f"{figures['density_macs']:.2%}")
    if figures["plan_bytes"] is None:
        table.add_row("compaction", "not counted: the native engine is not built here")
    else:
        share = f"{figures['compaction_share']:.2%} of the weights of convolutions, in dead channels"
        table.add_row("removed by compaction", f"{figures['compaction_removed']:,}: {share}")
        share = f"{figures['macs_share_with_attention']:.2%} of the dense network's multiply-accumulates"
        table.add_row("work that remains", f"{share}, attention included")
        table.add_row("packed in memory", f"{figures['plan_bytes']:,} bytes")
    table.add_row("size", f"{figures['bytes']:,} bytes; dense float32 {figures['dense_bytes']:,}")
    table.add_row("tasks", escape(", ".join(figures["tasks"])) or "not stated")
    for key, value in loaded.provenance.items():
        if key not in ("recipe", "tasks"):
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


def _recipe(name: str, options: dict[str, Any]) -> Recipe:
    """The named recipe with the options that were given."""
    recipe = named_recipe(name)
    if options["steps"] is not None:
        recipe = with_steps(recipe, options["steps"])

    def given(*names: str, **renamed: str) -> dict[str, Any]:
        wanted = {**{n: n for n in names}, **renamed}
        return {to: options[n] for n, to in wanted.items() if options[n] is not None}

    train = given("batch", "patch", "learning_rate", "optimizer", "precision", "compile")
    prune = replace(recipe.prune, **given("keep", "fraction", "scope", "score", "normalise", "min_layer_density",
                                          prune_prompts="prompts", prune_depthwise="depthwise"))  # fmt: skip
    tasks = recipe.tasks
    if options["tasks"]:
        shares = {share.task: share for share in recipe.tasks}
        tasks = tuple(shares.get(task, TaskShare(task)) for task in options["tasks"])
    return replace(recipe, train=replace(recipe.train, **train), prune=prune, tasks=tasks, **given("seed", "rewind_step"))


def _stopped(where: str, time_limit: str | None) -> None:
    """A time limit is what was asked for; a signal is not the end that was."""
    if time_limit is None:
        raise MirlError(f"{where}; the same command goes on")
    print(f"{where}; the same command goes on")


def parse_seconds(text: str | None) -> float | None:
    """Read 90s, 9m or 2h."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text.strip())
    if not match:
        raise MirlError(f"--time-limit {text!r} is not understood; expected a number with s, m or h, such as 9m")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


def _print_levels(run: Path) -> None:
    from mirl.lottery.run import RunFolder

    folder = RunFolder(run)
    records = [folder.level(n).record() for n in range(len(list(run.glob("level-*/level.json"))))]
    tasks = list(records[-1]["validation"])
    table = Table("level", "density", *(f"{task}, dB" for task in tasks), title="validation PSNR (input in brackets)")
    for record in records:
        scores = [f"{v['psnr']:.2f} ({v['input_psnr']:.2f})" for v in record["validation"].values()]
        table.add_row(str(record["level"]), f"{record['density']:.2%}", *scores)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
