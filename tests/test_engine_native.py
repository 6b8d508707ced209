"""Laws of the native engine alone: equal bits, memory, what compaction removes, the C list of tensors, no torch."""

import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import example, given, settings
from PIL import Image

from conftest import MINI, make_ticket
from contract import EXAMPLES, Draft, drafts, loud, natively, networks, noise, opened
from mirl.errors import MirlError
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameters, stage_widths
from mirl.recipe import NetworkConfig, paper, small_laboratory, tiny
from mirl.ticket import Ticket, write_ticket

sparse = pytest.importorskip("mirl.engine.sparse", reason="the native engine is not built", exc_type=ImportError)
BAD_NETWORK, BAD_SIZE, BAD_MEMORY = -1, -2, -3  # mirl.h
KINDS = ("conv", "pointwise", "depthwise", "linear", "prompt", "norm", "bias", "temperature")  # in the order of mirl.h


# equal bits


@natively
def test_any_number_of_threads_gives_the_same_bits(kind):
    ticket = loud(make_ticket(tiny().network, 0.3))
    backends = [opened(kind, ticket, threads) for threads in (1, 2, 3, 16)]
    for size in ((1, 1), (3, 40), (17, 23), (64, 150), (130, 70)):
        first, *others = (backend.forward(noise(*size)) for backend in backends)
        for other in others:
            np.testing.assert_array_equal(other, first)


@natively
def test_results_repeat_bit_for_bit_whatever_memory_held_before(kind):
    ticket = loud(make_ticket(keep=0.3))
    backend, pixels = opened(kind, ticket, 2), noise(33, 70)
    expected = backend.forward(pixels)
    for rubbish in (0, 255, 127):  # 255: every float is NaN
        backend.forward(noise(50, 60))
        for scratch in backend._idle:
            scratch[...] = rubbish
        np.testing.assert_array_equal(backend.forward(pixels), expected)
    np.testing.assert_array_equal(opened(kind, ticket, 2).forward(pixels), expected)


def test_threads_of_python_may_restore_at_once():
    backend = opened("native", loud(make_ticket(tiny().network, 0.3)), 2)
    images = [noise(20 + 9 * i, 90 - 7 * i, i) for i in range(8)]
    expected, found = [backend.forward(image) for image in images], {}

    def work(index: int) -> None:
        found[index] = [backend.forward(images[index]) for _ in range(5)]

    workers = [threading.Thread(target=work, args=(index,)) for index in range(len(images))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == len(images)
    for index, results in found.items():
        for result in results:
            np.testing.assert_array_equal(result, expected[index])


def test_statistics_shared_in_one_thread_do_not_reach_another():
    backend, pixels, found = opened("native", loud(make_ticket(keep=0.5))), noise(24, 40), []
    alone = backend.forward(pixels)
    with backend.shared_statistics([pixels[:, :20], 2 * pixels[:, 20:]], lambda done: None):
        other = threading.Thread(target=lambda: found.append(backend.forward(pixels)))
        other.start()
        other.join()
        assert np.abs(backend.forward(pixels) - alone).max() > 1e-3
    np.testing.assert_array_equal(found[0], alone)


def test_an_error_while_sharing_leaves_the_backend_as_it_was():
    backend, pixels = opened("native", make_ticket()), noise(24, 40)
    alone = backend.forward(pixels)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), backend.shared_statistics([pixels], stop):
        pass
    np.testing.assert_array_equal(backend.forward(pixels), alone)


# memory


def test_scratch_memory_is_kept_for_the_next_photo_and_not_for_a_far_smaller_one():
    backend = opened("native", make_ticket())
    backend.forward(noise(64, 640))
    (kept,) = backend._idle
    for size in ((64, 640), (60, 631), (40, 600)):
        backend.forward(noise(*size))
        (again,) = backend._idle
        assert again is kept
    backend.forward(noise(8, 8))
    (small,) = backend._idle
    assert small.nbytes < kept.nbytes / 4


@natively
def test_memory_that_is_too_small_or_not_aligned_is_refused(kind):
    backend, image = opened(kind, make_ticket()), noise(9, 12)
    lib, ffi = sparse._lib, sparse._ffi
    size = lib.mirl_scratch_bytes(backend._pointer, 9, 12, 1)
    room, out = sparse._aligned(size + 64), np.zeros_like(image)

    def forward(scratch: np.ndarray, height: int = 9, width: int = 12, threads: int = 1) -> int:
        pixels = [ffi.from_buffer("float[]", array) for array in (image, out)]
        memory = ffi.from_buffer("char[]", scratch)
        return lib.mirl_forward(backend._pointer, *pixels, height, width, threads, memory, scratch.size, ffi.NULL, 0, 1)

    assert forward(room[:size]) == 0
    assert out.any()
    out[...] = 0
    assert forward(room[: size - 64]) == BAD_MEMORY
    assert forward(room[4 : size + 4]) == BAD_MEMORY
    assert forward(room[:0]) == BAD_MEMORY
    for height, width, threads in (
        (0, 12, 1),
        (9, -1, 1),
        (9, 12, 0),
        (9, 12, 65),
        ((1 << 20) + 1, 1, 1),
        (1, 2**31 - 1, 1),
    ):
        assert forward(room, height, width, threads) == BAD_SIZE
    assert not out.any()


