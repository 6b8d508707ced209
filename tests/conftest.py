"""Shared small things: a network that trains in milliseconds, its recipe, a ticket of it."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mirl.data import banks, rain_bank
from mirl.layers import parameters
from mirl.network.promptir import PromptIR, initialise
from mirl.recipe import NetworkConfig, PruneConfig, Recipe, TaskShare, TrainConfig
from mirl.ticket import Ticket

torch.set_num_threads(1)  # small tensors: more threads only wait for each other

MINI = NetworkConfig(
    width=4, blocks=(1, 1, 1, 1), refinement_blocks=1, heads=(1, 2, 2, 4), expansion=2.0, prompts=2,
    prompt_widths=(4, 4, 4), prompt_sizes=(4, 4, 4),
)  # fmt: skip


@pytest.fixture(scope="session")
def mini() -> NetworkConfig:
    return MINI


@pytest.fixture(scope="session")
def mini_recipe() -> Recipe:
    return Recipe(
        name="mini",
        network=MINI,
        train=TrainConfig(steps=6, batch=5, patch=16, learning_rate=2e-3, warmup_steps=2, ema_decay=0.9, log_every=2),
        prune=PruneConfig(keep=0.3, fraction=0.5),
        tasks=(TaskShare("denoise25"), TaskShare("derain"), TaskShare("dehaze")),
    )


def mini_weights(seed: int = 0, network: NetworkConfig = MINI) -> dict[str, np.ndarray]:
    module = PromptIR(network)
    initialise(module, torch.Generator().manual_seed(seed))
    return {name: value.detach().numpy().copy() for name, value in module.named_parameters()}


def make_ticket(network: NetworkConfig = MINI, keep: float = 0.2, seed: int = 0) -> Ticket:
    rng, weights, masks = np.random.default_rng(seed), mini_weights(seed, network), {}
    for p in parameters(network):
        if p.prunable:
            masks[p.name] = rng.random(p.shape) < keep
            weights[p.name][~masks[p.name]] = 0
        if p.kind in ("norm", "temperature"):
            weights[p.name] += rng.normal(0, 0.1, p.shape).astype(np.float32)
    ticket = Ticket(network, weights, masks, {"tasks": ["derain"]})
    return replace(ticket, provenance={"tasks": ["derain"], "density": ticket.density})


@pytest.fixture(scope="module")
def small_banks() -> Iterator[None]:
    """Training draws hundreds of graphics and layers of rain before it starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(banks, "GRAPHICS", 12)
        patch.setattr(rain_bank, "PHOTO_LAYERS", 8)
        patch.setattr(rain_bank, "RAIN_LAYERS", 8)
        yield


@pytest.fixture(scope="session")
def mini_ticket() -> Ticket:
    return make_ticket()


@lru_cache
def mini_data() -> Path:
    """A training folder of 40 small photographs (one of them is held out), cut from the bundled ones; gone at the end."""
    from mirl.data.bundled import training_photos

    root = Path(tempfile.mkdtemp(prefix="mirl-tests-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder = root / "denoise" / "MINI"
    folder.mkdir(parents=True)
    for path in training_photos()[:4]:
        with Image.open(path) as photo:
            for part in range(10):
                box = (40 * part, 100, 40 * part + 28, 124)
                photo.crop(box).save(folder / f"{path.stem}-{part}.png")
    return root
