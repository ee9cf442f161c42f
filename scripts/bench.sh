#!/usr/bin/env bash
# Builds and runs every benchmark. Compare ratios inside one program's output; times drift between runs.
set -euo pipefail
cd "$(dirname "$0")/.."

cmake --preset release -DPARE_BUILD_BENCH=ON >/dev/null
cmake --build build/release
for program in build/release/bin/*_bench; do
  echo "== ${program##*/}"
  "$program"
done
