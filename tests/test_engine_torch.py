"""The dense torch backend: any size, its own threads, memory in one line."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch

from conftest import make_ticket
from mirl.engine.memory import keep_large_blocks
from mirl.engine.tiles import cut_tiles, map_tiles
from mirl.engine.torch import TorchBackend, activation_bytes
from mirl.errors import MirlError
from mirl.recipe import NetworkConfig


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (7, 5), (8, 8), (33, 50)])
def test_any_size_gives_finite_pixels_of_the_same_size(mini_ticket, size):
    pixels = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    before = pixels.copy()
    restored = TorchBackend(mini_ticket, 1).forward(pixels)
    assert (restored.shape, restored.dtype) == (pixels.shape, np.float32)
    assert np.isfinite(restored).all()
    np.testing.assert_array_equal(pixels, before)


def test_threads_hold_for_the_call_only(mini_ticket):
    before = torch.get_num_threads()
    backend, seen = TorchBackend(mini_ticket, before + 1), []
    backend.network.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    backend.forward(np.zeros((8, 8, 3), np.float32))
    assert seen == [before + 1]
    assert torch.get_num_threads() == before


def test_running_out_of_memory_says_to_use_tiles(mini_ticket):
    def exhausted(*_):
        torch.empty(1 << 50)  # a petabyte: the allocator's own message

    backend = TorchBackend(mini_ticket, 1)
    backend.network.register_forward_pre_hook(exhausted)
    with pytest.raises(MirlError, match="not enough memory for 9x8 pixels at once; use a smaller --tile"):
        backend.forward(np.zeros((8, 9, 3), np.float32))


def test_other_errors_of_the_network_are_not_hidden(mini_ticket):
    def broken(*_):
        raise RuntimeError("a bug")

    backend = TorchBackend(mini_ticket, 1)
    backend.network.register_forward_pre_hook(broken)
    with pytest.raises(RuntimeError, match="a bug"):
        backend.forward(np.zeros((8, 8, 3), np.float32))


def test_working_memory_grows_with_the_width_of_the_network():
    measured = {
        (12, 2.0): 2_144,
        (16, 2.66): 3_608,
    }  # bytes per pixel at 512x512, large blocks kept, one thread
    for (width, expansion), expected in measured.items():
        assert 0.9 < activation_bytes(NetworkConfig(width=width, expansion=expansion)) / expected < 1.1


def test_keeping_large_blocks_leaves_threads_able_to_allocate():
    code = (
        "import threading, numpy as np\n"
        "from mirl.engine.memory import keep_large_blocks\n"
        "done = []\n"
        "kept = keep_large_blocks()\n"
        "thread = threading.Thread(target=lambda: done.append(np.ones(200 << 20, np.uint8).sum()))\n"
        "thread.start(); thread.join()\n"
        "print(kept, done == [200 << 20])\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split()[1] == "True"
    if sys.platform == "linux" and "glibc" in _libc():
        assert result.stdout.split()[0] == "True"


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert keep_large_blocks() is False
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())  # a C library without glibc's functions
    assert keep_large_blocks() is False


def test_two_threads_may_restore_at_once(mini_ticket):
    backend, pixels = (
        TorchBackend(mini_ticket, 1),
        np.random.default_rng(0).random((40, 40, 3), dtype=np.float32),
    )
    expected, found = backend.forward(pixels), []
    workers = [threading.Thread(target=lambda: found.append(backend.forward(pixels))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 4
    for result in found:
        np.testing.assert_allclose(result, expected, atol=1e-6)


def _libc() -> str:
    import platform

    return platform.libc_ver()[0]


def test_tiles_that_share_statistics_are_nearer_to_the_whole_image():
    ticket = make_ticket(keep=1.0)
    for (
        name,
        value,
    ) in ticket.weights.items():  # a network that looks at its surroundings and acts on what it sees
        if name.endswith("temperature"):
            value *= 8
        if name == "output.weight":
            value *= 3
    backend = TorchBackend(ticket)
    rng = np.random.default_rng(0)
    pixels = rng.random((96, 128, 3), dtype=np.float32) * np.linspace(0, 1, 128, dtype=np.float32)[:, None]
    whole = backend.forward(pixels)
    apart = map_tiles(backend.forward, pixels, (64, 64), 16)
    told = []
    with backend.shared_statistics(cut_tiles(pixels, (64, 64), 16), told.append):
        together = map_tiles(backend.forward, pixels, (64, 64), 16)
    assert told == [1, 2, 3, 4, 5, 6]
    assert np.abs(together - whole).mean() < 0.7 * np.abs(apart - whole).mean()
    np.testing.assert_array_equal(backend.forward(pixels), whole)  # outside the context nothing stays


def test_sharing_the_statistics_of_the_image_itself_changes_nothing(mini_ticket):
    backend, pixels = (
        TorchBackend(mini_ticket),
        np.random.default_rng(0).random((24, 32, 3), dtype=np.float32),
    )
    alone = backend.forward(pixels)
    with backend.shared_statistics([pixels], lambda done: None):
        np.testing.assert_allclose(backend.forward(pixels), alone, atol=1e-6)
