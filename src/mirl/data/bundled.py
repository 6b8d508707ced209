"""The photographs inside the package: it trains with no download (licences in photos/ATTRIBUTION.md)."""

from pathlib import Path

_FOLDER = Path(__file__).parent / "photos"


def training_photos() -> list[Path]:
    """Return the bundled photographs that may be trained on, sorted by name."""
    return sorted(_FOLDER.glob("*.jpg"))


def held_out_photos() -> list[Path]:
    """Return the four bundled photographs that nothing is ever trained on: examples and validation."""
    return sorted((_FOLDER / "held_out").glob("*.jpg"))


def people_pictures() -> Path:
    """Return the folder of this project's own test pictures: `graphics/light`, `graphics/dark` and `tone` below it.

    It is in the repository, beside this file, and not in the wheel, so it may be missing.
    """
    return Path(__file__).parent / "people"
