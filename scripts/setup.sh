#!/usr/bin/env bash
# Installs the Debian packages that pare needs and that are missing. Safe to run twice: with nothing missing it says
# nothing and touches nothing.
#
# usage: scripts/setup.sh [--no-install] [build|runtime|bench|peers|lint|docs|arm]…
#
#   build     everything that `make run` and `make test` need (default)
#   runtime   the torch-free part only
#   bench, peers, lint, docs, arm   what those targets need on top (peers: bench/peers/setup.sh does the rest;
#             arm: `make test-arm`)
#
# --no-install, or PARE_NO_INSTALL=1: print what is missing and stop with exit code 1 instead of installing.
# Debian's LibTorch is left out when CMAKE_PREFIX_PATH names another one.
set -euo pipefail

no_install=${PARE_NO_INSTALL:-0}
profiles=()
for argument in "$@"; do
  case "$argument" in
    --no-install) no_install=1 ;;
    build | runtime | bench | peers | lint | docs | arm) profiles+=("$argument") ;;
    -h | --help)
      sed -n '2,13s/^# \{0,1\}//p' "$0"
      exit 0
      ;;
    *)
      echo "setup: unknown argument '$argument' (try --help)" >&2
      exit 2
      ;;
  esac
done
[ ${#profiles[@]} -gt 0 ] || profiles=(build)

runtime_packages=(
  g++ cmake ninja-build ccache
  libcli11-dev nlohmann-json3-dev libxxhash-dev zlib1g-dev
  libpthreadpool-dev libcpuinfo-dev
  libgtest-dev librapidcheck-dev
)
training_packages=(libtomlplusplus-dev libprotozero-dev dataset-fashion-mnist)
# Without the OpenBLAS package Debian's LibTorch computes with the reference BLAS, three times slower.
libtorch_packages=(libtorch-dev libopenblas0-pthread)

has_other_libtorch() {
  local prefix
  local -a prefixes
  IFS=':;' read -r -a prefixes <<<"${CMAKE_PREFIX_PATH:-}"
  for prefix in "${prefixes[@]}"; do
    [ -n "$prefix" ] && [ -f "$prefix/share/cmake/Torch/TorchConfig.cmake" ] && return 0
  done
  return 1
}

wanted=()
for profile in "${profiles[@]}"; do
  case "$profile" in
    runtime) wanted+=("${runtime_packages[@]}") ;;
    build)
      wanted+=("${runtime_packages[@]}" "${training_packages[@]}")
      has_other_libtorch || wanted+=("${libtorch_packages[@]}")
      ;;
    bench) wanted+=(libbenchmark-dev libdnnl-dev) ;;
    peers) wanted+=(python3-venv) ;;
    lint) wanted+=(clang-format clang-tidy shellcheck) ;;
    docs) wanted+=(doxygen) ;;
    # GoogleTest as sources, which are compiled for the other processor; of the rest only headers are needed.
    arm) wanted+=(g++-aarch64-linux-gnu qemu-user googletest) ;;
  esac
done

missing=()
for package in "${wanted[@]}"; do
  status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$no_install" != 0 ]; then
  echo "setup: missing: ${missing[*]}" >&2
  echo "setup: install them with: apt-get install ${missing[*]}" >&2
  exit 1
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "setup: missing: ${missing[*]}; run as root, or install sudo" >&2
    exit 1
  }
  as_root=(sudo)
fi

echo "setup: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
run_apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    echo "setup: 'apt-get $*' failed" >&2
    exit 1
  }
}
run_apt update
run_apt install --yes --no-install-recommends "${missing[@]}"
