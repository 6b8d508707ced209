"""The audit: every claim about a run, checked from its files alone. Nothing of the training is trusted.

A rewind is proved by hashes: the training wrote the hash of each tensor right after it had put the network back; here
start x mask is computed from the files and must hash to the same. Each mask is proved by pruning again. Torch is needed for
one thing only, to draw the initial values again from the seed; without it a note says that this was not checked.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mirl.files import read_json
from mirl.lottery.audit import (
    Audit,
    Training,
    count_kept,
    initial_values,
    masked_shapes,
    metrics,
    read_masks,
    read_tensors,
    rewound,
    same_hashes,
    same_masks,
    shapes_of,
    ticket_counts,
    trained,
)
from mirl.lottery.audit_controls import Finished, audit_control
from mirl.lottery.prune import (
    Masks,
    begin_after_reset,
    dense_masks,
    describe_masks,
    initial_scales,
    plan_levels,
    scores,
    shrink_masks,
    warm_tensors,
)
from mirl.lottery.run import BEFORE, NOTES, Arrays, RunFolder, TrainingFolder, hash_state
from mirl.lottery.schedule import level_updates
from mirl.recipe import Recipe, recipe_from_dict
from mirl.ticket import read_ticket

__all__ = ["Audit", "verify", "verify_run"]


def verify(target: Path) -> Audit:
    """Audit a run folder or a ticket file. Raises MirlError when it is neither."""
    target = Path(target)
    if target.is_dir():
        return verify_run(target)
    ticket, audit = read_ticket(target), Audit()
    ticket_counts(audit, ticket, str(target))
    if "recipe" in ticket.provenance:
        recipe = audit.attempt(str(target), lambda: recipe_from_dict(ticket.provenance["recipe"]))
        if recipe is not None:
            audit.require(recipe.network == ticket.network, f"{target} is of another network than the recipe it claims")
            tasks = tuple(share.task for share in recipe.tasks)
            audit.require(ticket.tasks == tasks, f"{target} claims the tasks {ticket.tasks}, its recipe has {tasks}")
    audit.levels.append({"level": ticket.provenance.get("level"), "density": ticket.density, "zeros_exact": True})
    return audit


def verify_run(path: Path) -> Audit:
    """Audit a run folder, finished or not; raises MirlError when it is none."""
    run, audit = RunFolder(path), Audit()
    recipe = run.recipe()
    plan = plan_levels(recipe.network, recipe.prune)
    audit.attempt("recipe.json", run.data)
    start = _start(audit, run, recipe)
    if recipe.prune.reset == "partial":
        warm = len(warm_tensors(recipe.network))
        audit.notes.append(
            f"partial reset, as the recipe says: {warm} tensors (prompts, temperatures) stay as the level before left them, "
            "all others are rewound"
        )
    if recipe.prune.reset == "none":
        audit.notes.append("gradual pruning, as the recipe says: nothing is rewound, each level goes on with the one before")
    _order(audit, run, len(plan))
    before = _Before(dense_masks(recipe.network, recipe.prune) if start is not None else None, None)
    first: Arrays | None = None
    previous = before
    for level, keep in enumerate(plan):
        previous, before = before, _level(audit, recipe, run.level(level), start, before, level, keep)
        first = before.weights if level == 0 else first
    if audit.finished and run.ticket.exists():
        final = run.level(len(plan) - 1)
        top, own = (
            audit.read(name, run.path / name, Path.read_bytes) for name in ("ticket.mirl", f"{final.path.name}/ticket.mirl")
        )
        audit.require(top == own, f"ticket.mirl is not the ticket of {final.path.name}")
    latest = before.weights if len(plan) == 1 else previous.weights
    finished = Finished(recipe, len(plan), start, before.masks, first, latest, before.weights)
    for place in _controls(run):
        audit_control(audit, finished, place)
    return audit


class _Before:
    """What a level is pruned from: masks and trained weights of the level before, each None when nobody knows them."""

    def __init__(self, masks: Masks | None, weights: Arrays | None):
        self.masks, self.weights = masks, weights


def _controls(run: RunFolder) -> list[TrainingFolder]:
    """Every folder of a control, ended or not."""
    folder = run.path / "controls"
    return [run.control(p.name) for p in sorted(folder.iterdir()) if p.name[0] != "."] if folder.is_dir() else []


def _order(audit: Audit, run: RunFolder, levels: int) -> None:
    """A level must have ended before the next begins, and all of them before the ticket and the controls."""
    names = [run.level(level).path.name for level in range(levels)]
    found = sorted(p.name for p in run.path.glob("level-*"))
    for name in found:
        audit.require(name in names, f"{name}: the recipe has no such level")
    after = ["ticket.mirl"] if run.ticket.exists() else []
    after += [f"controls/{place.path.name}" for place in _controls(run)]
    if not run.started:
        audit.finished = False
        audit.notes.append("the search has not made its rewind point yet")
        later = next(iter(found + after), None)
        audit.require(later is None, f"start.json is missing though {later} is there")
    for level in range(levels):
        place = run.level(level)
        if place.done:
            continue
        audit.finished = False
        later = next((name for name in [*names[level + 1 :], *after] if name in after or name in found), None)
        state = f"has no {place.marker}" if place.path.exists() else "is missing"
        audit.require(later is None, f"{place.path.name} {state} though {later} is there")
    if audit.finished:
        audit.require(run.ticket.exists(), "ticket.mirl is missing; the same `mirl search` writes it again")


def _start(audit: Audit, run: RunFolder, recipe: Recipe) -> Arrays | None:
    """The rewind point must hash to what was written when it was made, and be what the recipe's seed gives."""
    if not run.started and not run.start.exists():
        return None
    start = read_tensors(audit, "start.safetensors", run.start, shapes_of(recipe.network))
    if start is None:
        return None
    if run.started:
        file = run.path / "start.json"
        recorded = audit.read("start.json", file, lambda path: read_json(path, "the hashes of the rewind point", dict))
        same_hashes(audit, "start.safetensors", hash_state(start), recorded, "start.json")
    drawn = initial_values(recipe.network, recipe.seed)
    if drawn is None:
        audit.notes.append("torch is not installed: not checked whether the initial values are those of the recipe's seed")
    if recipe.rewind_step:
        raw = replace(recipe, train=replace(recipe.train, ema_decay=0.0))
        place = TrainingFolder(run.path / BEFORE)
        training = Training(place, place.path.name, raw, 0, recipe.rewind_step)
        read_masks(audit, f"{place.path.name}/mask.safetensors", place.mask, {})
        if drawn is not None:
            rewound(audit, training, drawn, {})
        metrics(audit, training)
        drawn = trained(audit, training, {})[2]
        if drawn is None:
            audit.require(place.weights.exists(), f"{place.path.name}/weights.safetensors is missing")
    for name in sorted(drawn or {}):
        origin = f"{BEFORE}/weights.safetensors" if recipe.rewind_step else f"seed {recipe.seed}"
        same = drawn is not None and np.array_equal(start[name], drawn[name])
        audit.require(same, f"start.safetensors: {name} is not that of {origin}")
    return start


