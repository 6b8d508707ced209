"""The browser's reader of tickets, run by node: equal to Python's, and nothing but errors for what is no ticket."""

import json
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from conftest import MINI, make_ticket
from mirl.errors import MirlError
from mirl.haze_head import head_shapes
from mirl.layers import parameters
from mirl.ticket import Ticket, encode_ticket, read_ticket
from test_ticket_fuzz import GIANT, claiming, taken_apart
from wasm_jobs import full_ticket, run, stored


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
    assert (told["windows"], told["head"]) == ({"size": 0, "overlap": 0}, None)
    weights = np.concatenate([ticket.weights[p.name].reshape(-1) for p in listed])
    assert np.array_equal(np.fromfile(tmp_path / "w", np.float32), weights)


def test_reader_gives_windows_and_haze_head(tmp_path):
    ticket, path = stored(full_ticket(), tmp_path)
    (answer,) = run([{"action": "unfold", "ticket": path, "out": tmp_path / "w"}], tmp_path)
    told, head = answer["value"], ticket.haze_head
    assert head
    assert told["windows"] == {"size": 40, "overlap": 7}
    values = np.concatenate([head.tensors[name].reshape(-1) for name in head_shapes(head.widths)])
    assert told["head"] == [list(head.widths), head.low, head.high, values.tolist()]
    assert (told["kept"], told["total"]) == (ticket.kept, ticket.total)


def test_reader_takes_pruned_layer_norms(tmp_path):
    ticket, name = make_ticket(), "latent.0.norm1.weight"
    mask = np.arange(ticket.weights[name].size) % 3 > 0
    weights = ticket.weights | {name: np.where(mask, ticket.weights[name], np.float32(0))}
    ticket, path = stored(Ticket(ticket.network, weights, ticket.masks | {name: mask}), tmp_path)
    (answer,) = run([{"action": "unfold", "ticket": path, "out": tmp_path / "w"}], tmp_path)
    assert answer["value"]["kept"] == ticket.kept
    expected = np.concatenate([ticket.weights[p.name].reshape(-1) for p in parameters(ticket.network)])
    assert np.array_equal(np.fromfile(tmp_path / "w", np.float32), expected)


def parts(content: bytes) -> tuple[dict[str, Any], bytes, bytes, bytes]:
    """Split a ticket into header, masks, values and the values of its haze head, all inflated."""
    split = taken_apart(content)
    return split.header, split.mask, split.values, split.head


def joined(
    header: Any, masks: bytes, values: bytes, hazy: bytes = b"", tail: bytes = b"", level: int = 9, version: int = 2
) -> bytes:
    """Make a ticket with a true checksum of whatever is given; `tail` follows the masks within their block."""
    blocks = [zlib.compress(masks, level) + tail, zlib.compress(values, level), zlib.compress(hazy, level) if hazy else b""]
    if isinstance(header, dict):
        sizes = {"mask_block": len(blocks[0]), "head_block": len(blocks[2])}
        header = header | {name: size for name, size in sizes.items() if header.get(name) == "fits"}
    head = zlib.compress(header if isinstance(header, bytes) else json.dumps(header).encode())
    body = b"".join([head, *blocks])
    return struct.pack("<4sIIII", b"MIRL", version, len(head), len(body) - len(head), zlib.crc32(body)) + body


