"""The run folder: what a search has done, in files that need nothing but safetensors and JSON to be read.

    RUN/recipe.json            the recipe, and with which versions the run began
    RUN/start.safetensors      the rewind point: every tensor of the network        RUN/start.json: its hashes
    RUN/level-00/ ...          one folder a training:
        mask.safetensors         masks by name, bit-packed
        rewound.json             hash of every tensor right after the rewind, before the first update
        metrics.jsonl            loss, learning rate, loss per task; no clock in it, so equal runs give equal bytes
        checkpoint.safetensors   weights and optimizer in the middle of a training; gone when it ends
        seconds.txt kernels.json how long it took, and on which kernels from which update on: notes that no check reads
        weights.safetensors      weights at the end
        ticket.mirl              the same as a ticket
        level.json               the last file written: it stands for "done"
    RUN/controls/KIND/         the same files for a control, with control.json in place of level.json
    RUN/ticket.mirl            the ticket of the last level

"The file exists" means "it is done": every file is written beside its place and renamed into it.
"""

import hashlib
import json
import math
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from mirl.errors import MirlError
from mirl.files import lock, make_folder, read_json, write_bytes, write_json
from mirl.lottery.prune import Masks
from mirl.recipe import Recipe, recipe_from_dict, to_dict
from mirl.ticket_blocks import pack_mask, unpack_mask

Arrays = dict[str, NDArray[Any]]
BEFORE = "before-rewind-point"
NOTES = frozenset({"seconds.txt", "kernels.json"})
"""Files of a training that say how it went, and that nothing is concluded from."""


def hash_tensor(values: NDArray[Any]) -> str:
    """SHA-256 of a tensor's shape, type and bytes."""
    head = f"{values.dtype.str}{values.shape}".encode()
    return hashlib.sha256(head + np.ascontiguousarray(values).tobytes()).hexdigest()


def hash_state(state: Mapping[str, NDArray[Any]]) -> dict[str, str]:
    """SHA-256 of every tensor, by name."""
    return {name: hash_tensor(values) for name, values in sorted(state.items())}


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> None:
    """Write tensors as safetensors in one step; a zero-dimensional one becomes one-dimensional."""
    plain = {name: np.ascontiguousarray(values) for name, values in sorted(arrays.items())}
    write_bytes(path, safetensors.numpy.save(plain, metadata))


