"""A Ticket: the one value that flows from the search to every user, and the `.mirl` file that holds it.

The file (docs/format.md) is a 20-byte prefix, a deflated JSON header and deflated blocks: masks bit-packed, values in byte
planes, the haze head. Sizes follow from the header's network configuration and are checked before memory is taken, so a
truncated, altered or foreign file gives one MirlError. Numpy and the standard library only.
"""

import json
import math
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.files import write_bytes
from mirl.haze_head import HazeHead, head_facts, head_of, head_shapes
from mirl.hub import fetch, is_hub_name
from mirl.layers import parameter_count, parameters
from mirl.recipe import NetworkConfig, network_from_dict, to_dict
from mirl.ticket_blocks import deflate, inflate, join, pack_mask, planes, unpack_mask, unplanes
from mirl.ticket_header import MAX_HEADER, check_size, parse_header
from mirl.windows import WHOLE, Windows

Values = Literal["float16", "float32"]
MAGIC = b"MIRL"
VERSION = 2  # and 1 is read: no windows, no haze head
_PREFIX = struct.Struct("<4sIIII")  # magic, version, header bytes, block bytes, CRC-32 of header and blocks
SHIPPED = Path(__file__).parent / "tickets"
DEFAULT = "small"


@dataclass(frozen=True, eq=False)
class Ticket:
    """A subnetwork and where it comes from.

    `weights` holds every parameter by name as float32, pruned entries exactly 0.0; `masks` (bool, same shapes) only the
    tensors that were pruned: a tensor without a mask is dense. `provenance` is plain JSON: recipe, seed, level, tasks,
    scores, versions. `windows` says how large photographs are restored; the `haze_head`, where there is one, how much haze a
    photograph holds.
    """

    network: NetworkConfig
    weights: dict[str, NDArray[np.float32]]
    masks: dict[str, NDArray[np.bool_]]
    provenance: dict[str, Any] = field(default_factory=dict)
    windows: Windows = WHOLE
    haze_head: HazeHead | None = None

    def __repr__(self) -> str:
        """Say what it is in a line; its arrays are long."""
        return f"Ticket({self.kept:,} of {self.total:,} parameters)"

    def __post_init__(self) -> None:
        """Raise MirlError, naming the tensor, unless weights and masks fit the network and each other."""
        expected = {p.name: p for p in parameters(self.network)}
        if set(self.weights) != set(expected):
            odd = sorted(set(self.weights) ^ set(expected))
            raise MirlError(f"ticket: {len(odd)} tensors differ from the network's, such as {odd[0]}")
        for name, weight in self.weights.items():
            if weight.shape != expected[name].shape or weight.dtype != np.float32:
                raise MirlError(f"ticket: {name} is {weight.dtype} {weight.shape}, expected float32 {expected[name].shape}")
        for name, mask in self.masks.items():
            if name not in expected or not expected[name].maskable:
                raise MirlError(f"ticket: {name} has a mask but is no prunable tensor of the network")
            if mask.shape != expected[name].shape or mask.dtype != np.bool_:
                raise MirlError(
                    f"ticket: the mask of {name} is {mask.dtype} {mask.shape}, expected bool {expected[name].shape}"
                )
            if np.any(self.weights[name][~mask] != 0):
                raise MirlError(f"ticket: {name} has values other than zero where its mask says pruned")

    @property
    def total(self) -> int:
        """Number of all trainable parameters: of the dense network and of the haze head."""
        return parameter_count(self.network) + (self.haze_head.size if self.haze_head else 0)

    @property
    def kept(self) -> int:
        """Parameters that the masks keep, dense tensors and the haze head included."""
        return self.total - sum(int(mask.size - np.count_nonzero(mask)) for mask in self.masks.values())

    @property
    def density(self) -> float:
        """Kept parameters over all trainable parameters."""
        return self.kept / self.total

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks it was trained on, as its provenance states them."""
        named = self.provenance.get("tasks")
        return tuple(map(str, named)) if isinstance(named, list | tuple) else ()


def encode_ticket(ticket: Ticket, values: Values = "float16") -> bytes:
    """Return the bytes of a `.mirl` file.

    `values` is how prunable weights are stored; norms, biases and temperatures are always float32, a haze head float16.
    Raises MirlError when a value is not finite or does not fit in float16. A kept weight that float16 rounds to zero stays
    kept.
    """
    masks: list[NDArray[np.uint8]] = []
    halves: list[NDArray[np.float32]] = []
    fulls: list[NDArray[np.float32]] = []
    for parameter in parameters(ticket.network):
        weight, mask = ticket.weights[parameter.name], ticket.masks.get(parameter.name)
        kept = weight.reshape(-1) if mask is None else weight[mask]
        if mask is not None:
            masks.append(pack_mask(mask))
        (halves if parameter.prunable and values == "float16" else fulls).append(kept)
    head = ticket.haze_head
    ours = join([] if head is None else [head.tensors[name] for name in head_shapes(head.widths)], np.float32)
    half, full = join(halves, np.float32), join(fulls, np.float32)
    if not np.all(np.isfinite(full)) or not all(np.all(np.abs(each) <= np.finfo(np.float16).max) for each in (half, ours)):
        raise MirlError("ticket: a weight is not finite or too large for float16; write it with values='float32'")
    mask_bytes = join(masks, np.uint8).tobytes()
    value_bytes = planes(half.astype("<f2")) + planes(full.astype("<f4"))
    blocks = [deflate(mask_bytes), deflate(value_bytes), deflate(planes(ours.astype("<f2"))) if head else b""]
    header = {
        "network": to_dict(ticket.network),
        "masked": [p.name for p in parameters(ticket.network) if p.name in ticket.masks],
        "values": values,
        "mask_block": len(blocks[0]),
        "kept_half": int(half.size),
        "kept_full": int(full.size),
        "provenance": ticket.provenance,
        "window": ticket.windows.size,
        "overlap": ticket.windows.overlap,
        "haze_head": head_facts(head),
        "head_block": len(blocks[2]),
    }
    try:
        text = json.dumps(header, allow_nan=False, sort_keys=True).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise MirlError(f"ticket: provenance must be plain JSON values: {error}") from error
    parse_header(text, VERSION)  # what is written can be read
    start = zlib.compress(text, 9)
    body = b"".join([start, *blocks])
    check_size(ticket.network, len(body))
    return _PREFIX.pack(MAGIC, VERSION, len(start), len(body) - len(start), zlib.crc32(body)) + body


def write_ticket(ticket: Ticket, path: Path, values: Values = "float16") -> None:
    """Write `ticket` to `path` in one step; see encode_ticket."""
    write_bytes(path, encode_ticket(ticket, values))


def read_ticket(source: Path | bytes) -> Ticket:
    """Read a `.mirl` file or its bytes. Raises MirlError, saying what is wrong, for anything else."""
    name = "ticket" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        content = source
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            raise MirlError(f"cannot read the ticket {source}: {error.strerror}; expected a .mirl file") from error
    try:
        return _decode(content)
    except MirlError as error:
        raise MirlError(f"{name}: {error}") from error


def shipped() -> dict[str, Path]:
    """Return the files of the tickets in the package by name, the default one first."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.mirl"), key=lambda path: (path.stem != DEFAULT, path.stem))}