def test_damaged_and_hostile_tickets_give_errors_in_both_readers(tmp_path):
    good = encode_ticket(full_ticket())
    header, masks, values, hazy = parts(good)
    header |= {"mask_block": "fits", "head_block": "fits"}
    told = header["haze_head"]
    network = header["network"]
    deep = {"width": 4096, "blocks": [4096] * 4, "expansion": 16}
    nested: Any = []
    for _ in range(40):
        nested = [nested]
    many = {"width": 2, "heads": [1, 1, 1, 1], "blocks": [200, 200, 200, 200]}
    sizes = {"mask_block": len(zlib.compress(masks, 9)), "head_block": len(zlib.compress(hazy, 9))}
    in_words = json.dumps(header | sizes | {"provenance": {"x": "HERE"}})
    hostile: list[Any] = [
        *(in_words.replace('"HERE"', text).encode() for text in ("1e999", '"\\ud800"', '{"\\udfff": 1}')),
        header | {"provenance": {"x": nested}}, header | {"network": network | many},
        header | {"provenance": {"x": "y" * (1 << 20)}},
        b"not JSON", b"[]", b"null", b"{}", b"\xff\xfe\x00", b" " * ((1 << 24) + 1), b"[" * 100_000,
        header | {"extra": 1}, {k: v for k, v in header.items() if k != "provenance"},
        header | {"masked": "embed"}, header | {"masked": [1]}, header | {"masked": ["embed"]},
        header | {"masked": [*header["masked"], "encoder1.0.norm1.weight"]}, header | {"masked": []},
        header | {"masked": ["__proto__"]}, header | {"values": "float64"}, header | {"values": None},
        *(header | {name: value} for name in sizes for value in (-1, 0, 10**12, 1.5, True, None)),
        *(header | {"window": value} for value in (-1, 1, 12, 31, 36, 65544, 10**12, 64.5, "64", True, None)),
        *(header | {"overlap": value} for value in (-1, 21, 7.5, None)), header | {"window": 0},
        *(header | {"haze_head": value} for value in (None, [], 5, "x", {}, told | {"odd": 1}, told | {"low": None})),
        *(header | {"haze_head": told | {"widths": value}} for value in (
            [], [6, 9], [6, 9, 8], [6, 9, 0], [6, 9, 65], [6, 9, 7.5], [6, 9, True], [6] * 7, 6, "697", [[6], 9, 7], None)),
        *(header | {"haze_head": told | {"low": low, "high": high}} for low, high in (
            (0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), ("0", 1), (True, 1), (0, True))),
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
    nan_head = bytearray(hazy)
    nan_head[len(hazy) // 2] = 0x7C
    contents = [joined(head, masks, values, hazy) for head in hostile]
    contents += [
        joined(header, masks[:-1], values, hazy), joined(header, masks + b"\0", values, hazy),
        joined(header, bytes(len(masks)), values, hazy), joined(header, masks, values[:-1], hazy),
        joined(header, masks, values + bytes(50_000_000), hazy), joined(header, masks, b"", hazy),
        joined(header, masks, values, hazy, tail=b"\0\0"), joined(header, masks, values),
        joined(header, masks, values, hazy[:-1]), joined(header, masks, values, hazy + bytes(50_000_000)),
        joined(header, masks, bytes(nan_half), hazy), joined(header, masks, bytes(nan_full), hazy),
        joined(header, masks, values, bytes(nan_head)), joined(header, masks, values, hazy, version=1),
        b"", b"MIRL", good[:19], good[:20], b"mirl" + good[4:], good[:4] + b"\1" + good[5:], good[:4] + b"\3" + good[5:],
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
    header, masks, values, hazy = parts(encode_ticket(full_ticket(0.5)))
    header |= {"mask_block": "fits", "head_block": "fits"}
    whole = header["haze_head"] | {"low": 0, "high": 1}  # as integers
    changes: list[Callable[[], bytes]] = [
        lambda: joined(header, masks, values, hazy, level=0),  # stored, not deflated
        lambda: joined(header | {"masked": header["masked"] * 2}, masks, values, hazy),
        lambda: joined(header | {"window": 65536, "overlap": 32768, "haze_head": whole}, masks, values, hazy),
        lambda: joined(header | {"window": 0, "overlap": 0, "haze_head": None}, masks, values),
    ]
    jobs = []
    for number, change in enumerate(changes):
        (tmp_path / f"{number}.mirl").write_bytes(change())
        jobs.append({"action": "unfold", "ticket": tmp_path / f"{number}.mirl", "out": tmp_path / f"{number}.out"})
    for job, answer in zip(jobs, run(jobs, tmp_path), strict=True):
        ticket = read_ticket(job["ticket"])
        assert answer["value"]["kept"] == ticket.kept
