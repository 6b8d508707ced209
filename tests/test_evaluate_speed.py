"""Comparing runtimes: fair turns, work counted by hand, errors in one line. Nothing here depends on how fast anything is."""

import json
import sys
from itertools import count
from pathlib import Path

import numpy as np
import pytest

from conftest import MINI, make_ticket
from mirl.errors import MirlError
from mirl.evaluate import runtimes, speed
from mirl.evaluate.roofline import Peak, count_work, feature_bytes_per_pixel, roofline
from mirl.evaluate.runtimes import RUNTIMES, lacks
from mirl.evaluate.speed import choose_runtimes, example_image, interleave, measure_speed, parse_size
from mirl.evaluate.worker import RuntimeProcess, child_environment, memory_mb
from mirl.layers import attention_macs_per_pixel, macs_per_pixel, parameters
from mirl.ticket import Ticket, write_ticket

BENCH = Path(__file__).parents[1] / "bench"

FAKE = """
import json, sys
print(json.dumps({"ready": True, "load_seconds": 0.5, "version": "1", "facts": None}), flush=True)
for line in sys.stdin:
    if line.strip() == "finish":
        print(json.dumps({"peak_mb": 3.0, "working_mb": 1.0}), flush=True)
        break
    print(json.dumps({"seconds": 0.25}), flush=True)
"""


class Recorder:
    """A runtime that writes down when it is asked; the n-th restoration of all takes n seconds."""

    def __init__(self, name: str, order: list[str], clock: "count[int]"):
        self.name, self.order, self.clock = name, order, clock

    def restore(self) -> float:
        self.order.append(self.name)
        return float(next(self.clock))


def recorders(names: str) -> tuple[list[Recorder], list[str]]:
    order: list[str] = []
    clock = count()
    return [Recorder(name, order, clock) for name in names], order