def load_ticket(name: str | Path = DEFAULT) -> Ticket:
    """Return the ticket shipped under `name`, the one in the file `name`, or that of the hub, `hf:owner/name[@revision]`."""
    return read_ticket(find_ticket(name))


def find_ticket(name: str | Path) -> Path:
    """Return the file of the ticket shipped under `name`, `name` itself when it is a file, or one fetched from the hub.

    `hf:owner/name[@revision]` is of the hub, see `mirl.hub.fetch`. Raises MirlError when there is none.
    """
    if is_hub_name(name):
        return fetch(name)
    files = shipped()
    if str(name) in files:
        return files[str(name)]
    if not Path(name).exists():
        known = ", ".join(files) or "none yet"
        raise MirlError(
            f"no ticket {str(name)!r}: expected a .mirl file, the name of a shipped ticket ({known}), or hf:owner/name"
        )
    return Path(name)


def _decode(content: bytes) -> Ticket:
    if len(content) < _PREFIX.size or content[:4] != MAGIC:
        raise MirlError(
            f"not a ticket: expected a .mirl file of at least {_PREFIX.size} bytes that starts with {MAGIC!r}, "
            f"found {len(content)} bytes starting with {content[:4]!r}"
        )
    _, version, head_size, block_size, crc = _PREFIX.unpack_from(content)
    if version not in (1, VERSION):
        raise MirlError(f"ticket version {version}, expected 1 or {VERSION}; read it with the mirl that wrote it")
    body = content[_PREFIX.size :]
    if len(body) != head_size + block_size:
        raise MirlError(
            f"truncated or overlong: {len(body)} bytes follow the prefix, expected {head_size + block_size}; "
            "fetch the file again"
        )
    if zlib.crc32(body) != crc:
        raise MirlError("altered: the checksum does not match; fetch the file again")
    header = parse_header(inflate(body[:head_size], MAX_HEADER, exact=False), version)
    windows, value_end = Windows(header["window"], header["overlap"]), len(body) - header["head_block"]
    head = _decode_head(header["haze_head"], body[max(value_end, head_size) :])
    network = network_from_dict(header["network"])
    check_size(network, len(body))
    listed = parameters(network)
    masked, is_half = set(header["masked"]), header["values"] == "float16"
    if odd := masked - {p.name for p in listed if p.maskable}:
        raise MirlError(f"ticket: a mask for {min(odd)!r:.80}, which is no prunable tensor of its network")
    mask_size = sum(-(-p.size // 8) for p in listed if p.name in masked)
    mask_end = head_size + header["mask_block"]
    bits = np.frombuffer(inflate(body[head_size:mask_end], mask_size), np.uint8)
    masks: dict[str, NDArray[np.bool_]] = {}
    position, counts = 0, {True: 0, False: 0}
    for p in listed:
        if p.name in masked:
            packed = bits[position : position + -(-p.size // 8)]
            position += packed.size
            masks[p.name] = unpack_mask(packed, p.shape)
        counts[p.prunable and is_half] += int(np.count_nonzero(masks[p.name])) if p.name in masked else p.size
    if counts != {True: header["kept_half"], False: header["kept_full"]}:
        raise MirlError(
            f"ticket: its masks keep {counts[True]} + {counts[False]} values, its header says "
            f"{header['kept_half']} + {header['kept_full']}"
        )
    content = inflate(body[mask_end:value_end], 2 * counts[True] + 4 * counts[False])
    halves, fulls = content[: 2 * counts[True]], content[2 * counts[True] :]
    streams = {True: unplanes(halves, "<f2"), False: unplanes(fulls, "<f4")}
    if not all(np.all(np.isfinite(stream)) for stream in streams.values()):
        raise MirlError("ticket: a weight is not finite")
    weights: dict[str, NDArray[np.float32]] = {}
    taken = {True: 0, False: 0}
    for p in listed:
        half, mask = p.prunable and is_half, masks.get(p.name)
        count = p.size if mask is None else int(np.count_nonzero(mask))
        kept = streams[half][taken[half] : taken[half] + count]
        taken[half] += count
        if mask is None:
            weights[p.name] = kept.reshape(p.shape).copy()
        else:
            weights[p.name] = np.zeros(p.shape, np.float32)
            weights[p.name][mask] = kept
    return Ticket(network, weights, masks, header["provenance"], windows, head)


def _decode_head(facts: dict[str, Any] | None, block: bytes) -> HazeHead | None:
    if facts is None and block:
        raise MirlError("ticket: it has a block for a haze head, but says nothing of one")

    def read(shapes: dict[str, tuple[int, ...]]) -> dict[str, NDArray[np.float32]]:
        sizes = [math.prod(shape) for shape in shapes.values()]
        values = np.split(unplanes(inflate(block, 2 * sum(sizes)), "<f2"), np.cumsum(sizes)[:-1])
        return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), values, strict=True)}

    return head_of(facts, read)


def describe_ticket(ticket: Ticket, size_bytes: int) -> dict[str, Any]:
    """Return the figures of `mirl inspect`: densities of all parameters, of prunable ones and by MACs, bytes, layers.

    `size_bytes` is that of the file the ticket came from.
    `nonzero` counts values that are not zero; `density` what the masks keep (a kept weight may be zero by rounding).
    `density_macs` weighs every kept weight by its uses for each input pixel; `macs_per_pixel` is the sum of those uses.
    `haze_head` is how many of the parameters are the haze head's, which is neither pruned nor counted by MACs.
    """
    layers, macs = [], [0.0, 0.0]
    prunable = [0, 0]
    for p in parameters(ticket.network):
        kept = p.size if p.name not in ticket.masks else int(np.count_nonzero(ticket.masks[p.name]))
        layers.append({"name": p.name, "kind": p.kind, "shape": list(p.shape), "kept": kept, "density": kept / p.size})
        macs = [macs[0] + kept * p.uses_per_pixel, macs[1] + p.size * p.uses_per_pixel]
        prunable = [prunable[0] + kept * p.prunable, prunable[1] + p.size * p.prunable]
    head = {} if ticket.haze_head is None else ticket.haze_head.tensors
    for name, tensor in head.items():
        facts = {"kind": "haze head", "shape": list(tensor.shape), "kept": tensor.size, "density": 1.0}
        layers.append({"name": f"haze_head.{name}", **facts})
    return {
        "parameters": ticket.total,
        "nonzero": sum(int(np.count_nonzero(w)) for w in [*ticket.weights.values(), *head.values()]),
        "density": ticket.density,
        "density_prunable": prunable[0] / prunable[1],
        "density_macs": macs[0] / macs[1],
        "macs_per_pixel": macs[0],
        "bytes": size_bytes,
        "dense_bytes": 4 * ticket.total,
        "tasks": list(ticket.tasks),
        "window": ticket.windows.size,
        "overlap": ticket.windows.overlap,
        "haze_head": ticket.haze_head.size if ticket.haze_head else 0,
        "layers": layers,
    }
