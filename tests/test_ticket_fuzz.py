"""Hostile tickets: whatever the bytes, reading them gives a whole ticket or one clear error, in little memory.

Checksums and lengths are repaired, so that what is wrong reaches the layer it is meant for.
"""

import json
import struct
import tracemalloc
import zlib
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import MINI, make_ticket
from mirl.errors import MirlError
from mirl.layers import parameters
from mirl.recipe import NetworkConfig, to_dict
from mirl.ticket import encode_ticket, read_ticket
from test_haze import make_head

MEGABYTE = 1 << 20
HOSTILE = (
    -1, 0, 1, 2, 7, 4095, 4096, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**64, 10**30, -(2**63),
    0.5, 1e-300, 1e308, float("inf"), float("nan"), True, None, "", "1", [], [1], {}, {"a": 1}, "\ud800",
)  # fmt: skip


@dataclass(frozen=True)
class Parts:
    """A ticket's file, unfolded."""

    header: dict[str, Any]
    mask: bytes
    values: bytes
    head: bytes = b""

    def file(self) -> bytes:
        return packed(json.dumps(self.header).encode(), self.mask, self.values, self.head)


def packed(header: bytes, mask: bytes, values: bytes, head: bytes = b"") -> bytes:
    return framed(*map(zlib.compress, (header, mask, values)), zlib.compress(head) if head else b"")


def framed(head: bytes, mask: bytes, values: bytes, haze_head: bytes = b"") -> bytes:
    """Put deflated blocks together with lengths and checksum that are right; only the blocks' sizes stay what they were."""
    body = head + mask + values + haze_head
    return struct.pack("<4sIIII", b"MIRL", 2, len(head), len(body) - len(head), zlib.crc32(body)) + body


def taken_apart(content: bytes) -> Parts:
    _, _, head, _, _ = struct.unpack_from("<4sIIII", content)
    header, blocks = json.loads(zlib.decompress(content[20 : 20 + head])), content[20 + head :]
    mask = zlib.decompress(blocks[: header["mask_block"]])
    end = len(blocks) - header["head_block"]
    head = zlib.decompress(blocks[end:]) if header["head_block"] else b""
    return Parts(header, mask, zlib.decompress(blocks[header["mask_block"] : end]), head)


def resized(parts: Parts) -> Parts:
    """Repair `mask_block` and `head_block`."""
    sizes = {"mask_block": len(zlib.compress(parts.mask)), "head_block": len(zlib.compress(parts.head)) if parts.head else 0}
    return replace(parts, header=parts.header | sizes)


PARTS = resized(taken_apart(encode_ticket(make_ticket(), "float16")))
FULL = resized(taken_apart(encode_ticket(replace(make_ticket(), haze_head=make_head()), "float32")))


def outcome(content: bytes) -> str:
    """Read; a refusal must be one line, and what is accepted a whole ticket that comes back when it is written."""
    told = ""
    try:
        ticket = read_ticket(content)
    except MirlError as error:
        told = str(error)
    else:
        again = read_ticket(encode_ticket(ticket, "float32"))
        assert (again.network, again.provenance) == (ticket.network, ticket.provenance)
        assert all(np.array_equal(again.weights[name], weight) for name, weight in ticket.weights.items())
        json.dumps([ticket.provenance, ticket.tasks], allow_nan=False, ensure_ascii=False).encode()
    assert "\n" not in told
    return told


def refused(content: bytes) -> str:
    told = outcome(content)
    assert told
    return told


def peak_of(content: bytes) -> int:
    """Most bytes that reading takes at a time."""
    tracemalloc.start()
    try:
        with suppress(MirlError):
            read_ticket(content)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def flipped(data: bytes, place: float, bit: int) -> bytes:
    altered = bytearray(data)
    altered[int(place * (len(data) - 1))] ^= 1 << bit
    return bytes(altered)


def test_the_parts_put_together_are_the_ticket():
    for parts in (PARTS, FULL):
        assert not outcome(parts.file())
    assert len(FULL.head) == 2 * make_head().size


# bits and lengths, layer by layer

layers = st.sampled_from(("header", "mask", "values"))
places = st.floats(0, 1)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from((PARTS, FULL)),
    st.sampled_from(("header", "mask", "values", "head")),
    st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=3),
    st.booleans(),
)
def test_flipped_bits_in_any_layer_are_an_error_or_another_ticket(parts, layer, flips, deflated):
    blocks = {"header": json.dumps(parts.header).encode(), "mask": parts.mask, "values": parts.values}
    if parts.head:
        blocks["head"] = parts.head
    layer = "values" if layer == "head" and not parts.head else layer
    folded = {name: zlib.compress(data) for name, data in blocks.items()}
    for place, bit in flips:
        if deflated:
            folded[layer] = flipped(folded[layer], place, bit)
        else:
            blocks[layer] = flipped(blocks[layer], place, bit)
            folded[layer] = zlib.compress(blocks[layer])
    outcome(framed(folded["header"], folded["mask"], folded["values"], folded.get("head", b"")))


