"""Build the engine for browsers, ../wasm/*.wasm, with the clang of Zig: `pip install ziglang==0.17.1`, nothing else.

    python src/mirl/engine/native/build_wasm.py [--check] [--out FOLDER]

mirl.wasm needs SIMD128, which every browser has; mirl-relaxed.wasm relaxed SIMD, whose fused multiply-add is about 1.2 times
as fast. Equal sources give equal bytes, on any machine. The SHA-256 of the sources lies in a custom section of each file, so
that `--check` tells without a compiler whether they are up to date; it exits with 1 when they are not.
"""

import argparse
import hashlib
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

COMPILER = "0.17.1"  # of the package ziglang: clang 22.1
HERE = Path(__file__).resolve().parent
TARGET = HERE.parent / "wasm"
FILES = {"mirl.wasm": (), "mirl-relaxed.wasm": ("-mrelaxed-simd",)}
UNITS = ("mirl.c", "network.c", "variant_baseline.c")
FLAGS = (
    "-target", "wasm32-freestanding", "-std=c11", "-O3", "-msimd128", "-mbulk-memory", "-mnontrapping-fptoint",
    "-ffp-contract=fast", "-fno-math-errno", "-nostdlib", "-s", "-Wl,--no-entry",
)  # fmt: skip
SECTION = "mirl.sources"


def sources_hash() -> str:
    """Return the SHA-256 of this script and of the C sources of this build, by name and content."""
    digest = hashlib.sha256()
    for path in sorted([*(HERE / name for name in UNITS), *HERE.glob("*.h"), HERE / "build_wasm.py"]):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def stored_hash(wasm: bytes) -> str | None:
    """Return the hash that a module carries, or None."""
    for kind, content, _ in _sections(wasm):
        size, begin = _number(content, 0) if kind == 0 else (0, 0)
        if kind == 0 and content[begin : begin + size] == SECTION.encode():
            return content[begin + size :].decode()
    return None


def build(flags: tuple[str, ...]) -> bytes:
    """Compile and link; only our own custom section is kept of those. Raises SystemExit with what to do."""
    try:
        found = importlib.metadata.version("ziglang")
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found != COMPILER:
        raise SystemExit(f"mirl.wasm is built with ziglang {COMPILER}, found {found}; pip install ziglang=={COMPILER}")
    made_of = sources_hash()
    functions = re.findall(r"^\w[\w *]*\b(mirl_\w+)\(", (HERE / "mirl.h").read_text(), re.MULTILINE)
    exports = [f"-Wl,--export={name}" for name in functions]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mirl.wasm"
        command = [sys.executable, "-m", "ziglang", "cc", *FLAGS, *exports, *flags, "-o", str(out), *UNITS]
        if subprocess.run(command, cwd=HERE, check=False).returncode:
            raise SystemExit("the compiler failed; see above")
        wasm = out.read_bytes()
    kept = b"".join(whole for kind, _, whole in _sections(wasm) if kind)
    name = SECTION.encode()
    content = bytes([len(name)]) + name + made_of.encode()
    return wasm[:8] + kept + b"\0" + bytes([len(content)]) + content


def _sections(wasm: bytes) -> list[tuple[int, bytes, bytes]]:
    """List (kind, content, whole section) of a module; custom sections have kind 0."""
    found, at = [], 8
    while at < len(wasm):
        size, begin = _number(wasm, at + 1)
        found.append((wasm[at], wasm[begin : begin + size], wasm[at : begin + size]))
        at = begin + size
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Read an unsigned LEB128 number; return it and where it ends."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 128:
            return value, at


def main() -> int:
    """Build, or check what was built."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the files were made of these sources")
    parser.add_argument("--out", type=Path, default=TARGET, metavar="FOLDER")
    options = parser.parse_args()
    outdated = 0
    for name, flags in FILES.items():
        path = options.out / name
        if not options.check:
            path.write_bytes(build(flags))
            print(f"{path}: {path.stat().st_size} bytes")
        elif not path.exists() or stored_hash(path.read_bytes()) != sources_hash():
            print(f"{path} is not made of these sources; run make wasm", file=sys.stderr)
            outdated = 1
    return outdated


if __name__ == "__main__":
    raise SystemExit(main())
