"""How the training kernels become the module `mirl.network._training`, through cffi; run by setuptools (setup.py).

Optional, as the engine is: without a C compiler trainings run on PyTorch's own kernels. MIRL_C_FLAGS adds compiler options.
"""

import os
import shlex
from pathlib import Path

from cffi import FFI

PLACE = Path("src/mirl/network/native")  # setuptools runs in the project's root
ENGINE = Path("src/mirl/engine/native")  # its vector.h serves both
SOURCES = ("training.c", "training_avx512.c", "training_avx2.c", "training_amx.c", "training_baseline.c")
FLAGS = ("-O3", "-std=gnu11", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math")


def declarations(header: str) -> str:
    """Return what cffi can read of the header: everything but the preprocessor's lines."""
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


extra = shlex.split(os.environ.get("MIRL_C_FLAGS", ""))
builder = FFI()
builder.cdef(declarations((PLACE / "training.h").read_text()))
builder.set_source(
    "mirl.network._training",
    '#include "training.h"',
    sources=[str(PLACE / name) for name in SOURCES],
    depends=[str(path) for place in (PLACE, ENGINE) for path in sorted(place.glob("*.h"))],
    include_dirs=[str(PLACE), str(ENGINE)],
    extra_compile_args=[*FLAGS, *extra],
    extra_link_args=[*extra],
    optional=True,
)
