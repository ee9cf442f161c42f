#!/usr/bin/env bash
# All checks of form. clang-tidy reads the torch-free floors only: torch/torch.h costs it half a minute a file. It does
# not read the register tiles either, whose unrolled loops cost it minutes, nor what another processor compiles.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/check_format.sh
scripts/check_floors.sh
shellcheck scripts/*.sh bench/peers/*.sh .ci/run && echo "shellcheck: scripts in order"

# Always: clang-tidy needs the flags of files that came in since.
cmake --preset runtime-only >/dev/null
mapfile -t files < <(git ls-files 'src/base/*.cc' 'src/format/*.cc' 'src/kernels/*.cc' 'src/graph/*.cc' 'src/channels/*.cc' 'src/runtime/*.cc' \
  'src/cli/pare_run*.cc' | grep -vE '_(test|bench)\.cc$|/testing/|/tile_[a-z0-9_]*(avx|neon)|_neon_')
printf '%s\n' "${files[@]}" | xargs -P "$(nproc)" -n 4 clang-tidy -p build/runtime-only --quiet \
  --extra-arg=-Wno-unknown-warning-option 2>/dev/null
echo "clang-tidy: ${#files[@]} files in order"
