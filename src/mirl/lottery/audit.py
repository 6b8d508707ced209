"""What the files of one training must say, each a small check that names file and tensor. Numpy only.

`verify` asks these of every level, `audit_controls` of every control. Nothing read here is trusted: a file that is missing,
damaged or of another network becomes a problem, never an exception.
"""

import importlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mirl.errors import MirlError
from mirl.files import read_json
from mirl.layers import parameters
from mirl.lottery.prune import Masks, describe_masks, prunable_parameters
from mirl.lottery.run import Arrays, TrainingFolder, hash_state, load_arrays, load_masks
from mirl.lottery.schedule import learning_rate
from mirl.recipe import NetworkConfig, Recipe, recipe_from_dict
from mirl.ticket import Ticket, read_ticket

T = TypeVar("T")
Shapes = Mapping[str, tuple[int, ...]]
_MASK_FIGURES = ("density", "density_prunable", "kept", "total", "prunable", "emptied")


@dataclass
class Audit:
    """What was found: `problems` names each broken invariant, file and tensor; `levels` is the table.

    `notes` says what could not be checked here, and why.
    """

    levels: list[dict[str, Any]] = field(default_factory=list)
    controls: list[dict[str, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    finished: bool = True

    @property
    def ok(self) -> bool:
        """Whether every invariant held."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The JSON of `mirl verify` (shared interface)."""
        return {"ok": self.ok, "finished": self.finished, "levels": self.levels, "controls": self.controls,
                "problems": self.problems, "notes": self.notes}  # fmt: skip

    def require(self, held: bool, problem: str) -> bool:
        """Take down `problem` unless `held`; returns `held`."""
        if not held:
            self.problems.append(problem)
        return held

    def attempt(self, where: str, work: Callable[[], T]) -> T | None:
        """Return what `work` gives; whatever it raises over strange content becomes a problem, and the answer None."""
        try:
            return work()
        except MirlError as error:
            self.problems.append(f"{where}: {error}")
        except Exception as error:  # the content is not ours: anything may be in it
            self.problems.append(f"{where} holds what mirl does not write: {error!r:.200}")
        return None

    def read(self, where: str, path: Path, parse: Callable[[Path], T]) -> T | None:
        """Return `parse(path)`, or None and a problem when the file is missing or cannot be read."""
        if not self.require(path.exists(), f"{where} is missing"):
            return None
        return self.attempt(where, lambda: parse(path))


@dataclass(frozen=True)
class Training:
    """What one training should be: its folder, its name in problems, its recipe, its updates, the labels of its record.

    With `constant_rate` all updates take the last rate of the recipe's schedule.
    """

    place: TrainingFolder
    where: str
    recipe: Recipe
    first_step: int
    last_step: int
    labels: Mapping[str, Any] = field(default_factory=dict)
    constant_rate: bool = False

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of every tensor of its network."""
        return shapes_of(self.recipe.network)


def shapes_of(network: NetworkConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor, by name."""
    return {p.name: p.shape for p in parameters(network)}


def masked_shapes(recipe: Recipe) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that the recipe prunes, by name."""
    return {p.name: p.shape for p in prunable_parameters(recipe.network, recipe.prune)}


def count_kept(masks: Masks) -> int:
    """How many weights masks keep."""
    return sum(int(np.count_nonzero(mask)) for mask in masks.values())


def masked(arrays: Arrays, masks: Masks) -> Arrays:
    """Arrays x masks, tensor by tensor."""
    return {n: np.where(masks[n], value, np.float32(0)) if n in masks else value for n, value in arrays.items()}


def initial_values(network: NetworkConfig, seed: int) -> Arrays | None:
    """Draw the initial values again; None where torch, whose generator drew them, is not installed."""
    try:
        torch, promptir = importlib.import_module("torch"), importlib.import_module("mirl.network.promptir")
    except ImportError:
        return None
    module = promptir.PromptIR(network)
    promptir.initialise(module, torch.Generator().manual_seed(seed))
    return {name: value.detach().numpy() for name, value in module.named_parameters()}


def read_tensors(audit: Audit, where: str, path: Path, shapes: Shapes) -> Arrays | None:
    """Read float32 tensors of exactly these names and shapes, all finite; None and a problem for others."""
    arrays = audit.read(where, path, lambda file: load_arrays(file)[0])
    return arrays if arrays is not None and fits(audit, where, arrays, shapes) else None


def read_masks(audit: Audit, where: str, path: Path, shapes: Shapes) -> Masks | None:
    """Read masks of exactly these names and shapes; None and a problem for others."""
    masks = audit.read(where, path, load_masks)
    return masks if masks is not None and fits(audit, where, masks, shapes, np.bool_) else None


def fits(audit: Audit, where: str, arrays: Mapping[str, Any], shapes: Shapes, kind: Any = np.float32) -> bool:
    """Whether the tensors are those of the network; names the first that is not, and every one that is not finite."""
    for name in sorted({*arrays, *shapes}):
        if name not in arrays:
            return audit.require(False, f"{where}: {name} is missing; its tensors are not those of the recipe's network")
        found = (arrays[name].dtype, arrays[name].shape)
        expected = f"expected {np.dtype(kind)} {shapes[name]}" if name in shapes else "expected no such tensor"
        if name not in shapes or found != (np.dtype(kind), shapes[name]):
            return audit.require(False, f"{where}: {name} is {found[0]} {found[1]}, {expected} in the recipe's network")
    for name, value in arrays.items():
        audit.require(bool(np.all(np.isfinite(value))), f"{where}: {name} holds values that are not finite")
    return True


def same_hashes(audit: Audit, where: str, found: Mapping[str, Any], recorded: Any, by: str) -> bool:
    """Name every tensor whose hash is not the one recorded in the file `by`."""
    if not isinstance(recorded, Mapping):
        return audit.require(False, f"{where}: no hashes were recorded in {by}")
    wrong = sorted(n for n in {*found, *recorded} if found.get(n) != recorded.get(n))
    audit.problems += [f"{where}: {tensor} is not what was recorded in {by} (hash differs)" for tensor in wrong]
    return not wrong


def same_masks(audit: Audit, where: str, found: Masks, expected: Masks, what: str) -> bool:
    """Name every mask that is not the expected one, with the first position."""
    wrong = [n for n in sorted(expected) if n not in found or not np.array_equal(found[n], expected[n])]
    for name in wrong:
        at = np.argwhere(found[name] != expected[name])[0].tolist() if name in found else ""
        audit.problems.append(f"{where}: {name}{at} is not {what}")
    return not wrong


def zeros(audit: Audit, where: str, weights: Mapping[str, Any], masks: Masks) -> bool:
    """Name every tensor that is not exactly zero where pruned, with the first position."""
    ok = True
    for tensor, mask in masks.items():
        wrong = np.argwhere((weights[tensor] != 0) & ~mask)
        if wrong.size:
            value = weights[tensor][tuple(wrong[0])]
            ok = audit.require(False, f"{where}{tensor}{wrong[0].tolist()} is {value} where the mask says pruned")
    return ok


def rewound(audit: Audit, training: Training, begin: Arrays | None, masks: Masks) -> bool:
    """The state before the first update must hash to `begin` x masks, tensor by tensor; None is a start nobody knows."""
    where = f"{training.where}/rewound.json"
    written = audit.read(where, training.place.rewound, lambda path: read_json(path, "the hashes after a rewind", dict))
    if written is None:
        return False
    audit.require(
        written.get("first_step") == training.first_step,
        f"{where} begins at update {written.get('first_step')}, the recipe at {training.first_step}",
    )
    if begin is None:
        return False
    back = hash_state(masked(begin, masks))
    return same_hashes(audit, f"{training.where}: state after the rewind", back, written.get("tensors"), "rewound.json")


def trained(audit: Audit, training: Training, masks: Masks) -> tuple[bool, bool, Arrays | None]:
    """Audit what a training has written since its rewind: (zeros exact, hashes match, final weights)."""
    place, where = training.place, training.where
    zeros_exact, match = True, True
    if place.checkpoint.exists():
        zeros_exact, match = _checkpoint(audit, training, masks)
    if not place.done and not place.weights.exists():
        return zeros_exact, match, None
    weights = read_tensors(audit, f"{where}/weights.safetensors", place.weights, training.shapes)
    if weights is not None:
        zeros_exact &= zeros(audit, f"{where}/weights.safetensors: ", weights, masks)
    if not place.done:
        return zeros_exact and weights is not None, match, weights
    metrics(audit, training)
    record = audit.read(f"{where}/{place.marker}", place.path / place.marker, lambda _: place.record())
    if record is None or weights is None:
        return zeros_exact and weights is not None, False, weights
    match &= same_hashes(audit, f"{where}/weights.safetensors", hash_state(weights), record.get("hashes"), place.marker)
    _record(audit, training, masks, record)
    _ticket(audit, training, masks, weights, record)
    return zeros_exact, match, weights


def metrics(audit: Audit, training: Training) -> None:
    """A finished training has logged exactly the updates its recipe says, each with a finite loss and its scheduled rate."""
    file, config = f"{training.where}/metrics.jsonl", training.recipe.train
    every, fixed = config.log_every, config.minimum_learning_rate if training.constant_rate else None
    last = training.last_step

    def check(path: Path) -> None:
        lines = [line for line in map(json.loads, path.read_text().splitlines()) if "loss" in line]
        steps = [line["step"] for line in lines]
        asked = [s for s in range(training.first_step + 1, last + 1) if s % every == 0 or s == last]
        at = steps[-1] if steps else training.first_step
        audit.require(
            steps == asked, f"{file} ends at update {at} after {len(steps)} lines, expected {last} after {len(asked)}"
        )
        audit.require(bool(np.all(np.isfinite([line["loss"] for line in lines]))), f"{file} holds a loss that is not finite")
        for line in lines:
            rate = learning_rate(config, line["step"] - 1) if fixed is None else fixed
            if not math.isclose(line["learning_rate"], rate, rel_tol=1e-9):
                problem = f"{file}: update {line['step']} was taken at a rate of {line['learning_rate']}, expected {rate}"
                audit.problems.append(problem)
                break

    audit.read(file, training.place.metrics, check)


def ticket_counts(audit: Audit, ticket: Ticket, where: str) -> None:
    """What the provenance claims must be what the masks say."""
    claimed = ticket.provenance.get("density")
    good = isinstance(claimed, int | float) and abs(claimed - ticket.density) <= 1e-9
    audit.require(good, f"{where} claims density {claimed!r:.80}, its masks give {ticket.density}")


def same_recipe(audit: Audit, stored: Any, recipe: Recipe, problem: str) -> bool:
    """Whether `stored`, plain JSON, is this recipe."""
    try:
        return audit.require(recipe_from_dict(stored) == recipe, problem)
    except MirlError as error:
        return audit.require(False, f"{problem} ({error})")


def _checkpoint(audit: Audit, training: Training, masks: Masks) -> tuple[bool, bool]:
    """Names, shapes, hashes and zeros of a training's checkpoint."""
    where, recipe = f"{training.where}/checkpoint.safetensors", training.recipe
    read = audit.read(where, training.place.checkpoint, load_arrays)
    if read is None:
        return False, False
    arrays, metadata = read
    recorded = audit.attempt(where, lambda: json.loads(metadata["hashes"]))
    match = recorded is not None and same_hashes(audit, where, hash_state(arrays), recorded, "its metadata")
    full = ["weight/", "exp_avg/", "exp_avg_sq/"] + (["average/"] if recipe.train.ema_decay else [])
    shapes: dict[str, tuple[int, ...]] = {p + n: shape for p in full for n, shape in training.shapes.items()}
    shapes |= {f"step/{name}": (1,) for name in training.shapes}
    counters = {name: arrays.pop(name, np.empty(0)) for name in ("step", "sums")}
    if not fits(audit, where, arrays, shapes):
        return False, match
    done, first = counters["step"].reshape(-1).tolist(), training.first_step
    good = len(done) == 1 and first < done[0] < training.last_step and counters["sums"].shape == (len(recipe.tasks), 2)
    audit.require(good and all(arrays[f"step/{n}"][0] == done[0] - first for n in training.shapes),
                  f"{where}: its step {done} does not lie in a training from {first} to {training.last_step}")  # fmt: skip
    exact = [zeros(audit, f"{where}: {p}", {n: arrays[p + n] for n in training.shapes}, masks) for p in full]
    return all(exact), match


def _record(audit: Audit, training: Training, masks: Masks, record: Mapping[str, Any]) -> None:
    """Every number of the done-marker must follow from recipe and masks."""
    file, recipe = f"{training.where}/{training.place.marker}", training.recipe
    same_recipe(audit, record.get("recipe"), recipe, f"{file} was trained with another recipe than the run's")
    figures = describe_masks(recipe.network, recipe.prune, masks)
    expected = {key: figures[key] for key in _MASK_FIGURES} | dict(training.labels)
    expected["steps"] = training.last_step - training.first_step
    for key, value in expected.items():
        audit.require(record.get(key) == value, f"{file}: {key} is {record.get(key)!r:.80}, expected {value!r:.80}")
    layers = record.get("layers")
    stated = layers if isinstance(layers, dict) else {}
    wrong = sorted(n for n in {*stated, *figures["layers"]} if stated.get(n) != figures["layers"].get(n))
    audit.require(not wrong, f"{file}: the densities of {len(wrong)} layers are not those of the masks, such as {wrong[:1]}")


def _ticket(audit: Audit, training: Training, masks: Masks, weights: Arrays, record: Mapping[str, Any]) -> None:
    """The ticket must hold the same network, masks and, within float16, weights, and claim what the record says."""
    name, marker, recipe = f"{training.where}/ticket.mirl", training.place.marker, training.recipe
    ticket = audit.read(name, training.place.ticket, read_ticket)
    if ticket is None or not audit.require(
        ticket.network == recipe.network, f"{name} is of another network than the recipe's"
    ):
        return
    ticket_counts(audit, ticket, name)
    claims, kept = ticket.provenance, record.get("kept")
    audit.require(ticket.kept == kept, f"{name} keeps {ticket.kept} parameters, {marker} says {kept}")
    same_recipe(audit, claims.get("recipe"), recipe, f"{name} claims another recipe than the run's")
    tasks = [share.task for share in recipe.tasks]
    audit.require(
        claims.get("tasks") == tasks, f"{name} claims the tasks {claims.get('tasks')!r:.80}, the recipe has {tasks}"
    )
    audit.require(claims.get("scores") == record.get("validation"), f"{name} claims other scores than {marker}'s validation")
    for key in ("level", "kind", "density", "steps"):
        found, said = claims.get(key), record.get(key)
        audit.require(found == said, f"{name} claims {key} {found!r:.80}, {marker} says {said!r:.80}")
    if audit.require(set(ticket.masks) == set(masks), f"{name}: its masks are not those of mask.safetensors"):
        same_masks(audit, name, ticket.masks, masks, "the mask of mask.safetensors")
    for p in parameters(recipe.network):
        stored, value = ticket.weights[p.name], weights[p.name]
        with np.errstate(over="ignore"):
            half = value.astype(np.float16).astype(np.float32) if p.prunable else value
        good = np.array_equal(stored, value) or np.array_equal(stored, half)
        audit.require(good, f"{name}: {p.name} is not the trained one")
