"""mirl search."""

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from mirl.errors import MirlError
from mirl.recipe import (
    KernelChoice,
    Normalise,
    Optimizer,
    Precision,
    Prunable,
    Recipe,
    Reset,
    Scope,
    Score,
    TaskShare,
    named_recipe,
    with_steps,
)


def search(
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    recipe: Literal["tiny", "small", "small-laboratory", "paper", "paper-published"] = "tiny",
    data: Path | None = None,
    keep: float | None = None,
    fraction: float | None = None,
    scope: Scope | None = None,
    score: Score | None = None,
    normalise: Normalise | None = None,
    min_layer_density: float | None = None,
    prune_prompts: bool | None = None,
    prune_depthwise: bool | None = None,
    prunable: Prunable | None = None,
    reset: Reset | None = None,
    rate_exponent: float | None = None,
    rewind_step: int | None = None,
    tasks: tuple[str, ...] = (),
    seed: int | None = None,
    steps: int | None = None,
    batch: int | None = None,
    patch: int | None = None,
    learning_rate: float | None = None,
    minimum_learning_rate: float | None = None,
    clip_norm: float | None = None,
    optimizer: Optimizer | None = None,
    epochs: int | None = None,
    real_share: float | None = None,
    precision: Precision | None = None,
    compile: bool | None = None,
    checkpoint_seconds: float = 60.0,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    kernels: KernelChoice = "auto",
    devices: int = 1,
    nodes: int = 1,
    time_limit: str | None = None,
    levels_now: int | None = None,
    tensorboard: bool = False,
    skip_bad: bool = False,
    dense_from: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Find a winning ticket: train, prune the smallest weights, rewind, train again, until --keep is reached.

    The same command goes on with a run that was stopped. Options left out keep the recipe's value.

    Args:
        out: Run folder to make or to go on with; only --dry-run needs none.
        recipe: tiny (minutes), small (days on a CPU: the ticket that ships), small-laboratory (hours: white noise, streaks
            and haze alone), paper (network, data mix and schedule as published) or
            paper-published (with MIR-L's own choices: --prunable name, --reset partial, --normalise none, --epochs 120).
        data: Training folder in MIR-L's layout; the bundled photographs when left out.
        keep: Density to reach, over all trainable parameters.
        fraction: Share of the surviving prunable weights that one level removes.
        scope: Rank weights over the whole network or layer by layer.
        score: magnitude; macs: magnitude against what the weight costs to compute; lamp: against its layer's larger weights.
        normalise: initial-rms ranks |w| over its tensor's initial RMS; prompts rescales the prompts alone; none is the
            paper's raw magnitude.
        min_layer_density: No tensor is pruned below this density.
        prune_prompts: Prune prompt values too.
        prune_depthwise: Prune depthwise filters too.
        prunable: kind prunes convolution, linear and prompt weights; name, as MIR-L's code, all that is called a weight:
            LayerNorm scales too, prompts not.
        reset: full puts every tensor back to the rewind point; partial, as MIR-L's code, leaves prompts and temperatures.
        rate_exponent: A tensor of density d learns at d^-exponent times the rate; 0 to 1.
        rewind_step: Rewind to the weights after so many updates instead of the initial ones.
        tasks: Tasks to train (`mirl data tasks` lists them); those of the recipe when left out.
        seed: Seed of initial values and data.
        steps: Updates of each level; the warm-up keeps its share.
        batch: Patches an update.
        patch: Patch side in pixels, a multiple of 8.
        learning_rate: Peak of the schedule.
        minimum_learning_rate: End of the schedule; 0 as in MIR-L's code.
        clip_norm: Largest norm of a gradient, longer ones are shortened to it; 0 clips none, as MIR-L's code.
        optimizer: adamw, as in the paper, or muon, which learns more by each update.
        epochs: Move the rate so many times in a level, from 0 in the first epoch, as MIR-L's code; 0: with every update.
        real_share: Share of a task's patches that come from its real pairs, where the data hold any.
        precision: 32-true, bf16-mixed, or auto: bf16-mixed where the machine has hardware for it.
        compile: Run the network through torch.compile.
        checkpoint_seconds: Longest time that a kill -9 can lose.
        device: Where to train.
        kernels: native: our own kernels for a CPU; torch: PyTorch's; auto: native wherever they run.
        devices: Devices of this machine to train on; torchrun says it by itself.
        nodes: Machines to train on; torchrun says it by itself.
        time_limit: Stop at a safe point after this time, such as 90s, 9m or 2h.
        levels_now: Stop once so many levels have ended: one level, one job. The same command goes on.
        tensorboard: Write TensorBoard events into the run folder.
        skip_bad: Leave out files that cannot be used instead of stopping.
        dense_from: Take the dense level of this run, whose recipe may differ in how it prunes alone, instead of training it.
        dry_run: Print levels, densities, updates, counts, and the time it would take here by a few updates; write nothing.
    """
    chosen = _recipe(recipe, locals())
    if dry_run:
        from mirl.cli.plan import print_plan

        print_plan(chosen, device, devices, nodes)
        return
    if out is None:
        print("mirl: --out is missing: the run folder to make or to go on with; --dry-run alone needs none", file=sys.stderr)
        raise SystemExit(2)
    from mirl.cli.progress import training_progress
    from mirl.lottery.run import first_process
    from mirl.lottery.search import search as find
    from mirl.lottery.setting import part_processes

    with training_progress() as progress:
        result = find(
            chosen, out, data, device=device, devices=devices, nodes=nodes, tensorboard=tensorboard, skip_bad=skip_bad,
            checkpoint_seconds=checkpoint_seconds, time_limit_seconds=parse_seconds(time_limit), progress=progress,
            dense_from=dense_from, levels_now=levels_now, kernels=kernels,
        )  # fmt: skip
    part_processes()
    if not first_process():  # of a distributed training, the first reports
        return
    if not result.finished and not result.step:
        print(f"{out}: level {result.level - 1} of {result.levels - 1} has ended; the same command goes on")
        return
    if not result.finished:
        stopped(f"{out}: stopped at a safe point in level {result.level} of {result.levels - 1} after update {result.step}",
                 time_limit)  # fmt: skip
        return
    _print_levels(out)
    print(f"ticket: {out / 'ticket.mirl'}")


def _recipe(name: str, options: dict[str, Any]) -> Recipe:
    """The named recipe with the options that were given."""
    recipe = named_recipe(name)
    if options["steps"] is not None:
        recipe = with_steps(recipe, options["steps"])

    def given(*names: str, **renamed: str) -> dict[str, Any]:
        wanted = {**{n: n for n in names}, **renamed}
        return {to: options[n] for n, to in wanted.items() if options[n] is not None}

    train = given("batch", "patch", "learning_rate", "minimum_learning_rate", "clip_norm", "optimizer", "epochs",
                  "real_share", "precision", "compile")  # fmt: skip
    choices = given("keep", "fraction", "scope", "score", "normalise", "min_layer_density", "prunable", "reset",
                    "rate_exponent", prune_prompts="prompts", prune_depthwise="depthwise")  # fmt: skip
    prune = replace(recipe.prune, **choices)
    tasks = recipe.tasks
    if options["tasks"]:
        shares = {share.task: share for share in recipe.tasks}
        tasks = tuple(shares.get(task, TaskShare(task)) for task in options["tasks"])
    return replace(recipe, train=replace(recipe.train, **train), prune=prune, tasks=tasks, **given("seed", "rewind_step"))


def stopped(where: str, time_limit: str | None) -> None:
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

    records = [level.record() for level in RunFolder(run).finished_levels]
    tasks = list(records[-1]["validation"])
    table = Table("level", "density", *(f"{task}, dB" for task in tasks), title="validation PSNR (input in brackets)")
    for record in records:
        scores = [f"{v['psnr']:.2f} ({v['input_psnr']:.2f})" for v in record["validation"].values()]
        table.add_row(str(record["level"]), f"{record['density']:.2%}", *scores)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
