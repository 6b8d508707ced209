"""The two named ways to measure, and the degraded image each of them scores.

Noise is seeded by image name and sigma alone, so the numbers do not depend on workers, order, batches or
which other images are measured. Sources: `paper` is what MIR-L's code does (arXiv 2510.14463), `standard`
what one would publish.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mirl.data.pairs import Pair
from mirl.degrade.tasks import Task
from mirl.errors import MirlError
from mirl.evaluate.metrics import WINDOW_SIZES, Window, size_text
from mirl.image import quantise, read_pixels

Noise = Literal["round", "floor"]


@dataclass(frozen=True)
class MetricProtocol:
    """A way to measure: size, rounding of the output and of the noisy input, SSIM window.

    `crop` cuts both images, centred, to a multiple of that many pixels BEFORE noise is added (as MIR-L does),
    so the noise of a protocol is that of the image it scores. `noise` is how the noisy image becomes 8 bits.
    """

    name: str
    crop: int
    round_output: bool
    window: Window
    noise: Noise

    def describe(self) -> str:
        """Return the rules in one line, for captions."""
        size = "full size" if self.crop == 1 else f"centre crop to a multiple of {self.crop}"
        output = "output rounded to 8 bits" if self.round_output else "output clipped, not rounded"
        window = "Gaussian 11x11, sigma 1.5" if self.window == "gaussian" else "uniform 7x7"
        noise = "rounded" if self.noise == "round" else "floored"
        return f"RGB, {size}, {output}, SSIM {window}, noise {noise} to 8 bits"


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        MetricProtocol("paper", crop=16, round_output=False, window="uniform", noise="floor"),
        MetricProtocol("standard", crop=1, round_output=True, window="gaussian", noise="round"),
    )
}


def protocol_named(name: str) -> MetricProtocol:
    """Return the protocol called `name`; raises MirlError listing the known ones."""
    if name not in PROTOCOLS:
        raise MirlError(f"unknown protocol {name!r}; expected one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def load_pair(pair: Pair, task: Task, protocol: MetricProtocol) -> tuple[np.ndarray, np.ndarray]:
    """Return (degraded, clean), both float32 (h, w, 3) in 8-bit steps, cropped as the protocol says.

    A degraded file is read; otherwise the clean image is degraded with a generator seeded by its name and the
    task. Raises MirlError when a file cannot be read, the two differ in size, or one is too small to measure.
    """
    clean = quantise(read_pixels(pair.clean))
    degraded = None if pair.degraded is None else quantise(read_pixels(pair.degraded))
    if degraded is not None and degraded.shape != clean.shape:
        raise MirlError(
            f"{pair.degraded} has {size_text(degraded)} pixels and {pair.clean} has {size_text(clean)}; "
            "expected one size; repair the pair, or leave it out with --skip-bad"
        )
    clean = _crop(clean, protocol, pair.clean)
    if degraded is not None:
        return _crop(degraded, protocol, pair.clean), clean
    if task.sigma_255 is not None:
        return add_noise(clean, task.sigma_255, pair.clean.stem, protocol.noise), clean
    return quantise(task.degrade(clean, generator(pair.clean.stem, task.name))), clean


def add_noise(clean: np.ndarray, sigma_255: float, stem: str, noise: Noise = "round") -> np.ndarray:
    """Add Gaussian noise that depends on `stem` and sigma alone to a clean image; both in 8-bit steps.

    y + sigma * standard_normal(h, w, 3) on the 0..255 scale, clipped, then rounded, or floored as MIR-L's
    uint8 cast does.
    """
    scaled = np.rint(clean.astype(np.float64) * 255)
    scaled += sigma_255 * generator(stem, f"{sigma_255:g}").standard_normal(clean.shape)
    scaled = np.clip(scaled, 0, 255)
    levels = np.rint(scaled) if noise == "round" else np.floor(scaled)
    return levels.astype(np.float32) / np.float32(255)


def _crop(image: np.ndarray, protocol: MetricProtocol, path: Path) -> np.ndarray:
    """Cut (h, w, 3), centred, to multiples of the protocol's pixels."""
    height, width = (size - size % protocol.crop for size in image.shape[:2])
    smallest = max(protocol.crop, WINDOW_SIZES[protocol.window])
    if min(height, width) < smallest:
        raise MirlError(
            f"{path} has {size_text(image)} pixels; expected at least {smallest}x{smallest} in the protocol "
            f"{protocol.name}; use larger images, or leave it out with --skip-bad"
        )
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def generator(stem: str, what: str) -> np.random.Generator:
    """Return the random numbers of one picture and one purpose: the same whatever else is measured, in whatever order."""
    return np.random.default_rng(zlib.crc32(f"{stem}:{what}".encode()))
