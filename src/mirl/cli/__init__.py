"""The command line: parse, call one function, print. Nothing here knows how a thing is done.

`mirl --help` imports neither torch nor numpy's heavy users: every command imports what it needs when it runs.
"""

from mirl.cli.app import main

__all__ = ["main"]
