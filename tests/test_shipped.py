"""The tickets in the package: what the claims about them rest on."""

import numpy as np
import pytest
from PIL import Image

import mirl
from mirl.data.bundled import held_out_photos
from mirl.degrade.tasks import task_named
from mirl.evaluate.metrics import psnr
from mirl.image import read_pixels
from mirl.lottery.verify import verify
from mirl.serve.shelf import read_offers
from mirl.ticket import SHIPPED, find_ticket

TICKETS = sorted(path.stem for path in SHIPPED.glob("*.mirl"))


def test_small_ships_and_is_the_default():
    assert "small" in TICKETS
    assert mirl.load().provenance == mirl.load("small").provenance
    assert [offer.name for offer in read_offers([])] == ["small", *(name for name in TICKETS if name != "small")]


@pytest.mark.parametrize("name", TICKETS)
def test_a_shipped_ticket_is_sparse_small_and_audited(name: str):
    file = find_ticket(name)
    assert file.stat().st_size < 2_000_000
    ticket = mirl.load(name)
    assert ticket.density <= 0.10
    assert np.count_nonzero(np.concatenate([w.reshape(-1) for w in ticket.weights.values()])) <= ticket.kept
    audit = verify(file)
    assert audit.ok, audit.problems


@pytest.mark.parametrize("task", ["denoise15", "denoise25", "denoise50"])
def test_small_takes_noise_out_of_photographs_that_trained_nothing(task: str):
    ticket, gains = mirl.load(), []
    for path in held_out_photos():
        clean = read_pixels(path)[:256, :256]
        degraded = task_named(task).degrade(clean, np.random.default_rng(0))
        restored = mirl.restore(Image.fromarray(np.rint(degraded * 255).astype(np.uint8)), ticket)
        gains.append(psnr(np.asarray(restored, np.float32) / 255, clean) - psnr(degraded, clean))
    assert np.mean(gains) > 3.0, gains
