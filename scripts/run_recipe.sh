#!/usr/bin/env bash
# Runs a recipe, classifies a few test images with the torch-free program, and ends with the summary:
# run_recipe.sh BUILD_FOLDER RECIPE OUT
set -euo pipefail
build=$1
recipe=$2
out=$3

# Continues an unfinished run, starts a new one, and leaves a finished one alone (it says so).
code=0
"$build/bin/pare" run "$recipe" --out "$out" --resume --no-summary || code=$?
case $code in
  0 | 3 | 4) ;; # 3, 4: less accurate than the recipe accepts, or not verified; all files are kept and worth a look
  *) exit "$code" ;;
esac

if [ "$code" -eq 0 ]; then
  images=${PARE_DATA:-/usr/share/datasets/fashion-mnist}
  [ -d "$images/fashion-mnist" ] && images=$images/fashion-mnist
  echo
  echo "the first test images, classified by pare-run (no LibTorch in it):"
  "$build/bin/pare-run" infer "$out/model.pare" \
    --images "$images/t10k-images-idx3-ubyte.gz" --labels "$images/t10k-labels-idx1-ubyte.gz" --first 5
fi
"$build/bin/pare" report "$out"
exit "$code"
