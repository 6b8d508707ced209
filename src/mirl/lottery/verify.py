"""The audit: every claim about a run, checked from its files alone. No torch, nothing of the training is trusted.

A rewind is proved by hashes: the training wrote the hash of each tensor right after it had put the network back; here
start x mask is computed from the files and must hash to the same.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mirl.errors import MirlError
from mirl.files import read_json
from mirl.layers import parameters
from mirl.lottery.prune import Masks, plan_levels, prunable_parameters
from mirl.lottery.run import Arrays, RunFolder, TrainingFolder, hash_state, load_arrays, load_masks
from mirl.recipe import Recipe, recipe_from_dict, to_dict
from mirl.ticket import Ticket, read_ticket

# Which tensors a control puts back to the run's own rewind point; kinds not named here start elsewhere.
_REWOUND_CONTROLS = ("shuffle", "random", "oneshot", "dense", "partial-reset")


@dataclass
class Audit:
    """What was found: `problems` names each broken invariant, file and tensor; `levels` is the table."""

    levels: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    finished: bool = True

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mirl verify` (shared interface)."""
        return {"ok": self.ok, "finished": self.finished, "levels": self.levels, "controls": self.controls,
                "problems": self.problems}  # fmt: skip


def verify(target: Path) -> Audit:
    """Audit a run folder or a ticket file. Raises MirlError when it is neither."""
    target = Path(target)
    if target.is_dir():
        return verify_run(target)
    ticket = read_ticket(target)
    audit = Audit()
    _audit_ticket_counts(audit, ticket, str(target))
    audit.levels.append({"level": ticket.provenance.get("level"), "density": ticket.density, "zeros_exact": True})
    return audit


def verify_run(path: Path) -> Audit:
    """Audit a run folder, finished or not; raises MirlError when it is none."""
    run, audit = RunFolder(path), Audit()
    recipe = run.recipe()
    plan = plan_levels(recipe.network, recipe.prune)
    if not run.started:
        raise MirlError(f"{path}: the search has not made its rewind point yet; run `mirl search` first")
    start = _start(audit, run, recipe)
    before: Masks | None = None
    for level, keep in enumerate(plan):
        place = run.level(level)
        if not place.mask.exists():
            audit.finished = False
            break
        before = _level(audit, recipe, place, start, before, level, keep)
        if not place.done:
            audit.finished = False
    if unexpected := sorted(
        p.name for p in path.glob("level-*") if p.name not in {f"level-{n:02d}" for n in range(len(plan))}
    ):
        audit.problems.append(f"{unexpected[0]}: the recipe has no such level")
    if audit.finished:
        final = run.level(len(plan) - 1)
        if not run.ticket.exists():
            audit.problems.append("ticket.mirl is missing")
        elif run.ticket.read_bytes() != final.ticket.read_bytes():
            audit.problems.append(f"ticket.mirl is not the ticket of {final.path.name}")
        for folder in sorted((path / "controls").glob("*/control.json")):
            _control(audit, recipe, run.control(folder.parent.name), start, before or {})
    return audit


def _start(audit: Audit, run: RunFolder, recipe: Recipe) -> Arrays:
    """The rewind point must hash to what was written when it was made, and be the network's."""
    start = load_arrays(run.start)[0]
    recorded = read_json(run.path / "start.json", "the hashes of the rewind point", dict)
    _compare_hashes(audit, "start.safetensors", hash_state(start), recorded)
    shapes = {p.name: p.shape for p in parameters(recipe.network)}
    if {n: v.shape for n, v in start.items()} != shapes:
        raise MirlError(f"{run.start}: its tensors are not those of the recipe's network; the run folder is mixed up")
    return start


