"""THE registry: every task this project trains, synthesises or measures, as literal entries.

Whatever lists tasks (folder kinds, file suffixes, labels of tables, the command line) reads it from here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np

from mirl.degrade import stored
from mirl.degrade.haze import add_haze
from mirl.degrade.noise import add_any_noise, add_correlated_noise, add_gaussian_noise
from mirl.degrade.rain import add_rain
from mirl.degrade.web import pass_through_web
from mirl.errors import MirlError

Change: TypeAlias = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""Takes a picture, float32 (h, w, 3) in [0, 1], and returns one rounded to 8 bits."""

PHOTOS = "denoise"
"""The folder kind of clean photographs without a degraded side."""


@dataclass(frozen=True)
class Task:
    """One degradation to undo: its name, its folder kind in the data layout, and how to make it.

    `degrade` keeps the shape of what it is given. `target`, where there is one, makes the clean side from a photograph
    first, perhaps smaller than it or another picture; without one the photograph is the target. `sigma_255` is the
    noise's standard deviation for the noise of the benchmarks and None for the others. `suffix` ends the names of
    degraded files ("_" and the kind when left out), `label` heads tables (the name when left out), `what` says
    in a line what is done.
    """

    name: str
    kind: str
    degrade: Change
    sigma_255: float | None = None
    target: Change | None = None
    suffix: str = ""
    label: str = ""
    what: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "suffix", self.suffix or f"_{self.kind}")
        object.__setattr__(self, "label", self.label or self.name)

    @property
    def folder(self) -> str:
        """The folder that stored pairs go into: the kind, or the name where the kind holds photographs alone."""
        return self.name if self.kind == PHOTOS else self.kind

    def pair(self, photo: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return (degraded, clean) made from a photograph: float32, of one shape, [0, 1]."""
        clean = photo if self.target is None else self.target(photo, rng)
        return self.degrade(clean, rng), clean


def _noise(sigma_255: float) -> Task:
    """The noise of the benchmarks."""
    name, label = f"denoise{sigma_255:g}", f"noise {sigma_255:g}"
    degrade = partial(add_gaussian_noise, sigma_255=sigma_255)
    return Task(
        name, PHOTOS, degrade, sigma_255, None, "_noisy", label, f"white Gaussian noise of sigma {sigma_255:g} of 255"
    )


_ALL = (
    _noise(15.0),
    _noise(25.0),
    _noise(50.0),
    Task("derain", "derain", add_rain, suffix="_rainy", label="rain", what="streaks added as in Rain100L"),
    Task("dehaze", "dehaze", add_haze, suffix="_hazy", label="haze", what="haze as in RESIDE's outdoor set"),
    Task("web", "web", pass_through_web, what="shrunk, coded, enlarged and coded again; the target is the photograph"),
    Task(
        "gaussian", "gaussian", add_any_noise, suffix="_noisy", label="any noise",
        what="white Gaussian noise of any sigma of 2 to 55, a fifth the same in all channels",
    ),
    Task(
        "correlated", "correlated", add_correlated_noise, target=stored.shrunk, suffix="_noisy", label="correlated noise",
        what="noise that was smoothed or enlarged, sigma 2 to 40; a third with coarser colour",
    ),
    Task(
        "camera", "camera", stored.camera, target=stored.shrunk, suffix="_noisy", label="camera noise",
        what="shot and read noise in linear light, demosaicked, white-balanced; 40 % coded",
    ),
    Task(
        "coded", "coded", stored.coded, target=stored.shrunk, label="coded noise",
        what="noise of sigma 3 to 40, then JPEG",
    ),
    Task(
        "grey", "grey", stored.grey_noise, target=stored.grey, suffix="_noisy", label="grey noise",
        what="a grey photograph with noise of sigma 2 to 55; 30 % coded",
    ),
    Task("rain", "rain", stored.rain, suffix="_rainy", label="photographed rain",
         what="half-transparent streaks of several widths and depths, a veil; a quarter coded"),
    Task("haze", "haze", stored.haze, suffix="_hazy", label="photographed haze",
         what="haze of any beta up to 0.35, tinted; 40 % coded"),
    Task("jpeg", "jpeg", stored.jpeg, target=stored.shrunk, label="JPEG",
         what="JPEG at quality 12 to 98, 4:2:0 or 4:4:4, any grid phase, a fifth twice"),
    Task("webp", "webp", stored.webp, target=stored.shrunk, label="WebP", what="WebP at quality 12 to 98, a fifth twice"),
    Task("rescaled", "rescaled", stored.platform_coding, target=stored.rescaled,
         what="a photograph scaled as platforms do, then coded; the target is the scaled one"),
    Task("clean", "clean", stored.untouched, target=stored.shrunk, what="a photograph to leave as it is"),
    Task("graphics", "graphics", stored.coded_graphic, target=stored.graphic, suffix="_graphic",
         what="a rendered interface, text, chart, drawing, logo or line art; half coded"),
    Task("tone", "tone", stored.slightly_noisy, target=stored.toned,
         what="a photograph of a tone to keep: dark, flat, faded, snow, grey sky; half noisy, 40 % coded"),
)  # fmt: skip

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def task_named(name: str) -> Task:
    """Return the task called `name`; raises MirlError listing the known ones."""
    if name not in TASKS:
        raise MirlError(f"unknown task {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name]
