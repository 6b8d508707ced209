"""THE registry: every task this project trains, synthesises or measures, as literal entries."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from mirl.degrade.camera import add_camera_noise
from mirl.degrade.haze import add_haze
from mirl.degrade.noise import add_gaussian_noise
from mirl.degrade.rain import add_rain
from mirl.degrade.web import pass_through_web
from mirl.errors import MirlError


@dataclass(frozen=True)
class Task:
    """One degradation to undo: its name, its folder kind in the data layout, and how to make it.

    `degrade(clean, rng)` takes float32 (h, w, 3) in [0, 1] and returns the same shape rounded to 8 bits;
    `sigma_255` is the noise's standard deviation for noise tasks and None for the others.
    """

    name: str
    kind: str
    degrade: Callable[[np.ndarray, np.random.Generator], np.ndarray]
    sigma_255: float | None = None


TASKS: dict[str, Task] = {
    "denoise15": Task("denoise15", "denoise", partial(add_gaussian_noise, sigma_255=15.0), 15.0),
    "denoise25": Task("denoise25", "denoise", partial(add_gaussian_noise, sigma_255=25.0), 25.0),
    "denoise50": Task("denoise50", "denoise", partial(add_gaussian_noise, sigma_255=50.0), 50.0),
    "derain": Task("derain", "derain", add_rain),
    "dehaze": Task("dehaze", "dehaze", add_haze),
    "web": Task("web", "web", pass_through_web),
    "gaussian": Task("gaussian", "denoise", add_gaussian_noise, 25.0),
    "camera": Task("camera", "real", add_camera_noise),
    "coded": Task("coded", "coded", add_camera_noise),
    "rain": Task("rain", "derain", add_rain),
    "haze": Task("haze", "dehaze", add_haze),
    "jpeg": Task("jpeg", "web", pass_through_web),
    "rescaled": Task("rescaled", "web", pass_through_web),
    "clean": Task("clean", "clean", lambda clean, rng: clean),
    "tone": Task("tone", "clean", lambda clean, rng: clean),
}


def task_named(name: str) -> Task:
    """Return the task called `name`; raises MirlError listing the known ones."""
    if name not in TASKS:
        raise MirlError(f"unknown task {name!r}; expected one of {', '.join(TASKS)}")
    return TASKS[name]