def _level(
    audit: Audit,
    recipe: Recipe,
    place: TrainingFolder,
    start: Arrays,
    before: Masks | None,
    level: int,
    keep: int,
) -> Masks:
    """Check one level; returns its masks for the next."""
    name, problems = place.path.name, len(audit.problems)
    masks = load_masks(place.mask)
    expected = {p.name: p.shape for p in prunable_parameters(recipe.network, recipe.prune)}
    if {n: m.shape for n, m in masks.items()} != expected:
        raise MirlError(f"{place.mask}: its masks are not those of the recipe's prunable tensors")
    count = sum(int(np.count_nonzero(mask)) for mask in masks.values())
    if count != keep:
        audit.problems.append(f"{name}/mask.safetensors keeps {count} weights, the recipe's plan says {keep}")
    nested = True
    for tensor, mask in masks.items():
        if before is not None and (revived := np.argwhere(mask & ~before[tensor])).size:
            nested = False
            audit.problems.append(
                f"{name}/mask.safetensors: {tensor}{revived[0].tolist()} is alive again after it was pruned"
            )
    row: dict[str, Any] = {
        "level": level,
        "density": (sum(v.size for v in start.values()) - sum(m.size for m in masks.values()) + count)
        / sum(v.size for v in start.values()),
        "nested": nested,
        "counts_exact": count == keep,
    }
    row["rewound"] = _rewound(audit, place, start, masks)
    row["zeros_exact"], row["hashes_match"] = _weights(audit, recipe, place, masks)
    row["ok"] = len(audit.problems) == problems
    audit.levels.append(row)
    return masks


def _rewound(audit: Audit, place: TrainingFolder, start: Arrays, masks: Masks, warm: frozenset[str] = frozenset()) -> bool:
    """The state right after the rewind must hash to start x mask, tensor by tensor."""
    if not place.rewound.exists():
        audit.problems.append(f"{place.path.name}/rewound.json is missing")
        return False
    recorded = read_json(place.rewound, "the hashes after a rewind", lambda value: dict(value["tensors"]))
    back = {
        name: np.where(masks[name], value, np.float32(0)) if name in masks else value
        for name, value in start.items()
        if name not in warm
    }
    return _compare_hashes(audit, f"{place.path.name}: state after the rewind", hash_state(back),
                           {n: h for n, h in recorded.items() if n not in warm})  # fmt: skip


def _weights(audit: Audit, recipe: Recipe, place: TrainingFolder, masks: Masks) -> tuple[bool, bool]:
    """Zeros in every checkpoint, and for a finished level hashes, finite values, counts and its ticket."""
    zeros, match = True, True
    if place.checkpoint.exists():
        halfway = load_arrays(place.checkpoint)[0]
        for prefix in ("weight/", "exp_avg/", "average/"):
            part = {n.removeprefix(prefix): v for n, v in halfway.items() if n.startswith(prefix)}
            zeros &= _zeros(audit, f"{place.path.name}/checkpoint.safetensors {prefix}", part, masks)
    if not place.done:
        return zeros, match
    record, weights = place.record(), load_arrays(place.weights)[0]
    file = f"{place.path.name}/weights.safetensors"
    zeros &= _zeros(audit, f"{file}: ", weights, masks)
    match &= _compare_hashes(audit, file, hash_state(weights), dict(record.get("hashes", {})))
    for tensor, value in weights.items():
        if not np.all(np.isfinite(value)):
            audit.problems.append(f"{file}: {tensor} holds values that are not finite")
    try:
        stored = recipe_from_dict(record["recipe"])
    except KeyError:
        stored = None
    if place.marker == "level.json" and stored != recipe:
        audit.problems.append(f"{place.path.name}/level.json was trained with another recipe than recipe.json")
    _level_ticket(audit, place, weights, masks, record)
    _metrics(audit, place, record)
    return zeros, match


def _level_ticket(audit: Audit, place: TrainingFolder, weights: Arrays, masks: Masks, record: Mapping[str, Any]) -> None:
    """The ticket must hold the same masks and, within its precision, the same weights; the counts must be the record's."""
    name = f"{place.path.name}/ticket.mirl"
    try:
        ticket = read_ticket(place.ticket)
    except MirlError as error:
        audit.problems.append(str(error))
        return
    _audit_ticket_counts(audit, ticket, name)
    if ticket.kept != record.get("kept"):
        audit.problems.append(f"{name} keeps {ticket.kept} parameters, {place.marker} says {record.get('kept')}")
    if set(ticket.masks) != set(masks) or any(np.any(ticket.masks[n] != m) for n, m in masks.items()):
        audit.problems.append(f"{name}: its masks are not those of mask.safetensors")
    for tensor, value in weights.items():
        if not np.allclose(ticket.weights.get(tensor, np.nan), value, rtol=1e-3, atol=6e-8):
            audit.problems.append(f"{name}: {tensor} is not the trained one")


