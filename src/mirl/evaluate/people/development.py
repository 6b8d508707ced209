"""The development set: ten real noisy photographs by which choices are made, and which enter no figure.

Fixed before the first choice. The ten are all pairs of five scenes of the 45 PolyU pairs (Xu et al. 2018, "Real-world noisy
image denoising"), so that no scene is in both parts; the five cameras, ISO 800 to 6400 and the strength of the noise
(input 35.4 dB against 36.2 dB of the other 35) are those of the whole.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mirl.errors import MirlError
from mirl.image import quantise, read_pixels

DEVELOPMENT_SCENES: dict[str, tuple[str, ...]] = {  # what is to be seen -> the names of its pairs
    "bicycle": (
        "Canon5D2_5_160_6400_bicycle_10",
        "Canon5D2_5_160_6400_bicycle_6",
        "Canon5D2_5_160_6400_bicycle_8",
    ),
    "plants before an office": ("Canon80D_8_8_800_GO_11",),
    "calligraphy": ("NikonD800_8_125_6400_photo_19",),
    "plant": ("NikonD800_6-3_125_5000_plant__4",),
    "cupboard": (
        "Canon600D_3-5_125_1600_waterhouse_10",
        "Canon600D_3-5_125_1600_waterhouse_11",
        "Canon600D_3-5_125_1600_waterhouse_12",
        "Sony_4-5_125_6400_waterhouse_10",
    ),
}
DEVELOPMENT = frozenset(name for names in DEVELOPMENT_SCENES.values() for name in names)
PLACE = Path("real", "PolyU")  # below the folder of test sets


@dataclass(frozen=True)
class Crop:
    """A real noisy photograph and its truth, both float32 (side, side, 3) in 8-bit steps."""

    name: str
    degraded: NDArray[np.float32]
    clean: NDArray[np.float32]


def development_crops(tests: Path, side: int = 256) -> list[Crop]:
    """Return the middle of every development photograph, sorted by name, of the test folder `tests` (real/PolyU below it).

    Raises MirlError when one is missing, cannot be read or is smaller than `side`.
    """
    crops = []
    for name in sorted(DEVELOPMENT):
        files = [tests / PLACE / "input" / f"{name}_real.jpg", tests / PLACE / "target" / f"{name}_gt.jpg"]
        degraded, clean = (quantise(read_pixels(file)) for file in files)
        if degraded.shape != clean.shape or min(clean.shape[:2]) < side:
            sizes = " and ".join(f"{image.shape[1]}x{image.shape[0]}" for image in (degraded, clean))
            raise MirlError(f"the pair {files[0]} has {sizes} pixels; expected one size of at least {side}x{side}")
        top, left = ((size - side) // 2 for size in clean.shape[:2])
        cut = np.s_[top : top + side, left : left + side]
        crops.append(Crop(name, degraded[cut].copy(), clean[cut].copy()))
    return crops