@settings(max_examples=150, deadline=None)
@given(layers, places, st.booleans())
def test_a_layer_that_ends_early_is_an_error(layer, place, deflated):
    blocks = {"header": json.dumps(PARTS.header).encode(), "mask": PARTS.mask, "values": PARTS.values}
    folded = {name: zlib.compress(data) for name, data in blocks.items()}
    data = folded[layer] if deflated else blocks[layer]
    cut = data[: int(place * (len(data) - 1))]
    folded[layer] = cut if deflated else zlib.compress(cut)
    refused(framed(folded["header"], folded["mask"], folded["values"]))


@pytest.mark.parametrize("layer", ["header", "mask", "values"])
@pytest.mark.parametrize(
    "extra", [b"\0", b"junk", zlib.compress(b"more"), bytes(1000)], ids=("zero", "junk", "stream", "zeros")
)
def test_a_layer_that_goes_on_is_an_error(layer, extra):
    blocks = {"header": json.dumps(PARTS.header).encode(), "mask": PARTS.mask, "values": PARTS.values}
    folded = {name: zlib.compress(data) for name, data in blocks.items()}
    if layer != "header":  # spaces after JSON are no harm
        refused(framed(*(zlib.compress(data + extra * (name == layer)) for name, data in blocks.items())))
    refused(framed(*(data + extra * (name == layer) for name, data in folded.items())))


@pytest.mark.parametrize("wbits", [-15, 31], ids=("raw", "gzip"))
def test_other_ways_to_deflate_are_refused(wbits):
    def folded(data: bytes) -> bytes:
        encoder = zlib.compressobj(9, zlib.DEFLATED, wbits)
        return encoder.compress(data) + encoder.flush()

    header = json.dumps(PARTS.header).encode()
    refused(framed(folded(header), zlib.compress(PARTS.mask), zlib.compress(PARTS.values)))
    refused(framed(zlib.compress(header), zlib.compress(PARTS.mask), folded(PARTS.values)))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_rubbish_behind_a_right_prefix_is_an_error(header, mask, values):
    refused(framed(header, mask, values))
    refused(packed(header, mask, values))
    refused(framed(zlib.compress(json.dumps(PARTS.header).encode()), mask, values))


# every field of prefix and header


@pytest.mark.parametrize("field", range(1, 5))
@pytest.mark.parametrize("value", [0, 1, 19, 2**31, 2**32 - 1])
def test_a_hostile_prefix_is_an_error(field, value):
    content = PARTS.file()
    fields = list(struct.unpack_from("<4sIIII", content))
    if fields[field] != value:
        fields[field] = value
        refused(struct.pack("<4sIIII", *fields) + content[20:])


@pytest.mark.parametrize("field", sorted(PARTS.header))
def test_a_hostile_header_field_is_an_error_or_harmless(field):
    for value in HOSTILE:
        for parts in (PARTS, FULL):
            outcome(replace(parts, header=parts.header | {field: value}).file())
    refused(replace(PARTS, header={name: value for name, value in PARTS.header.items() if name != field}).file())


@pytest.mark.parametrize("field", sorted(to_dict(MINI)))
def test_a_hostile_network_field_is_an_error(field):
    network = json.loads(json.dumps(to_dict(MINI)))
    for value in HOSTILE:
        wrong = [value]
        if isinstance(network[field], list):
            wrong += [[value] * len(network[field]), [value, *network[field][1:]], network[field] + [value]]
        for each in wrong:
            if each != network[field] or isinstance(each, bool):
                refused(replace(PARTS, header=PARTS.header | {"network": network | {field: each}}).file())


@pytest.mark.parametrize(
    "masked",
    [["embed.weight"] * 9999, ["\ud800"], ["x" * 99999], [""], [["embed.weight"]], ["prompt1.select.bias"], [None]],
    ids=("repeated", "half a character", "long", "empty", "nested", "bias", "none"),
)
def test_a_hostile_list_of_masks_is_an_error(masked):
    refused(replace(PARTS, header=PARTS.header | {"masked": masked}).file())


# weights, text


