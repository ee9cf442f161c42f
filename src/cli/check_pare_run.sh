#!/usr/bin/env bash
# check_pare_run.sh PROGRAM MAX_BYTES: fails if the program, stripped, is larger, or if it or any library that it loads
# is LibTorch or protobuf.
set -euo pipefail
program=$1
max_bytes=$2

loaded=$(ldd "$program")
if grep -iE 'libtorch|libc10|libprotobuf|libonnx|not found' <<<"$loaded"; then
  echo "these must not be loaded by $program" >&2
  exit 1
fi

stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$program"
bytes=$(stat -c %s "$stripped")
echo "$program: $bytes bytes stripped, at most $max_bytes allowed"
[ "$bytes" -le "$max_bytes" ]
