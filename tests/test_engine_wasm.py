"""The engine for browsers, run by node: equal to Python."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import mirl
from conftest import make_ticket
from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.haze import amount_of_haze, probability, thumbnail
from mirl.engine.options import Options
from mirl.engine.tone import apply_change
from mirl.recipe import small_laboratory
from mirl.ticket import encode_ticket, read_ticket
from mirl.windows import WHOLE
from test_wasm_ticket import joined, parts
from wasm_jobs import WASM, full_ticket, run, stored


def photograph(height: int, width: int, seed: int) -> np.ndarray:
    """Return noise of several strengths over a smooth ground, so that blocks differ in what is done there."""
    rng = np.random.default_rng(seed)
    ground = np.linspace(0.1, 0.9, width)[None, :, None] + rng.normal(0, 0.1, 3)
    noise = rng.normal(0, 0.2, (height, width, 3)) * np.linspace(0, 1, height)[:, None, None]
    return np.clip(ground + noise, 0, 1).astype(np.float32)


def test_committed_wasm_is_small_and_made_of_these_sources():
    assert sorted(path.name for path in WASM.glob("*.wasm")) == ["mirl-relaxed.wasm", "mirl.wasm"]
    assert all(path.stat().st_size < 150_000 for path in WASM.glob("*.wasm"))
    check = [sys.executable, WASM.parent / "native" / "build_wasm.py", "--check"]
    assert subprocess.run(check, check=False).returncode == 0, "run make wasm"


def test_a_file_of_version_1_is_restored_as_python_does(tmp_path):
    header, masks, values, _ = parts(encode_ticket(make_ticket()))
    old = {name: value for name, value in header.items() if name not in ("window", "overlap", "haze_head", "head_block")}
    path = tmp_path / "old.mirl"
    path.write_bytes(joined(old | {"mask_block": "fits"}, masks, values, version=1))
    ticket, pixels = read_ticket(path), photograph(70, 53, 1)
    assert (ticket.windows, ticket.haze_head) == (WHOLE, None)
    pixels.tofile(tmp_path / "in")
    job = {"ticket": path, "image": tmp_path / "in", "height": 70, "width": 53, "out": tmp_path / "out"}
    read, restored = run([{"action": "unfold"} | job, {"action": "float", "options": {"dehaze": 0.5}} | job], tmp_path)
    assert (read["value"]["windows"], read["value"]["head"]) == ({"size": 0, "overlap": 0}, None)
    assert restored["value"]["told"] == [[1, 1]]
    expected = restore_pixels(open_backend(ticket, "torch"), pixels, Options(dehaze=0.5))
    assert np.abs(np.fromfile(tmp_path / "out", np.float32).reshape(70, 53, 3) - expected).max() < 1e-4


@pytest.mark.parametrize("grey", [False, True])
def test_sees_as_much_haze_as_python(tmp_path, grey):
    ticket, path = stored(full_ticket(), tmp_path)
    assert ticket.haze_head
    jobs, expected = [], []
    for height, width in [(1, 1), (96, 96), (97, 40), (3, 500), (301, 203), (20, 31)]:
        pixels, at = photograph(height, width, len(jobs)), tmp_path / f"{len(jobs)}"
        if grey:
            pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)
        pixels.tofile(at.with_suffix(".in"))
        jobs.append({"action": "haze", "ticket": path, "image": at.with_suffix(".in"), "out": at.with_suffix(".out"),
                     "height": height, "width": width})  # fmt: skip
        small = thumbnail(pixels)
        expected.append((small, probability(small, ticket.haze_head), amount_of_haze(pixels, ticket.haze_head)))
    for job, answer, (small, likely, amount) in zip(jobs, run(jobs, tmp_path), expected, strict=True):
        height, width, *figures = answer["value"]
        assert (height, width, 3) == small.shape
        assert np.abs(np.fromfile(job["out"], np.float32).reshape(small.shape) - small).max() < 1e-6
        assert figures == pytest.approx([likely, amount], abs=1e-5)
    assert np.ptp([likely for _, likely, _ in expected]) > 0.05, "a head that sees no difference tests nothing"


@pytest.mark.parametrize("keep", [0.2, 1.0])
@pytest.mark.parametrize("wasm", ["mirl.wasm", "mirl-relaxed.wasm"])
def test_restores_floats_as_python(tmp_path, keep, wasm):
    if run([{"action": "wasmFile"}], tmp_path)[0]["value"] == "mirl.wasm" != wasm:
        pytest.skip("this node has no relaxed SIMD")
    ticket, path = stored(full_ticket(keep), tmp_path)
    backend = open_backend(ticket, "torch")
    jobs, expected = [], []
    cases: list[tuple[int, int, dict[str, Any]]] = [
        (1, 1, {"window": 0, "tile": 0}),
        (7, 3, {}),
        (17, 23, {"window": 0, "tile": 0, "strength": 0.3}),
        (64, 48, {"window": 0, "tile": 64}),
        (70, 130, {"window": 0, "tile": 32}),
        (129, 40, {"window": 0, "tile": 48, "strength": 0.7, "dehaze": 0.4}),
        (9, 9, {"strength": 0}),
        (1, 1, {}),
        (129, 71, {}),
        (129, 71, {"tone": "keep"}),
        (40, 41, {"denoise": 0.3, "strength": 0.6}),
        (20, 90, {"window": 0, "denoise": 0}),
        (90, 20, {"dehaze": 0}),
        (100, 64, {"window": 64}),
        (50, 77, {"window": 40, "dehaze": 0.5, "denoise": 0.5}),
    ]
    for height, width, options in cases:
        pixels, at = photograph(height, width, len(jobs)), tmp_path / f"{len(jobs)}"
        if len(jobs) % 3 == 2:
            pixels = np.repeat(pixels.mean(axis=2, keepdims=True), 3, axis=2)  # grey
        pixels.tofile(at.with_suffix(".in"))
        job = {"ticket": path, "image": at.with_suffix(".in"), "out": at.with_suffix(".out"), "options": options}
        jobs.append({"action": "float", "height": height, "width": width} | job)
        progress: list[list[int]] = []
        restored = restore_pixels(
            backend, pixels, Options(**options), on_tile=lambda *now, told=progress: told.append(list(now))
        )
        expected.append((restored, progress, options.get("strength") != 0))
    for job, answer, (restored, progress, changed) in zip(jobs, run(jobs, tmp_path, wasm), expected, strict=True):
        found = np.fromfile(job["out"], np.float32).reshape(restored.shape)
        assert np.abs(found - restored).max() < 1e-4
        assert answer["value"]["told"] == progress
        pixels = np.fromfile(job["image"], np.float32).reshape(restored.shape)
        assert (np.abs(restored - pixels).max() > 1e-3) == changed, "a network that does nothing tests nothing"


@pytest.mark.parametrize("taken", [-0.4, 0.0, 0.05, 0.22, 0.5, 1.0])
def test_does_as_much_of_a_change_as_python(tmp_path, taken):
    rng, jobs, expected = np.random.default_rng(7), [], []
    cases: list[tuple[int, int, dict[str, Any], float, int]] = [
        (67, 93, {}, 1, 0), (67, 93, {}, 0.3, 0), (67, 93, {"strength": 0.5}, 1, 0), (40, 8, {"tone": "keep"}, 1, 0),
        (3, 5, {}, 0.5, 0), (129, 17, {"denoise": 0.2, "dehaze": 0.8, "strength": 0.9}, 0.7, 0),
        (16, 16, {"denoise": 0}, 1, 0), (67, 93, {}, 1, 32), (129, 17, {"strength": 0.5}, 0.4, 64),
        (40, 8, {"tone": "keep"}, 1, 32),
        (99, 101, {"denoise": 0, "strength": 0.9}, 1, 40), (99, 101, {"dehaze": 0.5, "denoise": 0.2}, 0.8, 40),
    ]  # fmt: skip
    for height, width, options, seen, window in cases:
        at, ground = tmp_path / f"{len(jobs)}", photograph(height, width, len(jobs))
        noise = rng.normal(0, 0.1, ground.shape).astype(np.float32)
        pixels = np.clip(ground + noise, 0, 1)
        restored = pixels - np.float32(taken) * noise + 0.1 * (ground - ground.mean()) - np.float32(0.05)
        pixels.tofile(at.with_suffix(".in"))
        restored.tofile(at.with_suffix(".net"))
        jobs.append({"action": "tone", "image": at.with_suffix(".in"), "restored": at.with_suffix(".net"), "seen": seen,
                     "window": window,
                     "out": at.with_suffix(".out"), "options": options, "height": height, "width": width})  # fmt: skip
        chosen = Options(**options)
        share = 0.0 if chosen.tone == "keep" else chosen.dehaze * seen
        expected.append(apply_change(pixels, restored, chosen.strength, chosen.denoise, share, window, "numpy"))
    for job, answer, wanted in zip(jobs, run(jobs, tmp_path), expected, strict=True):
        assert "error" not in answer
        assert np.abs(np.fromfile(job["out"], np.float32).reshape(wanted.shape) - wanted).max() < 1e-5


def test_restores_pictures_as_python_and_keeps_alpha(tmp_path):
    ticket, path = stored(full_ticket(), tmp_path)
    picture = np.random.default_rng(4).integers(0, 256, (50, 61, 4), np.uint8)
    picture.tofile(tmp_path / "in")
    cases: list[dict[str, Any]] = [{}, {"window": 0, "tile": 32, "strength": 0.5}, {"dehaze": 0.4}, {"strength": 0}]
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
        ({"options": {"denoise": -0.1}}, "denoise"),
        ({"options": {"dehaze": 2}}, "dehaze"),
        ({"options": {"tone": "loud"}}, "tone must be auto or keep"),
        ({"options": {"window": 31}}, "window"),
        ({"options": {"window": 36}}, "multiple of 8"),
        ({"options": {"window": 65537}}, "window"),
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
