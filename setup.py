"""Only what pyproject.toml cannot say: the C engine, compiled with the package where there is a C compiler."""

from setuptools import setup

setup(cffi_modules=["src/mirl/engine/native/build.py:builder"])
