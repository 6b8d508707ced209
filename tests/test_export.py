"""Export: one ONNX file for any batch and size, checked before it is written; safetensors and back."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from conftest import MINI, make_ticket
from mirl.cli import main
from mirl.engine import onnx_export
from mirl.engine.onnx_export import check_parity, export_onnx
from mirl.engine.onnx_graph import batched_model
from mirl.engine.torch import TorchBackend
from mirl.errors import MirlError
from mirl.layers import parameters
from mirl.network.checkpoint import import_checkpoint
from mirl.recipe import to_dict
from mirl.ticket import Ticket, encode_ticket, write_ticket
from mirl.ticket_tensors import read_tensors, write_tensors
from mirl.windows import Windows
from test_haze import make_head

TICKET = make_ticket(keep=0.5)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "t.onnx"
    assert export_onnx(TICKET, path) < 1e-4
    return path


@pytest.fixture(scope="module")
def session(exported: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(exported), providers=["CPUExecutionProvider"])


def test_it_is_one_valid_file_with_open_axes_and_the_tickets_facts(exported: Path):
    assert [path.name for path in exported.parent.iterdir()] == ["t.onnx"]
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    for value in (*model.graph.input, *model.graph.output):
        axes = value.type.tensor_type.shape.dim
        assert [axis.dim_param or axis.dim_value for axis in axes] == ["batch", 3, "height", "width"]
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["network"] == json.loads(json.dumps(to_dict(MINI)))
    assert facts["density"] == TICKET.density
    assert facts["provenance"] == TICKET.provenance
    assert (facts["restoring"]["window"], facts["restoring"]["haze_head"]) == (0, None)


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
def test_every_batch_and_size_gives_what_the_network_gives(session, batch: int, height: int, width: int):
    images = np.random.default_rng(0).random((batch, 3, height, width), dtype=np.float32)
    restored = session.run(None, {"image": images})[0]
    backend = TorchBackend(TICKET, 1)
    wanted = np.stack([backend.forward(np.ascontiguousarray(image.transpose(1, 2, 0))) for image in images])
    np.testing.assert_allclose(restored.transpose(0, 2, 3, 1), wanted, atol=1e-4)


def test_pruned_weights_are_zero_in_the_file(exported: Path):
    zeros = sum(int((onnx.numpy_helper.to_array(c) == 0).sum()) for c in onnx.load(exported).graph.initializer if c.dims)
    assert zeros >= sum(int((~mask).sum()) for mask in TICKET.masks.values())


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    other = replace(TICKET, weights={n: w * np.float32(1.01) for n, w in TICKET.weights.items()})
    with pytest.raises(MirlError, match="differs from the ticket's by"):
        check_parity(TICKET, batched_model(other).SerializeToString())
    monkeypatch.setattr(onnx_export, "described_model", lambda ticket: batched_model(other))
    with pytest.raises(MirlError, match="nothing was written"):
        export_onnx(TICKET, tmp_path / "t.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_does_not_run_or_gives_no_number_fails_the_check():
    with pytest.raises(MirlError, match="does not run in ONNX Runtime"):
        check_parity(TICKET, b"no model")
    huge = replace(TICKET, weights=TICKET.weights | {"output.weight": np.full((3, 8, 3, 3), 3e38, np.float32)}, masks={})
    with pytest.raises(MirlError, match="differs"):
        check_parity(huge, batched_model(huge).SerializeToString())
    fixed = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Slice", ["image", "zero", "one"], ["restored"])],
            "cut",
            [onnx.helper.make_tensor_value_info("image", 1, ["b", 3, "h", "w"])],
            [onnx.helper.make_tensor_value_info("restored", 1, ["b", 3, "h", "w"])],
            [onnx.numpy_helper.from_array(np.array([v], np.int64), n) for n, v in (("zero", 0), ("one", 1))],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 20)],
        ir_version=10,
    )
    with pytest.raises(MirlError, match="gives"):
        check_parity(TICKET, fixed.SerializeToString())


def test_without_torch_the_native_engine_is_the_reference(monkeypatch: pytest.MonkeyPatch):
    opened = []

    def open_backend(ticket: Ticket, name: str) -> object:
        opened.append(name)
        if name == "torch":
            raise MirlError("not installed")
        return TorchBackend(ticket, 1)

    monkeypatch.setattr(onnx_export, "open_backend", open_backend)
    check_parity(TICKET, batched_model(TICKET).SerializeToString())
    assert set(opened) == {"torch", "native"}


# safetensors


@pytest.mark.parametrize("keep", [0.0, 0.3, 1.0])
def test_safetensors_come_back_as_the_same_ticket(keep: float, tmp_path: Path):
    ticket = make_ticket(keep=keep)
    dense = {n: m for n, m in ticket.masks.items() if n != "output.weight"}
    for written in (ticket, replace(ticket, masks=dense)):
        write_tensors(written, tmp_path / "t.safetensors")
        for back in (read_tensors(tmp_path / "t.safetensors"), import_checkpoint(tmp_path / "t.safetensors").ticket):
            assert back is not None
            assert (back.network, back.provenance) == (written.network, written.provenance)
            assert set(back.masks) == set(written.masks)
            assert all(np.array_equal(back.masks[n], m) for n, m in written.masks.items())
            assert all(np.array_equal(back.weights[n], w) for n, w in written.weights.items())


def test_safetensors_hold_every_tensor_dense_with_exact_zeros(tmp_path: Path):
    write_tensors(TICKET, tmp_path / "t.safetensors")
    tensors = load_file(tmp_path / "t.safetensors")
    assert {n: t.shape for n, t in tensors.items()} == {p.name: p.shape for p in parameters(MINI)}
    assert all(np.all(tensors[n][~mask] == 0) for n, mask in TICKET.masks.items())
    write_tensors(TICKET, tmp_path / "again.safetensors")
    assert (tmp_path / "t.safetensors").read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def altered(tmp_path: Path, tensors: dict[str, np.ndarray] | None = None, **changes: object) -> str:
    """The error of importing a well-formed file with other metadata or tensors."""
    source, path = tmp_path / "t.safetensors", tmp_path / "altered.safetensors"
    write_tensors(TICKET, source)
    with safe_open(source, "numpy") as file:
        entry = json.loads(file.metadata()["mirl"]) | changes
    save_file(load_file(source) | (tensors or {}), path, {"mirl": json.dumps(entry)})
    with pytest.raises(MirlError) as caught:
        import_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message


def test_windows_and_haze_head_go_along(tmp_path: Path):
    from mirl.engine.onnx_export import restoring_recipe
    from mirl.haze_head import head_shapes

    ticket = replace(TICKET, windows=Windows(64, 8), haze_head=make_head())
    write_tensors(ticket, tmp_path / "t.safetensors")
    back = import_checkpoint(tmp_path / "t.safetensors").ticket
    assert (back.windows, encode_ticket(back, "float32")) == (ticket.windows, encode_ticket(ticket, "float32"))
    for name, tensor in make_head().tensors.items():
        assert np.array_equal(back.haze_head.tensors[name], tensor)
    recipe = restoring_recipe(ticket)
    assert (recipe["window"], recipe["overlap"], recipe["tone"]["block"]) == (64, 8, 8)
    values = np.frombuffer(base64.b64decode(recipe["haze_head"]["values"]), "<f2")
    expected = np.concatenate([make_head().tensors[name].reshape(-1) for name in head_shapes(make_head().widths)])
    assert np.array_equal(values, expected.astype(np.float16))


def test_an_altered_file_is_one_clear_error(tmp_path: Path):
    masks = dict.fromkeys(TICKET.masks, "AAAA")
    assert "version 3, expected 1 or 2" in altered(tmp_path, version=3)
    assert "unknown field" in altered(tmp_path, network={"depth": 3})
    assert "must hold version" in altered(tmp_path, masks=[])
    assert "has 3 bytes, expected" in altered(tmp_path, masks=masks)
    assert "must hold version" in altered(tmp_path, window=True)
    assert "window must be 0" in altered(tmp_path, window=7)
    assert "expected exactly widths" in altered(tmp_path, haze_head={})
    assert "are not those of widths" in altered(tmp_path, haze_head={"widths": [4], "low": 0.1, "high": 0.9})
    assert "not base64" in altered(tmp_path, masks={"output.weight": "!"})
    assert "not base64" in altered(tmp_path, masks={"output.weight": 3})
    assert "no tensor of its network" in altered(tmp_path, masks={"x": "AAAA"})
    assert "no prunable tensor" in altered(tmp_path, masks={"prompt1.select.bias": "Aw=="})
    assert "other than zero" in altered(tmp_path, {"embed.weight": np.ones((4, 3, 3, 3), np.float32)})
    assert "not finite" in altered(tmp_path, {"embed.weight": np.full((4, 3, 3, 3), np.nan, np.float32)})
    assert "expected float32" in altered(tmp_path, {"embed.weight": np.zeros((4, 3, 3, 3), np.float64)})
    assert "expected float32" in altered(tmp_path, {"embed.weight": np.zeros((4, 3), np.float32)})
    assert "such as more" in altered(tmp_path, {"more": np.zeros(3, np.float32)})
    save_file({"x": np.zeros(3, np.float32)}, tmp_path / "json.safetensors", {"mirl": "{"})
    with pytest.raises(MirlError, match="not JSON"):
        import_checkpoint(tmp_path / "json.safetensors")


def test_what_cannot_be_written_is_refused(tmp_path: Path):
    bad = replace(TICKET, weights=TICKET.weights | {"prompt1.select.bias": np.full(2, np.nan, np.float32)})
    with pytest.raises(MirlError, match=r"prompt1.select.bias has values that are not finite"):
        write_tensors(bad, tmp_path / "t.safetensors")
    with pytest.raises(MirlError, match="plain JSON"):
        write_tensors(replace(TICKET, provenance={"x": object()}), tmp_path / "t.safetensors")
    with pytest.raises(MirlError, match="cannot write"):
        write_tensors(TICKET, tmp_path / "none" / "t.safetensors")
    with pytest.raises(MirlError, match="cannot write"):
        export_onnx(TICKET, tmp_path / "none" / "t.onnx")


# the commands


def test_a_ticket_goes_out_and_comes_back_by_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ticket, tensors, back, graph = (tmp_path / name for name in ("t.mirl", "t.safetensors", "back.mirl", "t.onnx"))
    write_ticket(TICKET, ticket, "float32")
    assert main(["export", str(ticket), "--format", "safetensors", "-o", str(tensors)]) == 0
    assert main(["import", str(tensors), "-o", str(back)]) == 0
    assert back.read_bytes() == ticket.read_bytes()
    assert main(["import", str(tensors), "-o", str(back), "--values", "float16"]) == 0
    assert back.read_bytes() == encode_ticket(TICKET, "float16")
    assert f"{TICKET.kept:,} of {TICKET.total:,} parameters kept" in capsys.readouterr().out
    assert main(["export", str(ticket), "--format", "onnx", "-o", str(graph)]) == 0
    assert "largest difference to the ticket" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(str(graph)).get_inputs()[0].shape == ["batch", 3, "height", "width"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["import", "none.ckpt", "-o", "t.mirl"], "none.ckpt: no such file"),
        (["import", "none.ckpt", "-o", "t.pth"], "a ticket is a .mirl file, found t.pth; name it t.mirl"),
        (["export", "none.mirl", "--format", "onnx", "-o", "t.onnx"], "no ticket 'none.mirl'"),
        (
            ["export", "small", "--format", "onnx", "-o", "a/t.safetensors"],
            "is a .onnx file, found a/t.safetensors; name it t.onnx",
        ),
        (
            ["export", "small", "--format", "safetensors", "-o", "t"],
            "is a .safetensors file, found t; name it t.safetensors",
        ),
    ],
)
def test_a_bad_command_is_one_line(words: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    assert main(words) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("format", ["onnx", "safetensors"])
def test_an_export_never_replaces_its_ticket(format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    ticket = tmp_path / "t.mirl"
    write_ticket(TICKET, ticket)
    before = ticket.read_bytes()
    assert main(["export", str(ticket), "--format", format, "-o", str(ticket)]) == 1
    assert f"name it t.{format}" in capsys.readouterr().err
    assert ticket.read_bytes() == before


def test_without_onnx_it_says_what_to_install(tmp_path: Path):
    code = "import sys; sys.modules['onnx'] = None\nfrom mirl.cli import main\nsys.exit(main(sys.argv[1:]))"
    words = ["export", "small", "--format", "onnx", "-o", str(tmp_path / "t.onnx")]
    result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert result.returncode == 1
    assert "pip install 'mirl[onnx]'" in result.stderr