def load_arrays(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file. Raises MirlError for any other file."""
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in sorted(file.keys())}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise MirlError(f"cannot read {path}: {error}; expected a safetensors file written by mirl") from error


def save_masks(path: Path, masks: Masks) -> None:
    """Write masks, eight weights to the byte, in one step."""
    packed = {name: pack_mask(mask) for name, mask in masks.items()}
    save_arrays(path, packed, {"shapes": json.dumps({name: list(mask.shape) for name, mask in masks.items()})})


def load_masks(path: Path) -> Masks:
    """Read what save_masks wrote. Raises MirlError for any other file."""
    packed, metadata = load_arrays(path)
    try:
        shapes = {name: tuple(shape) for name, shape in json.loads(metadata["shapes"]).items()}
        sizes = {name: math.prod(int(side) for side in shape) for name, shape in shapes.items()}
        if any(packed[name].size != -(-size // 8) for name, size in sizes.items()):
            raise ValueError("a mask is not of the size its shape says")
        return {name: unpack_mask(packed[name], shape) for name, shape in shapes.items()}
    except (KeyError, ValueError, TypeError) as error:
        raise MirlError(f"{path} holds no masks written by mirl: {error!r}") from error


@dataclass(frozen=True)
class TrainingFolder:
    """The files of one training: a level of the search or a control."""

    path: Path
    marker: str = "level.json"

    @property
    def done(self) -> bool:
        """Whether the training has ended."""
        return (self.path / self.marker).exists()

    @property
    def mask(self) -> Path:
        """Bit-packed masks."""
        return self.path / "mask.safetensors"

    @property
    def rewound(self) -> Path:
        """Hashes right after the rewind."""
        return self.path / "rewound.json"

    @property
    def checkpoint(self) -> Path:
        """Weights and optimizer in the middle of the training."""
        return self.path / "checkpoint.safetensors"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def kernels(self) -> Path:
        """By the update from which they trained on, the kernels: a variant of ours, or "torch"."""
        return self.path / "kernels.json"

    @property
    def weights(self) -> Path:
        """Weights at the end."""
        return self.path / "weights.safetensors"

    @property
    def ticket(self) -> Path:
        """The weights at the end as a ticket."""
        return self.path / "ticket.mirl"

    def record(self) -> dict[str, Any]:
        """Read the done-marker. Raises MirlError when it is missing or damaged."""
        return dict(read_json(self.path / self.marker, f"the {self.marker} of a finished training", dict))

    def finish(self, record: dict[str, Any]) -> None:
        """Write the done-marker and drop the checkpoint."""
        write_json(self.path / self.marker, record)
        self.checkpoint.unlink(missing_ok=True)


@dataclass(frozen=True)
class RunFolder:
    """A search and its controls on disk."""

    path: Path

    @property
    def start(self) -> Path:
        """The rewind point."""
        return self.path / "start.safetensors"

    @property
    def ticket(self) -> Path:
        """The ticket of the last level."""
        return self.path / "ticket.mirl"

    def level(self, level: int) -> TrainingFolder:
        """The folder of one level."""
        return TrainingFolder(self.path / f"level-{level:02d}")

    @property
    def finished_levels(self) -> list[TrainingFolder]:
        """The folders of the levels that have ended, from the dense one on."""
        return [self.level(number) for number in range(len(list(self.path.glob("level-*/level.json"))))]

    def control(self, name: str) -> TrainingFolder:
        """The folder of one control."""
        return TrainingFolder(self.path / "controls" / name, "control.json")

    def check(self, recipe: Recipe, data: Mapping[str, str]) -> None:
        """Raise MirlError unless the folder is new or empty, or holds a run of this recipe on these data.

        `data` is as `search.name_data` says; only the fingerprint counts, the folder may have moved.
        """
        file = self.path / "recipe.json"
        if file.exists():
            if difference := _difference(self, recipe, data):
                raise MirlError(
                    f"{self.path} holds a run of another recipe or of other data ({difference}); "
                    "give the same options to go on, or another --out to begin anew"
                )
        elif self.path.exists() and any(not entry.name.startswith(".") for entry in self.path.iterdir()):
            raise MirlError(f"{self.path} is not empty and holds no run; choose another --out")

    def begin(self, recipe: Recipe, data: Mapping[str, str]) -> None:
        """Write the recipe of a new run; one that goes on has it."""
        file = self.path / "recipe.json"
        if not file.exists():
            names = ("mirl", "torch", "numpy")
            versions = {name: version(name) for name in names}
            versions |= {"python": platform.python_version(), "machine": platform.machine()}
            write_json(file, {"recipe": to_dict(recipe), "data": dict(data), "versions": versions})

    def recipe(self) -> Recipe:
        """Read the recipe of the run. Raises MirlError when this is no run folder."""
        what = "the recipe.json of a run folder made by `mirl search`"
        return read_json(self.path / "recipe.json", what, lambda value: recipe_from_dict(value["recipe"]))

    def data(self) -> dict[str, str]:
        """Where the training data of the run lay ("folder", empty for the bundled photographs) and their fingerprint."""

        def parse(value: Any) -> dict[str, str]:
            return {key: str(value["data"][key]) for key in ("folder", "fingerprint")}

        return read_json(self.path / "recipe.json", "the recipe.json of a run folder", parse)

    def load_start(self) -> Arrays:
        """Read the rewind point."""
        return load_arrays(self.start)[0]

    def save_start(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Write the rewind point; the hashes come last."""
        save_arrays(self.start, state)
        write_json(self.path / "start.json", hash_state(state))

    @property
    def started(self) -> bool:
        """Whether the rewind point is there."""
        return (self.path / "start.json").exists()

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for this process; raises MirlError when another one works on it.

        Of the processes of one distributed training only the first holds it.
        """
        if not first_process():
            yield
            return
        with lock(make_folder(self.path) / ".lock", self.path):
            yield


def first_process() -> bool:
    """Whether this process is the first of a distributed training, or the only one."""
    return not any(int(os.environ.get(name, "0")) for name in ("RANK", "LOCAL_RANK", "NODE_RANK"))


def describe_difference(there: Recipe, asked: Recipe) -> str:
    """Name the first field in which a stored recipe and the asked one differ; empty when none does."""

    def walk(there: Any, asked: Any, where: str) -> str:
        if isinstance(there, dict):
            for name in there:
                if there[name] != asked[name]:
                    return walk(there[name], asked[name], f"{where}.{name}")
        return f"{where.lstrip('.')}: {there!r} there, {asked!r} asked" if there != asked else ""

    return walk(to_dict(there), to_dict(asked), "")


def _difference(run: RunFolder, recipe: Recipe, data: Mapping[str, str]) -> str:
    """Name the first difference between the stored run and the asked one, data included; empty when there is none."""
    stored = run.data()
    if stored["fingerprint"] != data["fingerprint"]:
        there, asked = (d["folder"] or "the bundled photographs" for d in (stored, data))
        return f"data: {there} there, {asked} asked, and their files differ"
    return describe_difference(run.recipe(), recipe)
