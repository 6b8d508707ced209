"""The audit of a control: one thing differs from the ticket's training, the one its name says, and nothing else."""

import re
from dataclasses import dataclass
from typing import Any

from mirl.lottery.audit import (
    Audit,
    Training,
    count_kept,
    initial_values,
    masked_shapes,
    read_masks,
    rewound,
    same_masks,
    trained,
)
from mirl.lottery.budget import DRAWN, SMALL_DENSE, UNTRAINED, Budget, control_recipe
from mirl.lottery.prune import (
    Masks,
    begin_after_reset,
    deeper_count,
    dense_masks,
    initial_scales,
    random_masks,
    scores,
    shrink_masks,
    shuffled_masks,
)
from mirl.lottery.run import NOTES, Arrays, TrainingFolder
from mirl.recipe import Recipe

_DENSE = ("dense", *SMALL_DENSE)
_REWOUND = ("shuffle", "random", "oneshot", "deeper", "ticket", "dense")  # their start is the run's own rewind point
_KINDS = (*_REWOUND, *UNTRAINED, "finetune", "lr-rewind", "partial-reset")
_NAME = re.compile(rf"({'|'.join(sorted(_KINDS, key=len, reverse=True))})(-total)?(?:-seed([1-9][0-9]*))?")


@dataclass(frozen=True)
class Finished:
    """What controls begin from; each None when its file cannot be read.

    `first` are the weights of level 0, `latest` those that the ticket's masks were taken from, `final` the ticket's.
    """

    recipe: Recipe
    levels: int
    start: Arrays | None
    masks: Masks | None
    first: Arrays | None
    latest: Arrays | None
    final: Arrays | None


def audit_control(audit: Audit, run: Finished, place: TrainingFolder) -> None:
    """Check the files of one control, ended or not, against what its folder's name says."""
    where, problems = f"controls/{place.path.name}", len(audit.problems)
    named = _NAME.fullmatch(place.path.name)
    if not named or (named[3] and named[1] not in DRAWN):
        undrawn = f": nothing of {named[1]} is drawn, expected no seed" if named else ""
        audit.problems.append(f"{where} is no control that mirl knows{undrawn}")
        return
    kind, seed = named[1], int(named[3] or 0)
    budget: Budget = "total" if named[2] else "level"
    written = {p.name for p in place.path.iterdir() if p.name[0] != "."} if place.path.is_dir() else set()
    if not place.done:
        audit.notes.append(f"{where} has not ended")
        if not written - NOTES:
            return
    if run.masks is None and kind in SMALL_DENSE:
        audit.notes.append(f"{where} was not checked: its size follows from the ticket's masks, which cannot be read")
        return
    recipe = audit.attempt(where, lambda: control_recipe(run.recipe, kind, budget, run.levels, run.masks or {}))
    if recipe is None:
        return
    masks = read_masks(audit, f"{where}/mask.safetensors", place.mask, {} if kind in _DENSE else masked_shapes(recipe))
    if masks is None:
        return
    row: dict[str, Any] = {"control": place.path.name}
    if kind not in _DENSE and run.masks is not None:
        row["counts_exact"] = _masks(audit, run, kind, seed, where, masks)
    first_step = 0 if kind in UNTRAINED else recipe.rewind_step
    labels = {"kind": kind, "seed": seed, "budget": budget}
    training = Training(place, where, recipe, first_step, recipe.train.steps, labels, constant_rate=kind == "finetune")
    if written - NOTES - {"mask.safetensors"}:
        begin = audit.attempt(where, lambda: _start(run, recipe, kind, seed))
        if begin is None and kind in UNTRAINED:
            audit.notes.append(f"{where}: torch is not installed: not checked whether it began from the values of its seed")
        same = rewound(audit, training, begin, masks)
        row["start_exact"] = None if begin is None else same
        if kind in _REWOUND:
            row["rewound"] = row["start_exact"]
    row["zeros_exact"], row["hashes_match"], _ = trained(audit, training, masks)
    row["ok"] = len(audit.problems) == problems
    audit.controls.append(row)


def _masks(audit: Audit, run: Finished, kind: str, seed: int, where: str, masks: Masks) -> bool:
    """Masks are the ticket's, or those that the kind makes of it; the count is the ticket's but for "deeper"."""
    ticket, file = run.masks or {}, f"{where}/mask.safetensors"
    network, prune = run.recipe.network, run.recipe.prune
    kept, wanted = count_kept(masks), deeper_count(network, prune) if kind == "deeper" else count_kept(ticket)
    what = "half the ticket's density is" if kind == "deeper" else "the ticket"
    counted = audit.require(kept == wanted, f"{file} keeps {kept} weights, {what} {wanted}")
    if kind in ("oneshot", "deeper"):
        if kind == "oneshot":
            weights, old, origin = run.first, dense_masks(network, prune), "what pruning level 0 at once keeps"
        else:
            weights, old, origin = run.final, ticket, "what pruning the ticket further keeps"
        expected = audit.attempt(where, lambda: _pruned(run, weights, old, wanted))
        if expected is not None:
            same_masks(audit, file, masks, expected, origin)
    elif kind in ("shuffle", "random"):
        drawn = audit.attempt(where, lambda: _drawn(run, kind, seed, ticket))
        if drawn is not None:
            same_masks(audit, file, masks, drawn, f"the {kind} mask that this seed draws")
    else:
        same_masks(audit, file, masks, ticket, "the ticket's mask")
    return counted


def _drawn(run: Finished, kind: str, seed: int, ticket: Masks) -> Masks:
    """Draw the masks of a control again."""
    if kind == "shuffle":
        return shuffled_masks(ticket, run.recipe.seed, seed)
    return random_masks(ticket, run.recipe.prune, run.recipe.seed, seed)


def _pruned(run: Finished, weights: Arrays | None, masks: Masks, keep: int) -> Masks | None:
    """Prune trained weights to a count at once; None when they cannot be read."""
    network, prune = run.recipe.network, run.recipe.prune
    if run.start is None or weights is None:
        return None
    return shrink_masks(masks, scores(weights, initial_scales(run.start, network, prune), network, prune), keep, prune)


def _start(run: Finished, recipe: Recipe, kind: str, seed: int) -> Arrays | None:
    """What the control's first update begins from, before its masks; None when it cannot be known here."""
    if kind in ("finetune", "lr-rewind"):
        return run.latest
    if kind == "reinit":
        return initial_values(recipe.network, recipe.seed + 1_000_003 * (seed + 1))
    if kind in SMALL_DENSE:
        return initial_values(recipe.network, recipe.seed + seed)
    reset = "partial" if kind == "partial-reset" else recipe.prune.reset if run.levels > 1 else "full"
    if reset == "full" or kind == "dense" or run.start is None:
        return run.start
    warm = {"oneshot": run.first, "deeper": run.final}.get(kind, run.latest)
    return None if warm is None else begin_after_reset(reset, recipe.network, run.start, warm)
