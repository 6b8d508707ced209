import json
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mirl
from conftest import MINI, make_ticket
from mirl.errors import MirlError
from mirl.layers import parameters
from mirl.recipe import small, to_dict
from mirl.ticket import Ticket, describe_ticket, encode_ticket, load_ticket, read_ticket, write_ticket
from mirl.windows import Windows
from test_haze import make_head

CONTENT = encode_ticket(make_ticket())


def rebuilt(**changes: object) -> bytes:
    """A well-formed file around a header with other values."""
    _, version, head, _, _ = struct.unpack_from("<4sIIII", CONTENT)
    header = json.loads(zlib.decompress(CONTENT[20 : 20 + head])) | changes
    packed = zlib.compress(json.dumps(header).encode())
    body = packed + CONTENT[20 + head :]
    return struct.pack("<4sIIII", b"MIRL", version, len(packed), len(body) - len(packed), zlib.crc32(body)) + body


@settings(max_examples=20, deadline=None)
@given(st.floats(0, 1), st.integers(0, 1000))
def test_float32_comes_back_bit_for_bit(keep: float, seed: int):
    ticket = make_ticket(keep=keep, seed=seed)
    back = read_ticket(encode_ticket(ticket, "float32"))
    assert back.network == ticket.network
    assert back.provenance == ticket.provenance
    assert all(np.array_equal(back.weights[n], w) for n, w in ticket.weights.items())
    assert all(np.array_equal(back.masks[n], m) for n, m in ticket.masks.items())


def test_float16_rounds_prunable_weights_only_and_keeps_the_masks(mini_ticket: Ticket):
    back = read_ticket(encode_ticket(mini_ticket))
    for p in parameters(MINI):
        expected = mini_ticket.weights[p.name]
        if p.prunable:
            expected = expected.astype(np.float16).astype(np.float32)
        assert np.array_equal(back.weights[p.name], expected), p.name
    assert back.kept == mini_ticket.kept


def test_a_tensor_without_a_mask_is_dense(mini_ticket: Ticket):
    masks = {n: m for n, m in mini_ticket.masks.items() if n != "output.weight"}
    dense = replace(mini_ticket, masks=masks)
    assert "output.weight" not in read_ticket(encode_ticket(dense)).masks
    assert dense.kept == mini_ticket.kept + int((~mini_ticket.masks["output.weight"]).sum())


def test_a_sparse_ticket_is_small():
    ticket = make_ticket(small().network, keep=0.1)
    assert len(encode_ticket(ticket)) < 0.08 * 4 * ticket.total


def test_equal_tickets_give_equal_bytes(mini_ticket: Ticket):
    assert encode_ticket(mini_ticket) == encode_ticket(make_ticket())


WINDOWED = replace(make_ticket(), windows=Windows(64, 8), haze_head=make_head((4, 6), seed=3))


@pytest.mark.parametrize("values", ["float16", "float32"])
def test_windows_and_haze_head_come_back_the_head_in_float16(values):
    back = read_ticket(encode_ticket(WINDOWED, values))
    assert back.windows == WINDOWED.windows
    head, wanted = back.haze_head, WINDOWED.haze_head
    assert (head.widths, head.low, head.high) == (wanted.widths, wanted.low, wanted.high)
    for name, tensor in wanted.tensors.items():
        assert np.array_equal(head.tensors[name], tensor.astype(np.float16).astype(np.float32)), name
    assert encode_ticket(back, values) == encode_ticket(read_ticket(encode_ticket(back, values)), values)


def test_the_haze_head_counts_among_the_parameters():
    head, plain = WINDOWED.haze_head.size, make_ticket()
    assert (WINDOWED.total, WINDOWED.kept) == (plain.total + head, plain.kept + head)
    assert WINDOWED.density == WINDOWED.kept / WINDOWED.total


def as_version_1(content: bytes) -> bytes:
    """What the writer of version 1 made of the same ticket."""
    _, _, head, _, _ = struct.unpack_from("<4sIIII", content)
    header = json.loads(zlib.decompress(content[20 : 20 + head]))
    for name in ("window", "overlap", "haze_head", "head_block"):
        header.pop(name)
    packed = zlib.compress(json.dumps(header, sort_keys=True).encode(), 9)
    body = packed + content[20 + head :]
    return struct.pack("<4sIIII", b"MIRL", 1, len(packed), len(body) - len(packed), zlib.crc32(body)) + body


def test_a_file_of_version_1_is_read_with_the_whole_image_and_no_head(mini_ticket: Ticket):
    back, now = read_ticket(as_version_1(CONTENT)), read_ticket(CONTENT)
    assert (back.windows, back.haze_head) == (Windows(0, 0), None)
    assert encode_ticket(back) == encode_ticket(now)
    photo = np.random.default_rng(0).random((40, 50, 3), dtype=np.float32)
    new = replace(now, windows=Windows(32, 4))
    assert np.array_equal(mirl.restore(photo, back, threads=1), mirl.restore(photo, new, window=0, threads=1))


def test_density_counts_over_all_parameters(mini_ticket: Ticket):
    unpruned = sum(p.size for p in parameters(MINI) if not p.prunable)
    kept = unpruned + sum(int(m.sum()) for m in mini_ticket.masks.values())
    assert mini_ticket.density == kept / sum(p.size for p in parameters(MINI))


