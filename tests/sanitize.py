"""Run the tests of the native engine and of the training kernels on a build with both sanitizers: `make sanitize`.

The sanitizers are AddressSanitizer and UndefinedBehaviorSanitizer. The package is copied to build/sanitize with libraries
compiled there, and pytest runs with the sanitizers' runtime loaded
first. Such a build forbids the bytes behind every piece of plan and scratch memory (native/guard.h), so that a step out of
any of them is caught, not only one out of the array that holds them all.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "sanitize"
FLAGS = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
TRAINING = "tests/test_network_kernels.py"
KERNELS = (
    "test_a_block_and_its_gradients_are_those_of_float64",
    "test_a_convolution_and_its_gradients_are_those_of_float64",
    "test_dead_units_are_passed_over_and_nothing_changes",
)
PAST_AN_ARRAY = """
import numpy as np
from mirl.engine import sparse
ffi = sparse._ffi
room = np.zeros(64, np.uint8)  # far too small for a description: the engine must be seen to write past it
plan = ffi.from_buffer("char[]", np.zeros(1 << 16, np.uint8))
sparse._lib.mirl_describe(plan, ffi.cast("mirl_facts *", room.ctypes.data + 40))
"""
BETWEEN_PIECES = """
import numpy as np
from mirl.engine import sparse
from mirl.layers import parameters
from mirl.recipe import tiny
from mirl.ticket import Ticket
network = tiny().network
sparse._pack(Ticket(network, {p.name: np.ones(p.shape, np.float32) for p in parameters(network)}, {})).copy()
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
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",  # Python keeps its memory; too much is refused
        "MIRL_TEST_EXAMPLES": "8",
        "PYTHONPATH": os.pathsep.join([str(PLACE), str(ROOT / "tests")]),
    }
    for wrong in (PAST_AN_ARRAY, BETWEEN_PIECES):
        seen = subprocess.run([sys.executable, "-c", wrong], env=environment, capture_output=True, text=True, check=False)
        if "AddressSanitizer" not in seen.stderr:
            print(f"the sanitizer slept through\n{wrong}\n{seen.stderr}", file=sys.stderr)
            return 1
    tests = ["tests/test_engine_native.py", "tests/test_engine_contract.py", *(f"{TRAINING}::{name}" for name in KERNELS)]
    options = ["-k", "not onnx and not torch and not megapixel", "-p", "no:cacheprovider", "--capture=sys", "-n", "2"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *tests, *options], cwd=ROOT, env=environment, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
