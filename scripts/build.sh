#!/usr/bin/env bash
# Configures (once) and builds a preset: scripts/build.sh PRESET [TARGET…]. Says nothing when there is nothing to do.
set -euo pipefail
cd "$(dirname "$0")/.."
preset=$1
shift
folder=build/$preset

# A folder that was configured with another LibTorch or another compiler has to be configured anew.
stamp="CMAKE_PREFIX_PATH=${CMAKE_PREFIX_PATH:-} CXX=${CXX:-}"
if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/configured_with" 2>/dev/null)" != "$stamp" ]; then
  rm -f "$folder/CMakeCache.txt"
  mkdir -p "$folder"
  echo "configuring $folder"
  cmake --preset "$preset" >"$folder/configure.log" 2>&1 || {
    cat "$folder/configure.log" >&2
    exit 1
  }
  printf '%s\n' "$stamp" >"$folder/configured_with"
fi

targets=()
[ $# -eq 0 ] || targets=(--target "$@")
log=$folder/build.log
# On a terminal Ninja's one moving line is enough; elsewhere its output is kept for the case of a failure.
if [ -t 1 ]; then
  cmake --build "$folder" "${targets[@]}"
elif ! cmake --build "$folder" "${targets[@]}" -- -n | grep -q 'no work to do'; then
  echo "building $folder (minutes, the first time; $log)"
  cmake --build "$folder" "${targets[@]}" >"$log" 2>&1 || {
    grep -vE '^\[[0-9]+/[0-9]+\] (Building|Linking|Generating)' "$log" >&2
    exit 1
  }
fi
