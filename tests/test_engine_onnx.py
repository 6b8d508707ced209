"""The dense ONNX backend: the network without torch, any size, statistics shared between tiles."""

import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest

from conftest import MINI, make_ticket
from mirl.engine.onnx import OnnxBackend, reflect_up
from mirl.engine.onnx_graph import onnx_model
from mirl.engine.tiles import cut_tiles, map_tiles
from mirl.engine.torch import TorchBackend
from mirl.errors import MirlError
from mirl.layers import parameters


@pytest.mark.parametrize("statistics", ["own", "sum", "use"])
def test_the_graph_is_valid_onnx(mini_ticket, statistics):
    model = onnx_model(mini_ticket, statistics)
    onnx.checker.check_model(model, full_check=True)
    blocks = sum(p.kind == "temperature" for p in parameters(MINI))
    shared = 2 * blocks + 3
    assert len(model.graph.input) == 1 + (shared if statistics == "use" else 0)
    assert len(model.graph.output) == 1 + (shared if statistics == "sum" else 0)


@pytest.mark.parametrize("size", [(1, 1), (7, 3), (8, 8), (17, 23), (33, 50)])
@pytest.mark.parametrize("keep", [1.0, 0.2])
def test_it_equals_the_torch_network_at_any_size(size, keep):
    ticket = make_ticket(keep=keep)
    pixels = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
    before = pixels.copy()
    restored = OnnxBackend(ticket, 1).forward(pixels)
    assert (restored.shape, restored.dtype) == (pixels.shape, np.float32)
    np.testing.assert_allclose(restored, TorchBackend(ticket, 1).forward(pixels), atol=1e-4)
    np.testing.assert_array_equal(pixels, before)


def test_tiles_share_statistics_as_those_of_torch_do():
    ticket = make_ticket(keep=0.5)
    pixels = np.random.default_rng(0).random((48, 64, 3), dtype=np.float32)
    results = []
    for backend in (OnnxBackend(ticket, 1), TorchBackend(ticket, 1)):
        told: list[int] = []
        with backend.shared_statistics(cut_tiles(pixels, (32, 32), 8), told.append):
            results.append(map_tiles(backend.forward, pixels, (32, 32), 8))
        assert told == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(results[0], results[1], atol=1e-4)


def test_sharing_the_statistics_of_the_image_itself_changes_nothing(mini_ticket):
    backend = OnnxBackend(mini_ticket, 1)
    pixels = np.random.default_rng(0).random((24, 32, 3), dtype=np.float32)
    alone = backend.forward(pixels)
    with backend.shared_statistics([pixels], lambda done: None):
        np.testing.assert_allclose(backend.forward(pixels), alone, atol=1e-6)
    np.testing.assert_array_equal(backend.forward(pixels), alone)


def test_running_out_of_memory_says_to_use_tiles(mini_ticket, monkeypatch):
    class Exhausted:
        def run(self, *_):
            raise RuntimeError("Failed to allocate memory for requested buffer of size 99")

    backend = OnnxBackend(mini_ticket, 1)
    monkeypatch.setattr(backend, "_session", lambda kind: Exhausted())
    with pytest.raises(MirlError, match="not enough memory for 9x8 pixels at once; use a smaller --tile"):
        backend.forward(np.zeros((8, 9, 3), np.float32))


def test_padding_reflects_small_images_repeatedly():
    row = np.arange(3, dtype=np.float32)[None, :, None].repeat(3, axis=2)
    assert reflect_up(row)[0, :, 0].tolist() == [0, 1, 2, 1, 0, 1, 2, 1]
    assert reflect_up(row).shape == (8, 8, 3)


def test_it_never_imports_torch():
    code = "import sys, numpy as np\nfrom mirl.engine.onnx import OnnxBackend\nassert 'torch' not in sys.modules\n"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_graph_of_every_runtime_is_the_same_network(runtime):
    ticket = make_ticket(keep=1.0)
    pixels = np.random.default_rng(0).random((24, 40, 3), dtype=np.float32)
    model = onnx_model(ticket, runtime=runtime)
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    restored = session.run(None, {"image": np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})[0]
    np.testing.assert_allclose(restored[0].transpose(1, 2, 0), TorchBackend(ticket, 1).forward(pixels), atol=1e-5)


def test_bright_flat_pixels_leave_no_negative_variance():
    ticket = make_ticket(keep=1.0)
    ticket.weights["embed.weight"][...] = 300.0
    pixels = np.full((16, 16, 3), 0.999, np.float32)
    for backend in (OnnxBackend(ticket, 1), TorchBackend(ticket, 1)):
        assert np.isfinite(backend.forward(pixels)).all()
