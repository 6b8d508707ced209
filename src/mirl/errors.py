"""The one exception users meet: its message says what was found, what was expected and what to do."""


class MirlError(Exception):
    """Bad input or an impossible request; the command line prints it as one line and exits with 1."""
