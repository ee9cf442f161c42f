#!/usr/bin/env bash
# Makes .venv-bench, the virtual environment that the peers run in (about 1 GB). Nothing outside of it is touched but
# Debian's python3-venv, which is installed where it is missing. Safe to run twice.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/setup.sh peers
[ -x .venv-bench/bin/python ] || python3 -m venv .venv-bench
.venv-bench/bin/pip install --quiet --disable-pip-version-check --requirement bench/peers/requirements.txt
.venv-bench/bin/pip list --disable-pip-version-check --format=freeze | grep -iE '^(onnx|onnxruntime|openvino|nncf|numpy|onednn)'