def test_a_plan_needs_the_memory_it_asks_for():
    ticket = make_ticket()
    network, lib, ffi = sparse._network(ticket.network), sparse._lib, sparse._ffi
    weights = ffi.new("float *[]", [ffi.from_buffer("float[]", ticket.weights[p.name]) for p in parameters(MINI)])
    size = opened("native", ticket).facts.plan_bytes
    assert size <= lib.mirl_plan_bytes(network, weights)
    room = sparse._aligned(size + 64)
    for wanted, code in ((size, 0), (size - 64, BAD_MEMORY), (size // 2, BAD_MEMORY), (64, BAD_MEMORY), (0, BAD_MEMORY)):
        assert lib.mirl_pack(network, weights, ffi.from_buffer("char[]", room), wanted) == code
    assert lib.mirl_pack(network, weights, ffi.from_buffer("char[]", room) + 4, size) == BAD_MEMORY


def test_photos_that_cannot_be_addressed_or_held_are_one_clear_error():
    backend = opened("native", make_ticket())
    with pytest.raises(MirlError, match=r"cannot restore 3x1048577 pixels at once; .* use a --tile"):
        backend.forward(np.zeros(((1 << 20) + 1, 3, 3), np.float32))
    with pytest.raises(MirlError, match="cannot restore 0x5 pixels"):
        backend.forward(np.zeros((5, 0, 3), np.float32))
    with pytest.raises(MirlError, match="not enough memory for 1048576x1048576 pixels at once; use a smaller --tile"):
        backend._take_scratch(1 << 20, 1 << 20)


@natively
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_pixels_that_are_no_numbers_do_no_harm(kind, value):
    backend, pixels = opened(kind, loud(make_ticket(keep=0.5)), 2), noise(20, 50)
    expected = backend.forward(pixels)
    spoilt = pixels.copy()
    spoilt[3, 7] = value
    with np.errstate(all="ignore"):
        assert not np.array_equal(backend.forward(spoilt), expected)
    np.testing.assert_array_equal(backend.forward(pixels), expected)


# the C list of tensors is that of layers.py


def listed(config: NetworkConfig) -> list[tuple[str, str, tuple[int, ...]]]:
    network, lib, ffi = sparse._network(config), sparse._lib, sparse._ffi
    name, shape, found = ffi.new("char[64]"), ffi.new("int32_t[4]"), []
    for index in range(lib.mirl_tensor_count(network)):
        kind = lib.mirl_tensor(network, index, name, shape)
        found.append((ffi.string(name).decode(), KINDS[kind], tuple(size for size in shape if size)))
    assert lib.mirl_tensor(network, len(found), name, shape) == BAD_NETWORK
    return found


@settings(max_examples=EXAMPLES, deadline=None)
@given(networks())
@example(MINI)
@example(tiny().network)
@example(small_laboratory().network)
@example(paper().network)
def test_the_tensors_of_c_are_those_of_python(config):
    assert listed(config) == [(p.name, p.kind, p.shape) for p in parameters(config)]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("width", 3), ("width", 0), ("width", 4098), ("width", -2), ("expansion", 0.4), ("expansion", 17.0),
        ("expansion", float("nan")), ("prompts", 0), ("refinement_blocks", 0), ("refinement_blocks", 5000),
        ("blocks", (1, 1, 0, 1)), ("heads", (1, 1, 1, 3)), ("heads", (0, 1, 1, 1)), ("prompt_widths", (4, 5000, 4)),
        ("prompt_sizes", (4, 4, 513)), ("prompt_sizes", (0, 4, 4)),
    ],
)  # fmt: skip
def test_networks_that_cannot_be_built_are_refused(name, value):
    network, lib, ffi = sparse._network(MINI), sparse._lib, sparse._ffi
    setattr(network, name, value)
    assert lib.mirl_tensor_count(network) == BAD_NETWORK
    assert lib.mirl_tensor(network, 0, ffi.new("char[64]"), ffi.new("int32_t[4]")) == BAD_NETWORK
    assert lib.mirl_plan_bytes(network, ffi.NULL) == 0
    room = sparse._aligned(1 << 12)
    assert lib.mirl_pack(network, ffi.NULL, ffi.from_buffer("char[]", room), room.size) == BAD_NETWORK


