"""mirl search --dry-run: the plan of a search and how long it would take here."""

import sys

from rich.console import Console
from rich.table import Table

from mirl.lottery.plan import PUBLISHED_FRACTION, PUBLISHED_ROUNDS, Count, Plan, plan_search, published_counts
from mirl.network.foreign import UNUSED
from mirl.recipe import Recipe, Reset


def print_plan(recipe: Recipe, device: str, devices: int, nodes: int) -> None:
    """Print levels, densities, updates and counts, for the published network MIR-L's own count too, and the time."""
    from mirl.lottery.pace import seconds_per_update
    from mirl.lottery.run import first_process
    from mirl.lottery.setting import part_processes

    plan = plan_search(recipe)  # a plan that cannot be is an error before anything is measured
    if first_process():
        _print_counts(recipe, plan)
    seconds = seconds_per_update(recipe, device, devices, nodes)
    part_processes()
    if first_process():
        each, whole = (describe_duration(seconds * updates) for updates in (plan.updates_of_level[0], plan.updates))
        print(
            f"time: {seconds:.3g} s an update here, the mean of 3; {each} a level, {whole} for all {len(plan.levels)} levels"
        )


RESETS: dict[Reset, str] = {
    "full": "every tensor is rewound",
    "partial": "prompts and temperatures stay warm",
    "none": "nothing is rewound",
}


def describe_duration(seconds: float) -> str:
    """Say a duration in its largest unit."""
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} seconds"


def _print_counts(recipe: Recipe, plan: Plan) -> None:
    train, prune = recipe.train, recipe.prune
    dense = plan.levels[0]
    table = Table("level", "weights kept", "of the weights", "parameters kept", "density", "updates")
    for level, count in enumerate(plan.levels):
        table.add_row(str(level), f"{count.left:,}", f"{count.left / count.weights:.2%}", f"{count.survivors:,}",
                      f"{count.density:.2%}", f"{plan.updates_of_level[level]:,}")  # fmt: skip
    print(f"recipe {recipe.name}: {dense.parameters:,} parameters, {dense.weights:,} of them prunable weights")
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    warm = RESETS[prune.reset]
    rounds = len(plan.levels) - 1
    print(f"pruning: {rounds} rounds of {prune.fraction:.0%} after the dense level, {prune.scope}, {prune.score}; {warm}")
    batch = f"batch {train.batch}, patches of {train.patch} pixels"
    before = f" and {recipe.rewind_step:,} before the rewind point" if recipe.rewind_step else ""
    spans = plan.updates_of_level
    each = f"{len(spans)} x {spans[0]:,}" if len(set(spans)) == 1 else " + ".join(f"{span:,}" for span in spans)
    print(f"updates: {each}{before} = {plan.updates:,}, {batch}")
    if counts := published_counts(recipe.network):
        theirs, ours = counts
        what = f"{PUBLISHED_ROUNDS} rounds of {PUBLISHED_FRACTION:.0%}"
        print(f"as published (MIR-L's own count): {what} {_describe(theirs)}")
        print(
            f"    {sum(UNUSED.values()):,} of its weights are in {len(UNUSED)} layers that forward never uses: untrained, "
            "they are ranked and counted all the same; ours has no such layers"
        )
        print(f"the same rounds in our network: {what} {_describe(ours)}")


def _describe(count: Count) -> str:
    return (
        f"leave {count.left:,} of {count.weights:,} weights ({count.left / count.weights:.2%}) and all {count.others:,} "
        f"other values: {count.survivors:,} of {count.parameters:,} parameters, {count.density:.2%}"
    )
