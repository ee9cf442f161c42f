#!/usr/bin/env bash
# Fails where clang-format would change a file; --fix changes it.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files '*.cc' '*.h' '*.c')
if [ "${1:-}" = --fix ]; then
  clang-format -i "${files[@]}"
else
  clang-format --dry-run --Werror "${files[@]}" && echo "format: ${#files[@]} files in order"
fi
