"""Only what pyproject.toml cannot say: the C of engine and training, compiled with the package where there is a compiler."""

from setuptools import setup

BUILD = "src/mirl/engine/native/build.py"

setup(cffi_modules=[f"{BUILD}:engine", f"{BUILD}:training"])
