"""Runs tests on a C++ op that was built with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

The op is built into a copy of the package, so the installed op is not changed. A sanitizer ends the process with its
first report, so that no test survives it, and the report is in the log. This needs g++ on Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OP = Path("reminding/ops/cpu_op/_sab_cpu.abi3.so")
SANITIZERS = "-fsanitize=address,undefined"
CHECKS = f"{SANITIZERS} -fno-sanitize-recover=undefined -fno-omit-frame-pointer -fno-wrapv -g1"
TESTS = ("tests/ops", "tests/nn", "-m", "not slow")
REPORTS = ("ERROR: AddressSanitizer", "runtime error:")


def build(folder: Path) -> Path:
    """Build the op with sanitizers; returns the folder that holds the package `reminding`."""
    source = folder / "src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    places = ("--build-lib", str(folder / "lib"), "--build-temp", str(folder / "objects"))
    flags = {"CFLAGS": CHECKS, "CXXFLAGS": CHECKS, "LDFLAGS": SANITIZERS}
    command = [sys.executable, "setup.py", "build_ext", "--force", *places]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **flags}, check=True)
    built = folder / "lib" / OP
    if not built.exists():  # setup.py ignores an op that does not compile
        raise SystemExit("the op was not built; the compiler's messages are above")
    shutil.copy(built, source / OP)
    return source


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