def test_inspect_counts_by_macs(mini_ticket: Ticket):
    figures = describe_ticket(mini_ticket, 1234)
    weigh = {p.name: p.uses_per_pixel for p in parameters(MINI)}
    kept = sum(weigh[n] * m.sum() for n, m in mini_ticket.masks.items())
    assert figures["density_macs"] == pytest.approx(kept / sum(weigh[p.name] * p.size for p in parameters(MINI)))
    assert figures["bytes"] == 1234
    assert figures["nonzero"] <= round(figures["density"] * figures["parameters"])


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_change_of_a_byte_is_one_clear_error(data: st.DataObject):
    position = data.draw(st.integers(0, len(CONTENT) - 1))
    value = data.draw(st.integers(1, 255))
    altered = bytearray(CONTENT)
    altered[position] ^= value
    with pytest.raises(MirlError, match=r"ticket: .*(not a ticket|version|altered|truncated)"):
        read_ticket(bytes(altered))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(CONTENT) - 1))
def test_any_truncation_is_one_clear_error(length: int):
    with pytest.raises(MirlError, match=r"not a ticket|truncated"):
        read_ticket(CONTENT[:length])


HUGE = to_dict(replace(MINI, width=4096, prompt_widths=(4096,) * 3, prompt_sizes=(512,) * 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": HUGE}, "are allowed"),
        ({"network": {"width": 10**30}}, "between"),
        ({"network": {"depth": 3}}, "unknown field"),
        ({"network": to_dict(small().network)}, "does not hold the"),
        ({"masked": ["embed.norm"]}, "no prunable tensor"),
        ({"masked": [1]}, "names"),
        ({"masked": ["embed.weight"]}, "does not hold|header says"),
        ({"kept_half": 3}, "header says"),
        ({"mask_block": -1}, "not negative"),
        ({"mask_block": 10**12}, "inflated|does not hold"),
        ({"values": "float8"}, "float16 or float32"),
        ({"values": None}, "must be str"),
        ({"extra": 1}, "exactly"),
        ({"window": 7}, "window must be 0"),
        ({"window": 64, "overlap": 33}, "overlap must lie"),
        ({"window": True}, "must be int"),
        ({"head_block": -1}, "not negative"),
        ({"head_block": 10}, "does not hold|says nothing of one"),
        ({"haze_head": {}}, "exactly widths"),
        ({"haze_head": {"widths": 3, "low": 0.1, "high": 0.9}}, "list of widths"),
        ({"haze_head": {"widths": [10**9], "low": 0.1, "high": 0.9}}, "channels"),
        ({"haze_head": {"widths": [4], "low": 0.9, "high": 0.1}}, "inflated|does not hold"),
    ],
)
def test_a_hostile_header_is_refused_before_memory_is_taken(changes: dict, message: str):
    with pytest.raises(MirlError, match=message):
        read_ticket(rebuilt(**changes))


def test_a_bomb_is_refused_before_it_unfolds():
    packed = zlib.compress(bytes(1 << 27))
    body = packed
    content = struct.pack("<4sIIII", b"MIRL", 1, len(packed), 0, zlib.crc32(body)) + body
    with pytest.raises(MirlError, match="does not hold"):
        read_ticket(content)


def test_a_foreign_file_a_missing_one_and_an_unknown_name_are_named(tmp_path: Path):
    foreign = tmp_path / "photo.mirl"
    foreign.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(MirlError, match=r"photo\.mirl: not a ticket"):
        load_ticket(foreign)
    with pytest.raises(MirlError, match=r"cannot read the ticket .*none\.mirl"):
        read_ticket(tmp_path / "none.mirl")
    with pytest.raises(MirlError, match=r"no ticket 'huge'.*shipped"):
        load_ticket("huge")


def test_a_ticket_must_fit_its_network(mini_ticket: Ticket):
    with pytest.raises(MirlError, match="differ from the network"):
        replace(mini_ticket, weights={})
    weights = dict(mini_ticket.weights)
    weights["embed.weight"] = weights["embed.weight"][:2]
    with pytest.raises(MirlError, match=r"embed\.weight is"):
        replace(mini_ticket, weights=weights)
    weights["embed.weight"] = np.ones_like(mini_ticket.weights["embed.weight"])
    with pytest.raises(MirlError, match=r"embed\.weight has values other than zero"):
        replace(mini_ticket, weights=weights)
    with pytest.raises(MirlError, match="no prunable tensor"):
        replace(mini_ticket, masks={"latent.0.norm1.bias": np.ones(32, bool)})


def test_a_weight_too_large_for_float16_is_not_silently_lost(mini_ticket: Ticket, tmp_path: Path):
    weights = {n: w.copy() for n, w in mini_ticket.weights.items()}
    weights["embed.weight"][mini_ticket.masks["embed.weight"]] = 1e6
    large = replace(mini_ticket, weights=weights)
    with pytest.raises(MirlError, match="float32"):
        write_ticket(large, tmp_path / "t.mirl")
    assert not list(tmp_path.iterdir())
    write_ticket(large, tmp_path / "t.mirl", "float32")
    assert float(read_ticket(tmp_path / "t.mirl").weights["embed.weight"].max()) == 1e6
