#!/usr/bin/env bash
# Cross-compiles the kernels for 64-bit ARM with Debian's compiler and runs their tests under qemu-user, whose default
# processor has dotprod and i8mm. Prints the kernels that were run, and fails if none of either was.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh arm kernels_test
program=(qemu-aarch64 -L /usr/aarch64-linux-gnu build/arm/bin/kernels_test)
log=build/arm/kernels_test.log
"${program[@]}" >"$log" 2>&1 || {
  cat "$log" >&2
  exit 1
}
for isa in neon_dotprod neon_i8mm; do
  grep -q "^ran: .* on $isa," "$log" || {
    echo "test_arm: no kernel for $isa was run ($log)" >&2
    exit 1
  }
done
grep '^ran: ' "$log"
tail -n 1 "$log"