def _audit_ticket_counts(audit: Audit, ticket: Ticket, name: str) -> None:
    """What the provenance claims must be what the masks say."""
    claimed = ticket.provenance.get("density")
    if not isinstance(claimed, int | float) or abs(claimed - ticket.density) > 1e-9:
        audit.problems.append(f"{name} claims density {claimed}, its masks give {ticket.density}")


def _metrics(audit: Audit, place: TrainingFolder, record: Mapping[str, Any]) -> None:
    """A finished training has logged its last update and only finite losses."""
    try:
        lines = [json.loads(text) for text in place.metrics.read_text().splitlines()]
        losses = [line["loss"] for line in lines if "loss" in line]
        last = max(line["step"] for line in lines)
    except (OSError, ValueError, KeyError, TypeError) as error:
        audit.problems.append(f"{place.path.name}/metrics.jsonl cannot be read: {error}")
        return
    first = read_json(place.rewound, "the hashes after a rewind", lambda value: int(value["first_step"]))
    if last != first + record.get("steps", -1) or not np.all(np.isfinite(losses)):
        end = first + record.get("steps", -1)
        audit.problems.append(f"{place.path.name}/metrics.jsonl ends at update {last}, expected {end} "
                              "with finite losses")  # fmt: skip


def _control(audit: Audit, recipe: Recipe, place: TrainingFolder, start: Arrays, ticket_masks: Masks) -> None:
    """A control keeps as many weights as the ticket (unless dense), with exact zeros, from the start its kind says."""
    problems, record, masks = len(audit.problems), place.record(), load_masks(place.mask)
    kind = record.get("kind")
    row: dict[str, Any] = {"control": place.path.name}
    if kind not in ("dense", "dense-small"):
        counts = [sum(int(np.count_nonzero(m)) for m in group.values()) for group in (masks, ticket_masks)]
        row["counts_exact"] = counts[0] == counts[1]
        if counts[0] != counts[1]:
            audit.problems.append(f"controls/{place.path.name} keeps {counts[0]} weights, the ticket {counts[1]}")
    if kind in _REWOUND_CONTROLS:
        warm = {p.name for p in parameters(recipe.network) if p.kind in ("prompt", "temperature")}
        row["rewound"] = _rewound(audit, place, start, masks, frozenset(warm) if kind == "partial-reset" else frozenset())
    row["zeros_exact"], row["hashes_match"] = _weights(audit, recipe, place, masks)
    stored = recipe_from_dict(record["recipe"])
    if to_dict(stored.prune) != to_dict(recipe.prune) or stored.tasks != recipe.tasks:
        audit.problems.append(f"controls/{place.path.name} was trained with other pruning or tasks than the run")
    row["ok"] = len(audit.problems) == problems
    audit.controls.append(row)


def _zeros(audit: Audit, where: str, weights: Mapping[str, Any], masks: Masks) -> bool:
    """Name every tensor that is not exactly zero where pruned, with the first position."""
    ok = True
    for tensor, mask in masks.items():
        if tensor not in weights:
            continue
        wrong = np.argwhere((weights[tensor].reshape(mask.shape) != 0) & ~mask)
        if wrong.size:
            ok = False
            value = weights[tensor].reshape(mask.shape)[tuple(wrong[0])]
            audit.problems.append(f"{where}{tensor}{wrong[0].tolist()} is {value} where the mask says pruned")
    return ok


def _compare_hashes(audit: Audit, where: str, found: Mapping[str, str], recorded: Mapping[str, str]) -> bool:
    """Name every tensor whose hash is not the recorded one."""
    wrong = sorted(n for n in {*found, *recorded} if found.get(n) != recorded.get(n))
    audit.problems += [f"{where}: {tensor} is not what was recorded (hash differs)" for tensor in wrong]
    return not wrong
