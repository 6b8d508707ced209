"""Backends, strength, tiles and the Python call `restore`."""

import gc
import sys
import weakref
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mirl.engine.engine import BACKENDS, BackendKind, open_backend, restore, restore_pixels
from mirl.engine.options import Options
from mirl.engine.tiles import tile_bytes
from mirl.errors import MirlError
from mirl.image import as_pixels, quantise
from mirl.ticket import Ticket
from mirl.windows import WHOLE

RNG = np.random.default_rng(0)
PIXELS = RNG.random((40, 56, 3), dtype=np.float32)


class Fake:
    """A backend of known arithmetic that remembers what it was given."""

    name = "fake"
    bytes_per_pixel = 1000.0
    windows = WHOLE
    haze_head = None

    def __init__(self, function=lambda pixels: pixels):
        self.function, self.shapes = function, []

    def forward(self, pixels):
        self.shapes.append(pixels.shape)
        return self.function(pixels).astype(np.float32)

    @contextmanager
    def shared_statistics(self, tiles, on_tile):
        for done, _ in enumerate(tiles):
            on_tile(done + 1)
        yield


def brighter(pixels):
    return pixels * 1.5 - 0.2


def clone(ticket: Ticket) -> Ticket:
    return Ticket(ticket.network, ticket.weights, ticket.masks, ticket.provenance)


def test_strength_zero_is_the_input_exactly_and_needs_no_network():
    fake = Fake(brighter)
    result = restore_pixels(fake, PIXELS, Options(strength=0))
    np.testing.assert_array_equal(result, PIXELS)
    assert result is not PIXELS
    assert fake.shapes == []


def test_strength_one_is_the_clipped_output_of_the_network():
    np.testing.assert_array_equal(restore_pixels(Fake(brighter), PIXELS), np.clip(brighter(PIXELS), 0, 1))


@settings(max_examples=25, deadline=None)
@given(st.floats(0, 1))
def test_strength_blends_input_and_restored(strength):
    expected = (1 - strength) * PIXELS + strength * np.clip(brighter(PIXELS), 0, 1)
    result = restore_pixels(Fake(brighter), PIXELS, Options(strength))
    np.testing.assert_allclose(result, expected, atol=1e-6)
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.dtype == np.float32


@pytest.mark.parametrize("strength", [0, 0.5, 1])
@pytest.mark.parametrize("tile", [None, 0, 32])
def test_the_input_is_never_changed(strength, tile):
    before = PIXELS.copy()
    restore_pixels(Fake(brighter), PIXELS, Options(strength, tile=tile))
    np.testing.assert_array_equal(PIXELS, before)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 90),
    st.integers(1, 90),
    st.sampled_from([None, 0, 32, 40, 200]),
    st.integers(0, 70),
    st.floats(0, 1),
)
def test_an_identity_network_returns_the_same_eight_bit_image(height, width, tile, overlap, strength):
    pixels = quantise(np.random.default_rng(1).random((height, width, 3), dtype=np.float32))
    result = restore_pixels(Fake(), pixels, Options(strength, tile=tile), overlap=overlap)
    np.testing.assert_array_equal(quantise(result), pixels)


def test_tile_zero_is_the_whole_image_and_a_number_its_side():
    for tile, shapes in ((0, {(40, 56, 3)}), (32, {(32, 32, 3)}), (48, {(40, 48, 3)}), (None, {(40, 56, 3)})):
        fake = Fake()
        restore_pixels(fake, PIXELS, Options(tile=tile), overlap=8)
        assert set(fake.shapes) == shapes


def test_a_hungry_backend_gets_tiles_by_itself():
    fake = Fake()
    fake.bytes_per_pixel = tile_bytes(40, 56) / 1600
    restore_pixels(fake, PIXELS, overlap=8)
    assert len(fake.shapes) > 1
    assert all(height * width <= 1600 for height, width, _ in fake.shapes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"strength": -0.1}, "strength must lie between 0"),
        ({"strength": 1.1}, "found 1.1"),
        ({"strength": float("nan")}, "found nan"),
        ({"tile": -1}, "tile must be 0"),
        ({"tile": 31}, "at least 32 pixels, found 31"),
        ({"denoise": 1.5}, "denoise must lie between 0 .* found 1.5"),
        ({"dehaze": -1}, "dehaze must lie between 0"),
        ({"tone": "loud"}, "tone must be one of auto, keep, found 'loud'"),
        ({"window": 16}, "window must be 0 .* or a multiple of 8 from 32 to 65536 pixels, found 16"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, words):
    with pytest.raises(MirlError, match=words):
        Options(**options)


def test_a_wrong_overlap_is_refused():
    with pytest.raises(MirlError, match="overlap must be at least 0"):
        restore_pixels(Fake(), PIXELS, overlap=-1)


def test_a_network_whose_output_is_no_number_is_refused():
    with pytest.raises(MirlError, match="fake backend gave NaN"):
        restore_pixels(Fake(lambda pixels: pixels * np.nan), PIXELS)


def test_backends_are_opened_once_a_ticket_and_die_with_it(mini_ticket):
    ticket = clone(mini_ticket)
    backend = open_backend(ticket)
    assert backend.name == "native"
    assert open_backend(ticket, "native") is backend
    assert open_backend(ticket, "torch") is not backend
    assert open_backend(ticket, threads=1) is not backend
    assert open_backend(clone(mini_ticket)) is not backend
    gone = weakref.ref(backend)
    del ticket, backend
    gc.collect()
    assert gone() is None


