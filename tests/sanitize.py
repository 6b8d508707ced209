"""Run the contract tests on an engine built with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

The package is copied to build/sanitize with a library compiled there, and pytest runs with the sanitizers' runtime loaded
first. Plans, scratch and images are numpy arrays of exactly the size that the engine asks for, so a step outside is caught.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "sanitize"
FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
POKE = """
import numpy as np
from mirl.engine import sparse
ffi = sparse._ffi
room = np.zeros(64, np.uint8)  # far too small for a description: the engine must be seen to write past it
plan = ffi.from_buffer("char[]", np.zeros(1 << 16, np.uint8))
sparse._lib.mirl_describe(plan, ffi.cast("mirl_facts *", room.ctypes.data + 40))
"""


def main() -> int:
    """Build, prove that the sanitizer is awake, test. Returns the exit code of pytest."""
    shutil.rmtree(PLACE, ignore_errors=True)
    shutil.copytree(ROOT / "src" / "mirl", PLACE / "mirl", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    build = [sys.executable, "setup.py", "build_ext", "--build-lib", str(PLACE), "--build-temp", str(PLACE / "objects")]
    subprocess.run(build, cwd=ROOT, env={**os.environ, "MIRL_C_FLAGS": FLAGS}, check=True, stdout=subprocess.DEVNULL)
    compiler = os.environ.get("CC", "gcc")
    runtime = subprocess.run([compiler, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime.strip(),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": os.pathsep.join([str(PLACE), str(ROOT / "tests")]),
    }
    poked = subprocess.run([sys.executable, "-c", POKE], env=environment, capture_output=True, text=True, check=False)
    if "AddressSanitizer" not in poked.stderr:
        print(f"the sanitizer did not see a write past the end of an array:\n{poked.stderr}", file=sys.stderr)
        return 1
    tests = ["tests/test_engine_contract.py", "-k", "not onnx and not torch", "-p", "no:cacheprovider"]
    return subprocess.run([sys.executable, "-m", "pytest", *tests], cwd=ROOT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
