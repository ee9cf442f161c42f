#!/usr/bin/env bash
# Installs a build into a folder of its own and builds the consumer against it: run.sh BUILD_FOLDER runtime|train
set -euo pipefail
build=$1
components=$2
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cmake --install "$build" --prefix "$work/prefix" >/dev/null
cmake -S "$here" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DPARE_COMPONENTS="$components" \
  -DCMAKE_PREFIX_PATH="$work/prefix;${CMAKE_PREFIX_PATH:-}" >/dev/null
cmake --build "$work/build" >/dev/null
"$work/build/classify"
if [[ "$components" == *train* ]]; then "$work/build/prune"; fi
