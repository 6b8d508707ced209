"""Plain JSON values back into frozen dataclasses, every field checked against its annotation."""

import dataclasses
import typing
from typing import Any, Literal

from mirl.errors import MirlError


def from_plain(kind: Any, values: Any, where: str = "") -> Any:
    """Rebuild a frozen dataclass from plain JSON values; fields left out take their defaults.

    Raises MirlError, naming the field, on missing, unknown or ill-typed ones.
    """
    where = where or kind.__name__
    if dataclasses.is_dataclass(kind):
        if not isinstance(values, dict):
            raise MirlError(f"{where}: expected an object, found {values!r:.60}")
        hints = typing.get_type_hints(kind)
        if unknown := sorted(map(str, set(values) - set(hints))):
            raise MirlError(f"{where}: unknown field {unknown[0]!r:.60}; written by another version of mirl?")
        try:
            make: Any = kind
            return make(**{name: from_plain(hints[name], value, f"{where}.{name}") for name, value in values.items()})
        except TypeError as error:
            raise MirlError(f"{where}: {error}") from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple and isinstance(values, list | tuple):
        kinds = [arguments[0]] * len(values) if arguments[-1] is Ellipsis else list(arguments)
        if len(kinds) == len(values):
            return tuple(from_plain(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, values, strict=True)))
    elif origin is Literal and values in arguments:
        return values
    elif kind is float and type(values) in (int, float):
        return float(values)
    elif kind in (int, str, bool) and type(values) is kind:
        return values
    raise MirlError(f"{where}: expected {kind}, found {values!r:.60}")
