"""The JSON header of a `.mirl` file, which anyone may have written: its fields, and limits to what it may ask for.

A few thousand bytes unfold to as many millions of zeros, so what a network may take depends on the size of the file.
"""

import json
from math import isfinite
from typing import Any

from mirl.errors import MirlError
from mirl.layers import parameter_count
from mirl.recipe import NetworkConfig

MAX_HEADER = 1 << 20  # bytes
_MAX_DEPTH = 32  # of the JSON: what handles it recurses
_MAX_BLOCKS = 1024
_MAX_PARAMETERS = 1 << 28
_SMALL, _PER_BYTE = 1 << 24, 256  # so many parameters fit any file, and so many more for each byte of it
_FIELDS = {
    "network": dict,
    "masked": list,
    "values": str,
    "mask_block": int,
    "kept_half": int,
    "kept_full": int,
    "provenance": dict,
}
_SINCE_2: dict[str, Any] = {"window": int, "overlap": int, "haze_head": dict | None, "head_block": int}
_BEFORE_2: dict[str, Any] = {"window": 0, "overlap": 0, "haze_head": None, "head_block": 0}  # what a file of version 1 means


def check_size(network: NetworkConfig, file_bytes: int) -> None:
    """Raise MirlError for more blocks or parameters than a file of this size may ask for."""
    blocks = 2 * sum(network.blocks) + network.refinement_blocks
    if blocks > _MAX_BLOCKS:
        raise MirlError(f"ticket asks for a network of {blocks} blocks, at most {_MAX_BLOCKS} are allowed")
    total, most = parameter_count(network), min(_SMALL + _PER_BYTE * file_bytes, _MAX_PARAMETERS)
    if total > most:
        raise MirlError(f"ticket asks for {total} parameters in {file_bytes} bytes, at most {most} are allowed")


def parse_header(content: bytes, version: int) -> dict[str, Any]:
    """Return the header of a file of this version with the type of every field checked. Raises MirlError."""
    if len(content) > MAX_HEADER:
        raise MirlError(
            f"the ticket's header has {len(content)} bytes, at most {MAX_HEADER} are allowed; shorten its provenance"
        )
    try:
        header = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise MirlError(f"the ticket's header is not JSON: {error}") from error
    _check_plain(header)
    expected: dict[str, Any] = _FIELDS | (_SINCE_2 if version > 1 else {})
    if not isinstance(header, dict) or set(header) != set(expected):
        raise MirlError(f"the ticket's header must hold exactly {', '.join(expected)}")
    for name, kind in expected.items():
        if isinstance(header[name], bool) or not isinstance(header[name], kind):
            wanted = getattr(kind, "__name__", str(kind))
            raise MirlError(f"the ticket's header field {name} must be {wanted}, found {header[name]!r:.60}")
    header = _BEFORE_2 | header
    if header["values"] not in ("float16", "float32") or min(header["mask_block"], header["head_block"]) < 0:
        raise MirlError("the ticket's values must be float16 or float32 and its blocks not negative")
    if not all(isinstance(name, str) for name in header["masked"]):
        raise MirlError("the ticket's list of masked tensors must hold names")
    return header


def _check_plain(value: Any, depth: int = 0) -> None:
    """Raise MirlError for what cannot be printed or written as JSON again: NaN, halves of characters, deep nesting."""
    if depth > _MAX_DEPTH:
        raise MirlError(f"the ticket's header is nested more than {_MAX_DEPTH} deep")
    if isinstance(value, float) and not isfinite(value):
        raise MirlError(f"the ticket's header holds {value}, which is no number")
    if isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
        raise MirlError(f"the ticket's header holds half a character: {value!r:.60}")
    for inner in [*value, *value.values()] if isinstance(value, dict) else value if isinstance(value, list) else []:
        _check_plain(inner, depth + 1)
