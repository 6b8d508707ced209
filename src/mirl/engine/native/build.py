"""How our C becomes extension modules, through cffi; run by setuptools (setup.py): the engine, and the kernels of trainings.

Both are optional: without a C compiler that knows GCC's vector extensions, or without Python's headers, the package installs
all the same, restores through a dense backend, where one is installed, and trains on PyTorch's kernels. MIRL_C_FLAGS adds
compiler options (the sanitizers of `make sanitize`).
"""

import os
import shlex
from pathlib import Path

from cffi import FFI

ENGINE, TRAINING = Path("src/mirl/engine/native"), Path("src/mirl/network/native")  # setuptools runs in the project's root
FLAGS = ("-O3", "-std=gnu11", "-pthread", "-Wno-psabi", "-fno-math-errno", "-fno-trapping-math")


def declarations(header: str) -> str:
    """Return what cffi can read of the header: everything but the preprocessor's lines."""
    return "\n".join(line for line in header.splitlines() if not line.startswith("#"))


def extension(module: str, header: Path, sources: tuple[str, ...], *others: Path) -> FFI:
    """Return the builder of a module from sources beside its header, with headers of `others` folders too."""
    extra, places = shlex.split(os.environ.get("MIRL_C_FLAGS", "")), (header.parent, *others)
    builder = FFI()
    builder.cdef(declarations(header.read_text()))
    builder.set_source(
        module,
        f'#include "{header.name}"',
        sources=[str(header.parent / name) for name in sources],
        depends=[str(path) for place in places for path in sorted(place.glob("*.h"))],
        include_dirs=[str(place) for place in places],
        extra_compile_args=[*FLAGS, *extra],
        extra_link_args=["-pthread", *extra],
        optional=True,
    )
    return builder


engine = extension(
    "mirl.engine._native",
    ENGINE / "mirl.h",
    ("mirl.c", "network.c", "variant_avx512.c", "variant_avx2.c", "variant_baseline.c"),
)
training = extension(
    "mirl.network._training",
    TRAINING / "training.h",
    ("training.c", "training_avx512.c", "training_avx2.c", "training_amx.c", "training_baseline.c"),
    ENGINE,  # its vector.h serves both
)
