"""Runs tests on a C++ op that was built with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

The op is built into a copy of the package, so the installed op is not changed. A sanitizer ends the process with its
first report, so that no test survives it, and the report is in the log. This needs g++ on Linux.
"""

from __future__ import annotations

import argparse
import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OP = Path("reminding/ops/cpu_op/_sab_cpu.abi3.so")
SANITIZERS = "-fsanitize=address,undefined"
CHECKS = (SANITIZERS, "-fno-sanitize-recover=undefined", "-fno-omit-frame-pointer", "-fno-wrapv", "-g1", "-O1")
JOBS = 2
"""Sources compiled at once: the largest takes a gigabyte or so."""
TESTS = ("tests/ops", "tests/nn", "-m", "not slow")
REPORTS = ("ERROR: AddressSanitizer", "runtime error:")


def build(folder: Path) -> Path:
    """Build the op with sanitizers; returns the folder that holds the package `reminding`."""
    source, objects = folder / "src", folder / "objects"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    objects.mkdir(parents=True, exist_ok=True)
    op = extension()
    places = [*op.include_dirs, sysconfig.get_path("include")]
    settings = [f"-I{place}" for place in places] + [f"-D{name}={value}" for name, value in op.define_macros]
    settings += [*op.extra_compile_args, *CHECKS]  # whose -O1 comes behind the op's own -O3
    made = [objects / f"{number}-{Path(name).stem}.o" for number, name in enumerate(op.sources)]

    def compile_one(name: str, to: Path) -> None:
        subprocess.run(["g++", "-fPIC", *settings, "-c", name, "-o", str(to)], cwd=ROOT, check=True)

    with ThreadPoolExecutor(JOBS) as pool:
        list(pool.map(compile_one, op.sources, made))
    libraries = [f"-L{place}" for place in op.library_dirs] + [f"-l{name}" for name in op.libraries]
    link = ["g++", "-shared", SANITIZERS, *map(str, made), *libraries, "-o", str(source / OP)]
    subprocess.run(link, cwd=ROOT, check=True)
    return source


def extension() -> Any:
    """What setup.py says of how the op is built."""
    importlib.import_module("setuptools")  # which provides distutils, that Python 3.12 has no more
    folder = Path.cwd()
    os.chdir(ROOT)  # whose files setup.py names
    try:
        made = importlib.import_module("distutils.core").run_setup("setup.py", stop_after="init")
    finally:
        os.chdir(folder)
    if not made.ext_modules:
        raise SystemExit("setup.py does not build the op here; its message is above")
    return made.ext_modules[0]


def library(name: str) -> str:
    """The path at which g++ finds a library."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(found.stdout.strip()).resolve())


def environment(source: Path) -> dict[str, str]:
    """The environment of a Python without sanitizers that loads a library with them.

    The C++ library is loaded early too, or exceptions would be thrown before AddressSanitizer can intercept them.
    """
    return {
        **os.environ,
        "PYTHONPATH": str(source),
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so.6')}",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def run(source: Path, log: Path, words: list[str]) -> int:
    """Run pytest; returns 0 if every test passed and no sanitizer reported anything."""
    # Reports are not written through Python: they must go to the log and not be captured by pytest.
    command = [sys.executable, "-m", "pytest", "--capture=sys", *words]
    with log.open("w") as out:
        ended = subprocess.run(command, cwd=ROOT, env=environment(source), stdout=out, stderr=out, check=False)
    lines = log.read_text(errors="replace").splitlines()
    found = [line for line in lines if any(report in line for report in REPORTS)]
    print("\n".join([*lines[-5:], *found, f"pytest ended with {ended.returncode}, {len(found)} reports; see {log}"]))
    return ended.returncode or int(bool(found))


def main() -> int:
    """Build the op and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/sanitize"), help="folder for the build and the log")
    parser.add_argument("--built", action="store_true", help="take the op that is already there")
    options, words = parser.parse_known_args()
    folder = options.out.resolve()
    source = folder / "src" if options.built else build(folder)
    return run(source, folder / "sanitize.log", words or list(TESTS))


if __name__ == "__main__":
    sys.exit(main())
