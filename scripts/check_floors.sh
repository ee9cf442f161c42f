#!/usr/bin/env bash
# Fails where a floor includes from a floor above it, or a torch-free floor includes LibTorch.
set -euo pipefail
cd "$(dirname "$0")/.."

floors=(base format kernels graph channels runtime train sparsity quant pipeline cli)
torch_free=(base format kernels graph channels runtime)
failures=0

declare -A level
for index in "${!floors[@]}"; do level[${floors[$index]}]=$index; done

while IFS=: read -r file line text; do
  floor=${file#src/}
  floor=${floor%%/*}
  included=$(sed -E 's|.*#include "pare/([a-z]+)/.*|\1|' <<<"$text")
  if [ -z "${level[$included]:-}" ]; then
    echo "$file:$line: '$included' is no floor: $text"
    failures=$((failures + 1))
  elif [ "${level[$included]}" -gt "${level[$floor]}" ]; then
    echo "$file:$line: $floor includes from $included, which is above it"
    failures=$((failures + 1))
  fi
done < <(grep -rnE '^#include "pare/' --include='*.h' --include='*.cc' --include='*.c' src)

for floor in "${torch_free[@]}"; do
  if grep -rnE '#include <(torch|ATen|c10)/' "src/$floor"; then
    echo "src/$floor: includes LibTorch, but this floor is torch-free"
    failures=$((failures + 1))
  fi
done

if grep -rnE '#include "' --include='*.h' --include='*.cc' --include='*.c' src | grep -v '#include "pare/'; then
  echo "includes of pare's own files are written \"pare/<floor>/<file>.h\""
  failures=$((failures + 1))
fi

[ "$failures" -eq 0 ] || exit 1
echo "floors: in order"