@pytest.mark.parametrize("bits", [0x7C00, 0xFC00, 0x7C01, 0x7E00, 0xFFFF])
def test_half_weights_that_are_no_numbers_are_refused(bits):
    values, half = bytearray(PARTS.values), PARTS.header["kept_half"]
    for place in (0, half // 2, half - 1):
        altered = bytearray(values)
        altered[place], altered[half + place] = bits & 255, bits >> 8
        assert "finite" in refused(replace(PARTS, values=bytes(altered)).file())


@pytest.mark.parametrize("bits", [0x7F800000, 0xFF800000, 0x7F800001, 0x7FC00000, 0xFFFFFFFF])
def test_full_weights_that_are_no_numbers_are_refused(bits):
    full = FULL.header["kept_full"]
    for place in (0, full // 2, full - 1):
        altered = bytearray(FULL.values)
        for plane in range(4):
            altered[plane * full + place] = bits >> 8 * plane & 255
        assert "finite" in refused(replace(FULL, values=bytes(altered)).file())


@pytest.mark.parametrize("field", ["widths", "low", "high"])
def test_a_hostile_field_of_the_haze_head_is_an_error_or_harmless(field):
    for value in HOSTILE:
        for wrong in (value, [value], [4, value]):
            told = outcome(
                replace(FULL, header=FULL.header | {"haze_head": FULL.header["haze_head"] | {field: wrong}}).file()
            )
            assert told or field != "widths"


@pytest.mark.parametrize("bits", [0x7C00, 0x7E00])
def test_a_haze_head_that_is_no_number_is_refused(bits):
    head, count = bytearray(FULL.head), len(FULL.head) // 2
    head[0], head[count] = bits & 255, bits >> 8
    assert "finite" in refused(replace(FULL, head=bytes(head)).file())


@pytest.mark.parametrize("depth", [100, 900, 5_000, 1_000_000])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
@pytest.mark.parametrize("field", ["provenance", "network", "masked"])
def test_deep_json_is_an_error(depth, opening, field):
    deep = opening * depth + "1" + {"[": "]", '{"a":': "}"}[opening] * depth
    header = json.dumps(PARTS.header | {field: "HERE"})
    for value in (deep, f'{{"tasks": [{deep}]}}'):
        refused(packed(header.replace('"HERE"', value).encode(), PARTS.mask, PARTS.values))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", '"\\ud800"', "1" * 10_000, "1e999", '{"\\udfff": 1}'])
def test_provenance_that_is_no_plain_json_is_refused(text):
    header = json.dumps(PARTS.header | {"provenance": {"tasks": ["derain"], "x": "HERE"}})
    refused(packed(header.replace('"HERE"', text).encode(), PARTS.mask, PARTS.values))


# memory


def folded_zeros(size: int) -> bytes:
    encoder = zlib.compressobj(9)
    return b"".join([*(encoder.compress(bytes(MEGABYTE)) for _ in range(size // MEGABYTE)), encoder.flush()])


@pytest.mark.parametrize("layer", ["header", "mask", "values"])
def test_a_bomb_in_any_layer_takes_little_memory(layer):
    bomb = folded_zeros(512 * MEGABYTE)
    folded = {
        "header": zlib.compress(json.dumps(PARTS.header | {"mask_block": len(bomb)}).encode()),
        "mask": zlib.compress(PARTS.mask),
        "values": zlib.compress(PARTS.values),
    }
    if layer == "values":
        folded["header"] = zlib.compress(json.dumps(PARTS.header).encode())
    content = framed(*(bomb if name == layer else data for name, data in folded.items()))
    assert peak_of(content) < 40 * MEGABYTE


@pytest.mark.parametrize("text", ["[]", "{}", "0", '""', "1e9"])
def test_a_header_full_of_small_values_takes_little_memory(text):
    header = json.dumps(PARTS.header | {"provenance": {"x": "HERE"}})
    for count in (100_000, 300_000, 1_500_000):
        content = packed(header.replace('"HERE"', f"[{','.join([text] * count)}]").encode(), PARTS.mask, PARTS.values)
        assert peak_of(content) < 60 * MEGABYTE


def test_a_provenance_too_long_to_be_read_is_not_written():
    with pytest.raises(MirlError, match="shorten its provenance"):
        encode_ticket(replace(make_ticket(), provenance={"x": "y" * MEGABYTE}))
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(MirlError, match="plain JSON"):
        encode_ticket(replace(make_ticket(), provenance={"x": deep}))


def claiming(network: NetworkConfig, **changes: int) -> bytes:
    """A small file that says it holds all of a network, every prunable weight of it pruned."""
    listed = parameters(network)
    masked = [p for p in listed if p.prunable]
    full = sum(p.size for p in listed if not p.prunable)
    mask = folded_zeros(sum(-(-p.size // 8) for p in masked) // MEGABYTE * MEGABYTE)
    header = {
        "network": to_dict(network),
        "masked": [p.name for p in masked],
        "values": "float16",
        "mask_block": len(mask),
        "kept_half": 0,
        "kept_full": full,
        "provenance": {},
        "window": 0,
        "overlap": 0,
        "haze_head": None,
        "head_block": 0,
    }
    return framed(zlib.compress(json.dumps(header | changes).encode()), mask, zlib.compress(bytes(4 * full)))


GIANT = replace(MINI, width=256, prompts=64, prompt_sizes=(64, 64, 64), prompt_widths=(64, 64, 64))


def test_a_small_file_does_not_become_a_giant_network():
    assert sum(p.size for p in parameters(GIANT)) > 1 << 25
    content = claiming(GIANT)
    assert len(content) < MEGABYTE
    assert peak_of(content) < 40 * MEGABYTE


def test_too_many_blocks_are_refused_before_they_are_listed():
    many = replace(MINI, width=2, heads=(1, 1, 1, 1), blocks=(4096, 4096, 4096, 4096), refinement_blocks=4096)
    header = PARTS.header | {"network": to_dict(many), "masked": []}
    content = replace(PARTS, header=header).file()
    assert "blocks" in refused(content)
    assert peak_of(content) < 4 * MEGABYTE
