"""Builds the C++ CPU op where it can; everything else about the package is in pyproject.toml.

The op needs a C++ compiler, and PyTorch 2.10 or newer in the environment that builds (so build with
--no-build-isolation). Without them the package installs all the same and computes in pure PyTorch.
"""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup

OPS = Path("src/reminding/ops")
SOURCES = sorted(str(path) for path in OPS.rglob("*.cpp"))
HEADERS = sorted(str(path) for path in OPS.rglob("*.h"))
OLDEST_TORCH = (2, 10)


def extensions() -> list[Extension]:
    """The op as an optional extension; nothing where PyTorch is missing or too old."""
    try:
        import torch
    except ImportError:
        print("reminding: no PyTorch here while building, so without the C++ CPU op", file=sys.stderr)
        return []
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH or sys.platform == "win32":
        print("reminding: the C++ CPU op is built with PyTorch 2.10 or newer on Linux and macOS", file=sys.stderr)
        return []
    root = Path(torch.__file__).parent
    return [
        Extension(
            "reminding.ops.cpu_op._sab_cpu",
            SOURCES,
            depends=HEADERS,
            include_dirs=[str(root / "include")],
            library_dirs=[str(root / "lib")],
            libraries=["torch_cpu", "torch", "c10"],
            define_macros=[("TORCH_TARGET_VERSION", "0x020a000000000000")],
            extra_compile_args=["-O3", "-std=c++17", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math"],
            language="c++",
            py_limited_api=True,
            optional=True,
        )
    ]


setup(ext_modules=extensions())
