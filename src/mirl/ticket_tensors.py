"""A ticket as a safetensors file, for other programs: every tensor dense in float32, pruned weights exactly 0.0.

Names and shapes are those of `mirl.layers.parameters`; those of a haze head begin with `haze_head.`. The metadata entry
`mirl` is JSON: `version`, `network`, `masks` (by name, one bit a weight in C order, the lowest bit first, in base64),
`provenance`, `window`, `overlap` and `haze_head`; with it the file comes back as the same ticket, bit for bit. No torch.
"""

import base64
import binascii
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mirl.errors import MirlError
from mirl.files import write_bytes
from mirl.haze_head import head_facts, head_of
from mirl.layers import parameters
from mirl.recipe import network_from_dict, to_dict
from mirl.ticket import Ticket
from mirl.ticket_blocks import pack_mask, unpack_mask
from mirl.windows import WHOLE, Windows

VERSION = 2  # and 1 is read: no windows, no haze head
_HEAD = "haze_head."  # begins the names of its tensors
_ENTRY = "mirl"


def write_tensors(ticket: Ticket, path: Path) -> None:
    """Write the ticket to `path` in one step. Raises MirlError when a value is not finite or the file cannot be written."""
    head = {} if ticket.haze_head is None else ticket.haze_head.tensors
    tensors = ticket.weights | {_HEAD + name: tensor for name, tensor in head.items()}
    if odd := [name for name, weight in tensors.items() if not np.all(np.isfinite(weight))]:
        raise MirlError(f"ticket: {odd[0]} has values that are not finite")
    packed = {name: pack_mask(mask) for name, mask in sorted(ticket.masks.items())}
    entry = {
        "version": VERSION,
        "network": to_dict(ticket.network),
        "masks": {name: base64.b64encode(bits.tobytes()).decode() for name, bits in packed.items()},
        "provenance": ticket.provenance,
        "window": ticket.windows.size,
        "overlap": ticket.windows.overlap,
        "haze_head": head_facts(ticket.haze_head),
    }
    try:
        text = json.dumps(entry, allow_nan=False, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise MirlError(f"ticket: provenance must be plain JSON values: {error}") from error
    write_bytes(path, save({name: np.ascontiguousarray(w).reshape(w.shape) for name, w in tensors.items()}, {_ENTRY: text}))


def read_tensors(path: Path) -> Ticket | None:
    """Return the ticket that `write_tensors` wrote to `path`, None for a safetensors file of something else.

    Raises MirlError, without the path, for what is no safetensors file or an altered one.
    """
    try:
        with safe_open(path, "numpy") as file:
            text = (file.metadata() or {}).get(_ENTRY)
            if text is None:
                return None
            return _ticket(text, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    except FileNotFoundError as error:
        raise MirlError("no such file; expected a .safetensors file") from error
    except (SafetensorError, OSError, TypeError) as error:
        raise MirlError(f"no safetensors file, or a damaged one ({error!s:.120}); fetch it again") from error


def _ticket(text: str, weights: dict[str, NDArray[Any]]) -> Ticket:
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MirlError(f"its metadata {_ENTRY!r} is not JSON: {error}") from error
    kinds: dict[str, Any] = {"version": int, "network": dict, "masks": dict, "provenance": dict}
    if isinstance(entry, dict) and entry.get("version") == VERSION:
        kinds |= {"window": int, "overlap": int, "haze_head": dict | None}
    if not isinstance(entry, dict) or not all(
        name in entry and isinstance(entry[name], kind) and not isinstance(entry[name], bool) for name, kind in kinds.items()
    ):
        raise MirlError(f"its metadata {_ENTRY!r} must hold {', '.join(kinds)}; written by `mirl export`?")
    if entry["version"] not in (1, VERSION):
        raise MirlError(f"it is of version {entry['version']}, expected 1 or {VERSION}; read it with the mirl that wrote it")
    network = network_from_dict(entry["network"])
    shapes = {p.name: p.shape for p in parameters(network)}
    if odd := sorted(set(entry["masks"]) - set(shapes)):
        raise MirlError(f"a mask for {odd[0]!r:.80}, which is no tensor of its network")
    if odd := [name for name, weight in weights.items() if not np.all(np.isfinite(weight))]:
        raise MirlError(f"{odd[0]:.80} has values that are not finite")
    masks = {name: _mask(name, bits, shapes[name]) for name, bits in entry["masks"].items()}
    windows, facts = WHOLE, None
    if entry["version"] > 1:
        windows, facts = Windows(entry["window"], entry["overlap"]), entry["haze_head"]
    ours = {name.removeprefix(_HEAD): np.asarray(weights[name]) for name in weights if facts and name.startswith(_HEAD)}
    head = head_of(facts, lambda shapes: ours)
    of_network = {name: weight for name, weight in weights.items() if not (facts and name.startswith(_HEAD))}
    return Ticket(network, of_network, masks, entry["provenance"], windows, head)


def _mask(name: str, bits: Any, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    size = int(np.prod(shape))
    try:
        packed = np.frombuffer(base64.b64decode(bits, validate=True), np.uint8)
    except (TypeError, ValueError, binascii.Error) as error:
        raise MirlError(f"the mask of {name} is not base64: {error}") from error
    if len(packed) != -(-size // 8):
        raise MirlError(f"the mask of {name} has {len(packed)} bytes, expected {-(-size // 8)} for {shape}")
    return unpack_mask(packed, shape)
