"""Checkpoint files of others, read as tensors only: nothing in a file is ever run.

`torch.load(weights_only=True)` for .ckpt, .pth and .pt (Lightning's `state_dict` or a plain state dict), safetensors for
.safetensors, among them those that `mirl export` wrote. Memory stays near the size of the file.
"""

import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from mirl.errors import MirlError
from mirl.network.foreign import Imported, import_state
from mirl.ticket_tensors import read_tensors


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors as float32 by name, and how far its training was, as far as it says."""

    state: dict[str, NDArray[np.float32]]
    progress: dict[str, int]


def import_checkpoint(path: Path) -> Imported:
    """Return a checkpoint of PromptIR or MIR-L, or a file of `mirl export --format safetensors`, as a ticket.

    The provenance of a foreign one names the file, its SHA-256, what was left behind and the density. Raises MirlError,
    beginning with the path, for everything else, whatever is in it.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors" and (ticket := read_tensors(path)) is not None:
            return Imported(ticket, {}, {})
        checkpoint = read_checkpoint(path)
        imported = import_state(checkpoint.state)
    except MirlError as error:
        raise MirlError(f"{path}: {error}") from error
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    origin = {"file": path.name, "sha256": digest, "layout": "PromptIR", **checkpoint.progress}
    left = {"unused_layers": imported.unused, "outside_the_network": sorted(imported.outside)[:16]}
    ticket = replace(imported.ticket, provenance={"imported": origin | left, "density": imported.ticket.density})
    return replace(imported, ticket=ticket)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read the tensors of a checkpoint file. Raises MirlError for a file that is none, or holds more than tensors."""
    if not path.is_file():
        raise MirlError("no such file; expected a checkpoint (.ckpt, .pth, .pt or .safetensors)")
    if (size := path.stat().st_size) == 0:
        raise MirlError("an empty file; expected a checkpoint")
    tensors, progress = (_safe(path), {}) if path.suffix == ".safetensors" else _unpickled(path)
    values = sum(prod(value.shape) for value in tensors.values())
    if values > size:  # views of a few bytes as many values
        raise MirlError(f"its tensors have {values} values, more than the {size} bytes of the file can hold")
    return Checkpoint({name: _array(name, value) for name, value in tensors.items()}, progress)


def _safe(path: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise MirlError(f"no safetensors file, or a damaged one ({error!s:.120}); fetch it again") from error


def _unpickled(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    import torch

    sizes = _stored_sizes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch about its own old formats
            # Mapped, no tensor can reach beyond the file: torch takes a tensor's size from the pickle, not from its entry.
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=sizes is not None)
    except Exception as error:  # torch names no class for the many ways in which a file is none of its own
        raise _refusal(error) from error
    if not isinstance(content, Mapping):
        raise MirlError(f"it holds a {type(content).__name__}; expected a state dict, or a Lightning checkpoint with one")
    state = content.get("state_dict", content)
    tensors = {str(key): value for key, value in state.items()} if isinstance(state, Mapping) else {}
    if not tensors or not all(isinstance(value, torch.Tensor) for value in tensors.values()):
        keys = ", ".join(map(str, list(content)[:5])) or "nothing"
        raise MirlError(f"no state dict: found {keys:.120}; expected names and tensors, or a Lightning checkpoint with them")
    for name, value in tensors.items():
        if sizes is not None and _is_plain(value) and (size := value.untyped_storage().nbytes()) not in sizes:
            raise MirlError(f"{name:.80} claims {size} bytes, which no entry of the file has; fetch the file again")
    progress = {key: content[key] for key in ("epoch", "global_step") if type(content.get(key)) is int}
    return tensors, progress if state is not content else {}


def _stored_sizes(path: Path) -> set[int] | None:
    """Return the sizes of the entries of a zip file, None for the older format of torch.save.

    Raises MirlError for one that torch.save does not write: compressed, or with entries that share their bytes, so that a
    small file asks for much memory.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":  # as torch tells the two apart
            return None
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile too has no class for all the ways in which a file is none of its own
        raise _refusal(error) from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise MirlError("its tensors are compressed, as torch.save never does; expected a file of torch.save")
    claimed, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if claimed > size:
        raise MirlError(f"its entries claim {claimed} bytes, more than the {size} of the file; expected one of torch.save")
    return {entry.file_size for entry in entries}


def _is_plain(tensor: Any) -> bool:
    """Whether a tensor of torch is in memory, value by value."""
    import torch

    return bool(tensor.layout == torch.strided and tensor.device.type == "cpu")


def _refusal(error: Exception) -> MirlError:
    """What torch.load refused, in one line."""
    if isinstance(error, pickle.UnpicklingError) and (named := re.search(r"GLOBAL ([\w.]+)", str(error))):
        return MirlError(
            f"it holds Python objects besides tensors ({named[1]:.80}), which mirl never unpickles; where you trust the "
            "file, save its weights alone: torch.save(checkpoint['state_dict'], FILE)"
        )
    reason = "" if isinstance(error, pickle.UnpicklingError | KeyError) else f" ({str(error).split('.')[0]:.120})"
    return MirlError(f"no checkpoint, or a damaged one{reason}; expected a file of torch.save, or .safetensors")


def _array(name: str, value: Any) -> NDArray[np.float32]:
    """Return a tensor of torch as a float32 array of its own, whatever becomes of the file."""
    if not _is_plain(value) or not value.is_floating_point():
        kind = f"{value.dtype}, {value.layout}, on {value.device}"
        raise MirlError(f"{name:.80} is {kind}; expected floating point numbers, plainly stored")
    array: NDArray[np.float32] = value.detach().float().numpy().copy()
    return array
