#!/usr/bin/env bash
# Runs a recipe, then classifies a few test images with the torch-free program: run_recipe.sh BUILD_FOLDER RECIPE OUT
set -euo pipefail
build=$1
recipe=$2
out=$3

# Continues an unfinished run, starts a new one, and leaves a finished one alone (it says so).
"$build/bin/pare" run "$recipe" --out "$out" --resume

images=${PARE_DATA:-/usr/share/datasets/fashion-mnist}
[ -d "$images/fashion-mnist" ] && images=$images/fashion-mnist
echo
echo "the first test images, classified by pare-run (no LibTorch in it):"
"$build/bin/pare-run" infer "$out/model.pare" \
  --images "$images/t10k-images-idx3-ubyte.gz" --labels "$images/t10k-labels-idx1-ubyte.gz" --first 5