@pytest.fixture
def ticket_file(tmp_path: Path, mini_ticket: Ticket) -> Path:
    path = tmp_path / "t.mirl"
    write_ticket(mini_ticket, path)
    return path


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Peaks are not measured."""
    monkeypatch.setattr(speed, "measure_peak", lambda threads: Peak(100.0, 10.0))


def fake(tmp_path: Path, code: str = FAKE) -> RuntimeProcess:
    return RuntimeProcess("fake", [sys.executable, "-c", code], child_environment(1), tmp_path / "fake.txt")


# turns


def test_every_round_asks_each_once_and_the_first_one_rotates():
    workers, order = recorders("abc")
    told: list[tuple[int, str]] = []
    times = interleave(workers, runs=4, tell=lambda done, name: told.append((done, name)))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab" + "abc"
    assert times == {"a": [3, 8, 10, 12], "b": [4, 6, 11, 13], "c": [5, 7, 9, 14]}  # the round to warm up is not counted
    assert told == list(enumerate(order, 1))


def test_time_stops_only_after_a_whole_round():
    workers, order = recorders("ab")
    times = interleave(workers, runs=100, seconds=0)
    assert "".join(order) == "abab"
    assert {name: len(taken) for name, taken in times.items()} == {"a": 1, "b": 1}


# the comparison


@pytest.mark.usefixtures("still")
def test_the_json_is_as_documented(ticket_file: Path):
    told: list[tuple[float, int, str]] = []
    result = measure_speed(ticket_file, (20, 28), 1, ["torch"], runs=2, progress=lambda *values: told.append(values))
    value = json.loads(json.dumps(result.to_json("t.mirl", "mirl bench --ticket t.mirl"), allow_nan=False))
    assert set(value) >= {"size", "threads", "runs", "rows", "speedup_over_best_other"}
    assert (value["size"], value["threads"], value["runs"], value["ticket"]) == ([20, 28], 1, 2, "t.mirl")
    assert value["speedup_over_best_other"] is None  # no native engine was asked
    (row,) = value["rows"]
    assert set(row) >= {"backend", "median_ms", "min_ms", "max_ms", "peak_mb", "max_abs_diff"}
    assert 0 < row["min_ms"] <= row["median_ms"] <= row["max_ms"]
    assert row["peak_mb"] > row["working_mb"] >= 0
    assert row["max_abs_diff"] == 0
    assert value["density"] == pytest.approx(make_ticket().density)
    assert {"cpu", "cores", "python"} <= set(value["machine"])
    assert [values[:2] for values in told] == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.usefixtures("still")
def test_speedup_and_difference_are_of_the_native_engine_against_the_others(
    ticket_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seconds = {"native": 0.5, "torch": 3.0, "openvino": 2.0}
    value = {"native": 0.125, "torch": 0.75, "openvino": 0.5}

    def process(name: str, command: list[str], environment: dict[str, str], log: Path) -> RuntimeProcess:
        output = command[-2]
        code = f"import numpy; numpy.save({output!r}, numpy.full((8, 8, 3), {value[name]}, 'f4'))" + FAKE
        code = code.replace("0.25", str(seconds[name])).replace('"facts": None', '"facts": FACTS')
        facts = {"macs_per_pixel": 1e6, "plan_bytes": 1_000_000} if name == "native" else None
        return RuntimeProcess(name, [sys.executable, "-c", code.replace("FACTS", repr(facts))], environment, log)

    monkeypatch.setattr(speed, "RuntimeProcess", process)
    result = measure_speed(ticket_file, (8, 8), 2, ["native", "torch", "openvino"], runs=3)
    assert result.speedup_over_best_other == 4.0
    assert result.best_other is not None
    assert result.best_other.backend == "openvino"
    assert result.reference == "torch"
    assert [row.max_abs_diff for row in result.rows] == [0.625, 0.0, 0.25]
    native, torch, _ = result.rows
    assert native.gflop == pytest.approx(2e-9 * 1e6 * 64)
    assert torch.share_of_peak == pytest.approx(torch.gflop / 3 / 100)
    assert result.to_json("t", "c")["native"]["plan_bytes"] == 1_000_000


def test_the_image_has_any_size_and_is_always_the_same():
    image = example_image((21, 34))
    assert (image.shape, image.dtype) == ((21, 34, 3), np.float32)
    np.testing.assert_array_equal(image, example_image((21, 34)))
    assert image.std() > 0.05


def test_a_model_of_multiples_of_8_restores_any_size_like_the_network(mini_ticket: Ticket):
    import torch

    from mirl.engine.torch import TorchBackend

    backend = TorchBackend(mini_ticket, 1)

    def run(image: np.ndarray) -> np.ndarray:
        assert image.shape[2] % 8 == image.shape[3] % 8 == 0
        with torch.inference_mode():
            return backend.network(torch.from_numpy(image)).numpy()

    for size in ((8, 8), (9, 30), (1, 3)):
        image = np.random.default_rng(0).random((*size, 3), dtype=np.float32)
        np.testing.assert_allclose(runtimes._channels_first(run)(image), backend.forward(image), atol=1e-6)


# processes


def test_a_process_answers_in_order_and_is_gone_afterwards(tmp_path: Path):
    process = fake(tmp_path)
    process.start()
    assert process.ready["load_seconds"] == 0.5
    assert process.restore() == 0.25
    assert process.finish() == {"peak_mb": 3.0, "working_mb": 1.0}
    process.close()
    assert process._process.returncode is not None


def test_a_process_that_dies_or_complains_is_one_line(tmp_path: Path):
    dying = fake(tmp_path, FAKE.replace("for line in", "sys.exit('out of luck')\nfor line in"))
    dying.start()
    with pytest.raises(MirlError, match=r"the fake runtime ended with exit code 1: out of luck; .*smaller --size"):
        dying.restore()
    dying.close()
    complaining = fake(tmp_path, 'print(\'{"error": "not enough memory"}\')')
    with pytest.raises(MirlError, match="the fake runtime failed: not enough memory"):
        complaining.start()
    complaining.close()


def test_a_bad_ticket_is_the_workers_own_words(tmp_path: Path):
    np.save(tmp_path / "image.npy", np.zeros((8, 8, 3), np.float32))
    words = ["torch", tmp_path / "none.mirl", tmp_path / "image.npy", tmp_path / "out.npy", 1]
    command = [sys.executable, "-m", "mirl.evaluate.worker", *map(str, words)]
    process = RuntimeProcess("torch", command, child_environment(1), tmp_path / "log.txt")
    with pytest.raises(MirlError, match=r"the torch runtime failed: .*none\.mirl"):
        process.start()
    process.close()


def test_all_processes_get_the_same_threads_and_allocator(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    environment = child_environment(2)
    assert {environment[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")} == {"2"}
    assert (environment["MALLOC_MMAP_MAX_"], environment["MALLOC_TRIM_THRESHOLD_"]) == ("0", "2147483647")
    assert environment["GOMP_SPINCOUNT"] == "2000"


def test_the_peak_of_memory_is_at_least_what_is_held():
    now, peak = memory_mb()
    assert 10 < now <= peak * 1.001


# what is chosen


def test_all_installed_runtimes_are_compared_unless_some_are_named(monkeypatch: pytest.MonkeyPatch):
    missing = {"openvino": "openvino needs openvino; pip install it"}
    monkeypatch.setattr(speed, "lacks", missing.get)
    assert choose_runtimes([]) == (("native", "torch", "onnxruntime"), ("openvino needs openvino; pip install it",))
    assert choose_runtimes(["torch", "torch"]) == (("native", "torch"), ())
    with pytest.raises(MirlError, match="cannot compare: openvino needs openvino; pip install it"):
        choose_runtimes(["torch", "openvino"])
    with pytest.raises(MirlError, match="unknown runtime 'abacus'"):
        choose_runtimes(["abacus"])
    monkeypatch.setattr(speed, "lacks", lambda name: f"{name} is missing")
    with pytest.raises(MirlError, match="no runtime can run: native is missing; torch is missing"):
        choose_runtimes([])


def test_a_missing_package_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runtimes.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert lacks("openvino") == "openvino needs openvino, not installed; pip install onnx openvino"
    assert lacks("onnxruntime") is None
    monkeypatch.setattr(runtimes, "BACKENDS", {})
    assert lacks("native") is not None
    assert {"native", "torch", "onnxruntime", "openvino"} == set(RUNTIMES)


def test_sizes_are_sides_or_height_and_width():
    assert parse_size("512") == (512, 512)
    assert parse_size(" 321x481") == (321, 481)
    for bad in ("", "0", "12x0", "x12", "1x2x3", "-8", "8.5", "99999", "big"):
        with pytest.raises(MirlError, match=r"--size .* is not understood; expected a side"):
            parse_size(bad)


def test_bad_counts_are_refused(ticket_file: Path):
    for threads, runs in ((0, 1), (1, 0)):
        with pytest.raises(MirlError, match="--threads and --runs must be at least 1"):
            measure_speed(ticket_file, (8, 8), threads, ["torch"], runs)


# the roofline


def test_work_is_counted_on_the_padded_image_and_masks_take_off_what_they_prune():
    dense, ticket = make_ticket(keep=2.0), make_ticket(keep=0.25)
    whole, part = count_work(dense, 10, 16), count_work(ticket, 10, 16)
    attention = attention_macs_per_pixel(MINI)
    assert whole.dense_gflop == pytest.approx(2e-9 * 256 * (macs_per_pixel(MINI) + attention))
    assert whole.ticket_gflop == pytest.approx(whole.dense_gflop)
    assert part.dense_gflop == whole.dense_gflop
    assert part.attention_gflop == pytest.approx(2e-9 * 256 * attention)
    weights = (whole.ticket_gflop - whole.attention_gflop, part.ticket_gflop - part.attention_gflop)
    assert weights[1] / weights[0] == pytest.approx(0.25, abs=0.05)
    kept = sum(int(mask.sum()) for mask in ticket.masks.values())
    rest = sum(p.size for p in parameters(MINI) if not p.prunable)
    assert part.weight_bytes == 8 * kept + 4 * rest
    assert part.feature_bytes == 256 * feature_bytes_per_pixel(MINI)


def test_features_of_the_mini_network_are_counted_by_hand():
    """Widths 4, 8, 16, 32 at scales 1, 2, 4, 8; blocks 7 c: mix adds a prompt of 4; refinement and decoder1 are 8 wide."""
    blocks = 7 * (4 + 8 / 4 + 16 / 16 + 32 / 64 + 36 / 64 + 16 / 16 + 20 / 16 + 8 / 4 + 12 / 4 + 8 + 8)
    convolutions = (3 + 4) + (4 + 2) + (8 + 4) / 4 + (16 + 8) / 16 + (8 + 3)  # embed, down1 to 3, output
    decoder3 = (4 + 4) / 64 + (36 + 16) / 64 + (16 + 32) / 64 + (24 + 16) / 16  # prompt, reduce, up, fuse
    decoder2 = (4 + 4) / 16 + (20 + 16) / 16 + (16 + 32) / 16 + (16 + 8) / 4
    decoder1 = (4 + 4) / 4 + (12 + 8) / 4 + (8 + 16) / 4
    assert feature_bytes_per_pixel(MINI) == pytest.approx(4 * (blocks + convolutions + decoder3 + decoder2 + decoder1))


def test_bounds_are_for_what_the_engine_says_it_computes():
    work = count_work(make_ticket(), 8, 8)
    masks = roofline(work, Peak(50.0, 5.0), None, 64)
    assert masks.native_gflop == work.ticket_gflop
    assert masks.compute_bound_ms == pytest.approx(1e3 * work.ticket_gflop / 50)
    assert masks.memory_bound_ms == pytest.approx((work.weight_bytes + work.feature_bytes) / 5e9 * 1e3)
    engine = roofline(work, Peak(50.0, 5.0), {"macs_per_pixel": 1000.0, "plan_bytes": 0}, 64)
    assert engine.native_gflop == pytest.approx(2e-9 * 1000 * 64)
    assert engine.weight_mb == 0


# the patterns of the benches


def test_patterns_prune_what_they_say(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(BENCH))
    from patterns import PATTERNS, make_ticket

    tickets = {pattern: make_ticket(MINI, pattern) for pattern in (*PATTERNS, "layer-99")}
    prunable = {p.name: p for p in parameters(MINI) if p.prunable}
    total = sum(p.size for p in prunable.values())
    assert not tickets["dense"].masks
    for pattern in ("layer-90", "global-90", "layer-99"):
        kept = sum(int(mask.sum()) for mask in tickets[pattern].masks.values())
        assert set(tickets[pattern].masks) == set(prunable)
        assert kept / total == pytest.approx(0.01 if pattern == "layer-99" else 0.1, abs=0.01)
        assert tickets[pattern].masks["output.weight"].any()
    depthwise = {name for name, p in prunable.items() if p.kind == "depthwise"}
    assert set(prunable) - set(tickets["layer-90-depthwise-dense"].masks) == depthwise
    norms = np.concatenate([w for name, w in tickets["dense"].weights.items() if name.endswith("norm1.bias")])
    assert 0.05 < norms.std() < 0.2
    with pytest.raises(ValueError, match="unknown pattern"):
        make_ticket(MINI, "stripes-90")
