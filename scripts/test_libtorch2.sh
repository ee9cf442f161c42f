#!/usr/bin/env bash
# Builds and tests against the LibTorch inside a PyTorch wheel: $LIBTORCH if that is set, else one in .venv-torch.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${LIBTORCH:-}" ]; then
  if [ ! -d .venv-torch ]; then
    echo "setup: a Python environment with torch 2.13.0 in .venv-torch"
    python3 -m venv .venv-torch
    .venv-torch/bin/pip install --quiet torch==2.13.0
  fi
  LIBTORCH=$(.venv-torch/bin/python -c 'import torch; print(torch.utils.cmake_prefix_path)')
  LIBTORCH=${LIBTORCH%/share/cmake}
fi
export CMAKE_PREFIX_PATH=$LIBTORCH
scripts/build.sh libtorch2
ctest --preset libtorch2 --parallel "$(nproc)"
