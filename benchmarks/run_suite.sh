#!/usr/bin/env bash
# Measures every figure of results/bench, or of the folder given; with SUITE="growth-B loss-last" only those parts.
set -euo pipefail

out=${1:-results/bench}
parts=${SUITE:-growth-T growth-B growth-H loss-last two-threads}

bench() {
  "${REMINDING:-reminding}" bench --out "$out/$part" "$@"
}

for part in $parts; do
  case $part in
    growth-T) bench --T 100 200 400 800 1600 3200 6400 --repetitions 3 --max-seconds 300 --max-gigabytes 10 ;;
    growth-B) bench --T 400 --B 1 4 16 64 --max-seconds 120 --max-gigabytes 10 ;;
    growth-H) bench --T 400 --H 64 128 256 512 --max-seconds 120 --max-gigabytes 10 ;;
    loss-last) bench --T 100 400 1600 --loss last --max-seconds 120 ;;
    two-threads) bench --T 100 400 1600 --threads 2 --max-seconds 120 ;;
    *) echo "there is no part $part; there are growth-T, growth-B, growth-H, loss-last, two-threads" >&2; exit 1 ;;
  esac
done
