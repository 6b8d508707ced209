"""The one exception users meet: its message says what was found, what was expected and what to do."""

import re


class MirlError(Exception):
    """Bad input or an impossible request; the command line prints it as one line and exits with 1."""


class OutOfMemory(MirlError):  # noqa: N818 - what happened
    """There is not enough memory for it now; the same request may succeed later, or with less."""


def one_line(error: Exception) -> str:
    """Return an error's message as one line, without the addresses of Python's objects."""
    text = re.sub(r"<[^<>]* at 0x[0-9a-fA-F]+>", "the file", " ".join(str(error).split()))
    return text or type(error).__name__
