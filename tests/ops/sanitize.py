"""Runs tests on a C++ op that was built with AddressSanitizer and UndefinedBehaviorSanitizer: `make sanitize`.

The op is built into a copy of the package, so the one in use stays as it is. Both sanitizers write their reports into
the folder; the log holds them behind what the tests printed. Any report is a failure, also where every test passed.
It takes g++ on Linux.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
OP = Path("reminding/ops/_sab_cpu.abi3.so")
CHECKS = "-fsanitize=address,undefined -fno-omit-frame-pointer -fno-wrapv -g1"
TESTS = ("tests/ops", "tests/nn", "-m", "not slow")


def build(folder: Path) -> Path:
    """Build the op with sanitizers; the folder in which `reminding` is then found."""
    source = folder / "src"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("*.so", "__pycache__", "*.egg-info"))
    places = ("--build-lib", str(folder / "lib"), "--build-temp", str(folder / "objects"))
    flags = {"CFLAGS": CHECKS, "CXXFLAGS": CHECKS, "LDFLAGS": "-fsanitize=address,undefined"}
    subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--force", *places], cwd=ROOT, env={**os.environ, **flags}, check=True
    )
    built = folder / "lib" / OP
    if not built.exists():  # setup.py lets an op that does not compile go
        raise SystemExit("the op was not built; the compiler's messages are above")
    shutil.copy(built, source / OP)
    return source


def library(name: str) -> str:
    """Where g++ finds a library."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return str(Path(found.stdout.strip()).resolve())


def environment(source: Path, reports: Path) -> dict[str, str]:
    """What a process needs that loads a library with sanitizers into a Python without.

    The C++ library comes first besides, since exceptions are otherwise thrown before AddressSanitizer knows how.
    """
    common = f"log_path={reports / 'report'}:print_stacktrace=1"
    return {
        **os.environ,
        "PYTHONPATH": str(source),
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so.6')}",
        "ASAN_OPTIONS": f"{common}:detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": common,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }


def run(source: Path, folder: Path, words: list[str]) -> int:
    """Run pytest, and say how it ended: 0 where every test passed and no sanitizer reported anything."""
    reports = folder / "reports"
    shutil.rmtree(reports, ignore_errors=True)
    reports.mkdir(parents=True)
    log = folder / "sanitize.log"
    with log.open("w") as out:
        command = [sys.executable, "-m", "pytest", *words]
        ended = subprocess.run(command, cwd=ROOT, env=environment(source, reports), stdout=out, stderr=out, check=False)
        found = sorted(reports.iterdir())
        for report in found:
            out.write(f"\n{report.name}\n{report.read_text(errors='replace')}")
    print("\n".join(log.read_text(errors="replace").splitlines()[-15:]))
    print(f"{len(found)} processes with reports of the sanitizers, pytest ended with {ended.returncode}; see {log}")
    return ended.returncode or int(bool(found))


def main() -> int:
    """Build, and run the tests."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/sanitize"), help="folder for the build and the log")
    parser.add_argument("--built", action="store_true", help="take the op that is already there")
    options, words = parser.parse_known_args()
    folder = options.out.resolve()
    source = folder / "src" if options.built else build(folder)
    return run(source, folder, words or list(TESTS))


if __name__ == "__main__":
    sys.exit(main())