def test_an_unknown_backend_and_no_threads_are_refused(mini_ticket):
    with pytest.raises(MirlError, match="unknown backend 'cuda'; expected auto or one of native, onnx, torch"):
        open_backend(mini_ticket, "cuda")
    with pytest.raises(MirlError, match="--threads must be at least 1, found 0"):
        open_backend(mini_ticket, threads=0)


def test_a_backend_that_is_not_installed_says_what_to_install(mini_ticket, monkeypatch):
    monkeypatch.setitem(BACKENDS, "torch", BackendKind("no_such_library", "Kind", "pip install 'mirl[train]'"))
    with pytest.raises(MirlError, match=r"torch backend needs no_such_library: pip install 'mirl\[train\]'"):
        open_backend(clone(mini_ticket), "torch")
    for name in ("native", "onnx"):
        monkeypatch.setitem(BACKENDS, name, BackendKind("no_such_library", "Kind", f"install {name}"))
    with pytest.raises(MirlError, match=r"no backend can run: .*install native.*install onnx.*mirl\[train\]"):
        open_backend(clone(mini_ticket))


@pytest.fixture
def native_not_built(monkeypatch):
    """The package as it is where there was no compiler: `mirl.engine` has no `_native`."""
    import mirl.engine

    monkeypatch.setitem(sys.modules, "mirl.engine._native", None)
    monkeypatch.delattr(mirl.engine, "_native", raising=False)
    monkeypatch.delitem(sys.modules, "mirl.engine.sparse", raising=False)


@pytest.mark.parametrize("fallback", ["onnx", "torch"])
def test_without_the_native_engine_auto_falls_back_with_one_warning(mini_ticket, monkeypatch, native_not_built, fallback):
    for name in {"onnx", "torch"} - {fallback}:
        monkeypatch.setitem(BACKENDS, name, BackendKind("no_such_library", "Kind", ""))
    monkeypatch.setitem(BACKENDS, fallback, BackendKind("mirl.engine.torch", "TorchBackend", ""))
    ticket = clone(mini_ticket)
    with pytest.warns(UserWarning, match="native engine") as told:
        backend = open_backend(ticket)
    assert len(told) == 1
    assert str(told[0].message) == (
        f"the native engine was not built, so the slower {fallback} restores; "
        "install mirl where there are a C compiler (gcc or clang) and Python's headers (python3-dev)"
    )
    assert open_backend(ticket) is backend  # opened once, told once


def test_asking_for_the_native_engine_that_was_not_built_is_an_error(mini_ticket, native_not_built):
    with pytest.raises(MirlError, match=r"native backend needs .*_native.*: install mirl where there are a C compiler"):
        open_backend(clone(mini_ticket), "native")


def test_a_compiled_part_that_does_not_load_is_named(mini_ticket, monkeypatch, tmp_path):
    (tmp_path / "altered_engine.py").write_text("raise ImportError('wrong ELF class')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BACKENDS, "native", BackendKind("altered_engine", "Kind", "build it"))
    with pytest.raises(MirlError, match=r"native backend does not load \(wrong ELF class\): build it"):
        open_backend(clone(mini_ticket), "native")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_restore_returns_pil_images_of_the_same_mode_and_size(mini_ticket, mode):
    image = Image.fromarray(RNG.integers(0, 256, (20, 30, 4), dtype=np.uint8)).convert(mode)
    before = image.tobytes()
    result = restore(image, mini_ticket, threads=1)
    assert (result.mode, result.size) == (mode, image.size)
    assert image.tobytes() == before
    assert result.tobytes() != before
    if mode.endswith("A"):
        assert result.getchannel("A").tobytes() == image.getchannel("A").tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 3), (20, 30, 4), (1, 1, 3)])
def test_restore_returns_arrays_of_the_same_shape_and_type(mini_ticket, dtype, shape):
    largest = 1 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    image = (RNG.random(shape) * largest).astype(dtype)
    result = restore(image, mini_ticket, threads=1)
    assert (result.dtype, result.shape) == (dtype, shape)
    same = restore(image, mini_ticket, strength=0, threads=1)
    np.testing.assert_allclose(same.astype(float), image.astype(float), atol=1e-6)


def test_restore_is_the_network_of_the_ticket(mini_ticket):
    import torch

    from mirl.network.promptir import network_of

    image = RNG.random((17, 23, 3), dtype=np.float32)
    tensor = torch.from_numpy(as_pixels(image)[0]).permute(2, 0, 1)[None]
    expected = network_of(mini_ticket)(tensor)[0].permute(1, 2, 0).clamp(0, 1).numpy()
    np.testing.assert_allclose(restore(image, mini_ticket, threads=1), expected, atol=1e-5)


def test_restore_passes_strength_tile_and_backend_on(mini_ticket):
    image = RNG.random((70, 70, 3), dtype=np.float32)
    full = restore(image, mini_ticket, threads=1)
    half = restore(image, mini_ticket, strength=0.5, threads=1)
    np.testing.assert_allclose(half, (image + full) / 2, atol=1e-5)
    assert np.abs(restore(image, mini_ticket, tile=32, threads=1) - full).max() > 1e-6
    np.testing.assert_allclose(restore(image, mini_ticket, tile=0, threads=1), full, atol=1e-6)
    with pytest.raises(MirlError, match="unknown backend"):
        restore(image, mini_ticket, backend="none")
