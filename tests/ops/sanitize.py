"""Runs tests on a C++ op that was built with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

The op is built into a copy of the package, so the one in use stays as it is. A sanitizer ends a process with its
first report, which no test survives, and the report is in the log. It takes g++ on Linux.
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
    """Build the op with sanitizers; the folder in which `reminding` is then found."""
    source = folder / "src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    places = ("--build-lib", str(folder / "lib"), "--build-temp", str(folder / "objects"))
    flags = {"CFLAGS": CHECKS, "CXXFLAGS": CHECKS, "LDFLAGS": SANITIZERS}
    command = [sys.executable, "setup.py", "build_ext", "--force", *places]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **flags}, check=True)
    built = folder / "lib" / OP
    if not built.exists():  # setup.py lets an op that does not compile go
        raise SystemExit("the op was not built; the compiler's messages are above")
    shutil.copy(built, source / OP)
    return source


def library(name: str) -> str:
    """Where g++ finds a library."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(found.stdout.strip()).resolve())


def environment(source: Path) -> dict[str, str]:
    """What a process needs that loads a library with sanitizers into a Python without.

    The C++ library comes first besides, since exceptions are otherwise thrown before AddressSanitizer knows how.
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
    """Run pytest, and say how it ended: 0 where every test passed and no sanitizer reported anything."""
    # What is written past Python, as reports are, goes to the log and not into pytest's hands.
    command = [sys.executable, "-m", "pytest", "--capture=sys", *words]
    with log.open("w") as out:
        ended = subprocess.run(command, cwd=ROOT, env=environment(source), stdout=out, stderr=out, check=False)
    lines = log.read_text(errors="replace").splitlines()
    found = [line for line in lines if any(report in line for report in REPORTS)]
    print("\n".join([*lines[-5:], *found, f"pytest ended with {ended.returncode}, {len(found)} reports; see {log}"]))
    return ended.returncode or int(bool(found))


def main() -> int:
    """Build, and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/sanitize"), help="folder for the build and the log")
    parser.add_argument("--built", action="store_true", help="take the op that is already there")
    options, words = parser.parse_known_args()
    folder = options.out.resolve()
    source = folder / "src" if options.built else build(folder)
    return run(source, folder / "sanitize.log", words or list(TESTS))


if __name__ == "__main__":
    sys.exit(main())