def test_an_unknown_instruction_set_is_refused():
    with pytest.raises(MirlError, match=r"unknown instruction set 'avx3'; expected one of .*baseline"):
        sparse.choose_variant("avx3")


# what compaction removes, counted apart


def kept_by_compaction(ticket: Ticket) -> int:
    """Count the weights that can reach the output, by the rules of plan.h."""

    def count(*arrays: np.ndarray) -> int:
        return sum(int(np.count_nonzero(array)) for array in arrays)

    kept = 0
    for stage, (channels, heads, blocks, _) in stage_widths(ticket.network).items():
        for block in range(blocks):
            layers = ("attention.qkv", "attention.qkv_depthwise", "attention.project")
            layers += ("feed_forward.expand", "feed_forward.depthwise", "feed_forward.project")
            qkv, taps, project, expand, filters, out = (ticket.weights[f"{stage}.{block}.{name}.weight"] for name in layers)
            lives = (qkv.any(1) & taps.reshape(3 * channels, 9).any(1)).reshape(3, heads, -1)
            used = project.any(0).reshape(heads, -1)
            for head in range(heads):
                (query, key, value), sink = lives[:, head].copy(), used[head].copy()
                sink &= value.any()
                value &= sink.any()
                query &= sink
                seen = query.any() and key.any() and sink.any()
                rows = np.concatenate([query & seen, key & seen, value])
                place = np.arange(channels).reshape(heads, -1)[head]
                place = np.concatenate([place, channels + place, 2 * channels + place])[rows]
                columns = np.arange(channels).reshape(heads, -1)[head][sink]
                kept += count(qkv[place], taps[place], project[:, columns])
            pair = expand.any(1) & filters.reshape(len(filters), 9).any(1)
            pair = np.flatnonzero(pair.reshape(2, -1).all(0) & out.any(0))
            half = len(expand) // 2
            kept += count(expand[pair], expand[half + pair], filters[pair], filters[half + pair], out[:, pair])
    between = [p for p in parameters(ticket.network) if p.uses_per_pixel and "." in p.name and p.name.count(".") < 3]
    return kept + count(*(ticket.weights[p.name] for p in between))


@settings(max_examples=EXAMPLES, deadline=None)
@given(drafts)
def test_removed_weights_are_those_that_cannot_reach_the_output(draft: Draft):
    ticket = draft.ticket()
    facts = opened("native", ticket).facts
    worked = [ticket.weights[p.name] for p in parameters(ticket.network) if p.uses_per_pixel]
    assert facts.nonzero == sum(int(np.count_nonzero(weight)) for weight in worked)
    assert facts.nonzero - facts.removed == kept_by_compaction(ticket)


@pytest.mark.parametrize("config", [MINI, tiny().network, small_laboratory().network], ids=("mini", "tiny", "small"))
def test_a_dense_ticket_loses_nothing_and_costs_no_more_than_dense(config):
    facts = opened("native", make_ticket(config, 2.0)).facts
    assert facts.removed == 0
    dense = macs_per_pixel(config) + attention_macs_per_pixel(config)
    assert facts.dense_macs_per_pixel == pytest.approx(dense)
    # the projection is multiplied into the attention matrix, so mixing and projecting are one product for each pixel
    assert facts.macs_per_pixel == pytest.approx(dense - attention_macs_per_pixel(config) / 2)
    project = sum(p.size * p.uses_per_pixel for p in parameters(config) if p.name.endswith("attention.project.weight"))
    assert facts.attention_macs_per_pixel == pytest.approx(attention_macs_per_pixel(config) / 2 + project)


def test_work_falls_with_density():
    work = [
        opened("native", make_ticket(small_laboratory().network, keep)).facts.macs_per_pixel
        for keep in (1.0, 0.5, 0.25, 0.1, 0.02)
    ]
    assert work == sorted(work, reverse=True)
    assert work[3] < 0.3 * work[0]


# no torch


def test_restoring_natively_never_imports_torch(tmp_path):
    write_ticket(make_ticket(), tmp_path / "t.mirl")
    Image.effect_noise((40, 30), 80).convert("RGB").save(tmp_path / "photo.jpg")
    code = (
        "import sys; from mirl.cli import main\n"
        "code = main(sys.argv[1:])\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\nsys.exit(code)"
    )
    for backend in ("native", "auto"):
        words = ["restore", "photo.jpg", "-o", f"{backend}.png", "--ticket", "t.mirl", "--backend", backend]
        result = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert (tmp_path / f"{backend}.png").exists()
