"""How the C engine becomes the module `mirl.engine._native`, through cffi; run by setuptools (setup.py).

The extension is optional: without a C compiler that knows GCC's vector extensions, or without Python's headers, the package
installs all the same and restores through a dense backend, where one is installed. MIRL_C_FLAGS adds compiler options (the
sanitizers of `make sanitize`).
"""

import os
import shlex
from pathlib import Path

from cffi import FFI

PLACE = Path("src/mirl/engine/native")  # setuptools runs in the project's root
SOURCES = ("mirl.c", "network.c", "variant_avx512.c", "variant_avx2.c", "variant_baseline.c")
FLAGS = ("-O3", "-std=gnu11", "-pthread", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math")


def declarations(header: str) -> str:
    """Return what cffi can read of the header: everything but the preprocessor's lines."""
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


extra = shlex.split(os.environ.get("MIRL_C_FLAGS", ""))
builder = FFI()
builder.cdef(declarations((PLACE / "mirl.h").read_text()))
builder.set_source(
    "mirl.engine._native",
    '#include "mirl.h"',
    sources=[str(PLACE / name) for name in SOURCES],
    depends=[str(path) for path in sorted(PLACE.glob("*.h"))],
    include_dirs=[str(PLACE)],
    extra_compile_args=[*FLAGS, *extra],
    extra_link_args=["-pthread", *extra],
    optional=True,
)
