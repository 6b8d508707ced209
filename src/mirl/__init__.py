"""MIR-L: blind image restoration by winning lottery tickets, small and fast enough for the web."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mirl.engine.engine import restore as restore
    from mirl.engine.photos import restore_file as restore_file
    from mirl.errors import MirlError as MirlError
    from mirl.lottery.search import search as search
    from mirl.recipe import Recipe as Recipe
    from mirl.ticket import Ticket as Ticket
    from mirl.ticket import load_ticket as load

__version__ = "0.1.0"
__all__ = ["MirlError", "Recipe", "Ticket", "load", "restore", "restore_file", "search"]

_HOMES = {
    "MirlError": ("mirl.errors", "MirlError"),
    "Recipe": ("mirl.recipe", "Recipe"),
    "Ticket": ("mirl.ticket", "Ticket"),
    "load": ("mirl.ticket", "load_ticket"),
    "restore": ("mirl.engine.engine", "restore"),
    "restore_file": ("mirl.engine.photos", "restore_file"),
    "search": ("mirl.lottery.search", "search"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `mirl --help` never imports torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'mirl' has no attribute {name!r}")
    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