def _level(
    audit: Audit, recipe: Recipe, place: TrainingFolder, start: Arrays | None, before: _Before, level: int, keep: int
) -> _Before:
    """Check one level, begun or ended; returns its masks and weights for the next."""
    name, problems = place.path.name, len(audit.problems)
    written = {p.name for p in place.path.iterdir() if p.name[0] != "."} if place.path.is_dir() else set()
    if not written - NOTES:
        return _Before(None, None)
    expected = _pruned(audit, recipe, name, start, before, level, keep)
    masks = read_masks(audit, f"{name}/mask.safetensors", place.mask, masked_shapes(recipe))
    row: dict[str, Any] = {"level": level, "nested": masks is not None, "counts_exact": masks is not None}
    if masks is None:
        masks = expected
    else:
        row["nested"], row["counts_exact"] = _masks(audit, name, masks, before, expected, keep)
    if masks is None:
        return _Before(None, None)
    row["density"] = describe_masks(recipe.network, recipe.prune, masks)["density"]
    first, last = level_updates(recipe, level, len(plan_levels(recipe.network, recipe.prune)))
    training = Training(place, name, recipe, first, last, {"level": level})
    if level and recipe.prune.reset != "full" and start is not None:
        start = (
            None if before.weights is None else begin_after_reset(recipe.prune.reset, recipe.network, start, before.weights)
        )
    begun = written - NOTES - {"mask.safetensors"}  # nothing but the mask: killed before the first update
    row["rewound"] = rewound(audit, training, start, masks) if begun else None
    row["zeros_exact"], row["hashes_match"], weights = trained(audit, training, masks)
    row["ok"] = len(audit.problems) == problems
    audit.levels.append(row)
    return _Before(masks, weights if place.done else None)


def _pruned(
    audit: Audit, recipe: Recipe, name: str, start: Arrays | None, before: _Before, level: int, keep: int
) -> Masks | None:
    """Prune again: the masks that the level before and the recipe's score give, or None when its files are not there."""
    if level == 0:
        return before.masks
    masks, weights = before.masks, before.weights
    if masks is None or weights is None or start is None:
        return None

    def prune_again() -> Masks:
        scales = initial_scales(start, recipe.network, recipe.prune)
        return shrink_masks(masks, scores(weights, scales, recipe.network, recipe.prune), keep, recipe.prune)

    return audit.attempt(f"{name}: its masks cannot follow from the level before", prune_again)


def _masks(audit: Audit, name: str, masks: Masks, before: _Before, expected: Masks | None, keep: int) -> tuple[bool, bool]:
    """Masks only shrink, keep the planned number, and are exactly what the score takes."""
    file, count, nested, old = f"{name}/mask.safetensors", count_kept(masks), True, before.masks
    counted = audit.require(count == keep, f"{file} keeps {count} weights, the recipe's plan says {keep}")
    for tensor, mask in masks.items():
        if old is not None and (revived := np.argwhere(mask & ~old[tensor])).size:
            problem = f"{file}: {tensor}{revived[0].tolist()} is alive again after it was pruned"
            nested = audit.require(False, problem)
    if expected is not None:
        same_masks(audit, file, masks, expected, "what the recipe's score keeps of the level before")
    return nested, counted
