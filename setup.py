"""Only what pyproject.toml cannot say: the C of engine and training, compiled with the package where there is a compiler."""

from setuptools import setup

setup(cffi_modules=["src/mirl/engine/native/build.py:builder", "src/mirl/network/native/build.py:builder"])
