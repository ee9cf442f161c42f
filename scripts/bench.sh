#!/usr/bin/env bash
# Measures the table of goals on this machine and writes bench/results/<cpu>.md and .json (docs/benchmarks.md).
#
# usage: scripts/bench.sh [table|kernels|smoke]
#
#   table     (default) everything that has a goal: kernels against oneDNN, networks against the int8 runtimes
#   kernels   every *_bench program: each kernel of each instruction set by Google Benchmark, without goals
#   smoke     one shape, one round, nothing kept: whether the programs work
#
#   PARE_BENCH_PEERS=0              leave out what needs .venv-bench (`make bench-peers-setup`)
#   PARE_BENCH_ROUNDS=25            rounds of each comparison
#   PARE_BENCH_CLOCK=wall           or cpu, for what is compared from Python on a machine that others use, too
#   PARE_BENCH_PRESET=runtime-only  the build; with `kernels`, "release" has the benchmarks of training, too
set -euo pipefail
cd "$(dirname "$0")/.."

what=${1:-table}
preset=${PARE_BENCH_PRESET:-runtime-only}
rounds=${PARE_BENCH_ROUNDS:-25}
build=build/$preset
parts=build/bench

# build.sh first, so that its own record of how the folder was configured holds.
configure_and_build() {
  scripts/build.sh "$preset" pare_runtime_c
  cmake --preset "$preset" -DPARE_BUILD_BENCH=ON >/dev/null
  scripts/build.sh "$preset" "$@"
}

case $what in
  kernels)
    configure_and_build pare_benches
    for program in "$build"/bin/*_bench; do
      echo "== ${program##*/}"
      "$program"
    done
    exit 0
    ;;
  smoke)
    configure_and_build bench_test kernel_table bench_network bench_report
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    "$build/bin/bench_test" --gtest_brief=1
    "$build/bin/kernel_table" --rounds 1 --sections gemm --match 'GEMM 16x*' --out "$folder/1.json"
    "$build/bin/bench_network" export --network convnet --pattern 64:1:4 --folder "$folder/convnet"
    "$build/bin/bench_report" "$folder/results" "$folder/1.json"
    exit 0
    ;;
  table) ;;
  *)
    echo "bench: unknown argument '$what' (table, kernels or smoke)" >&2
    exit 2
    ;;
esac

configure_and_build kernel_table pare_bench_gemm bench_network bench_report pare-run pare_runtime_c
rm -f "$parts"/*.json
wrong=0

echo "== kernels"
"$build/bin/kernel_table" --rounds "$rounds" --out "$parts/1_kernels.json" || wrong=1
if grep -qw avx2 /proc/cpuinfo; then
  echo "== kernels, AVX2 forced"
  PARE_ISA=avx2 "$build/bin/kernel_table" --rounds "$rounds" --sections gemm,noise --out "$parts/2_avx2.json" || wrong=1
fi

python=.venv-bench/bin/python
if [ "${PARE_BENCH_PEERS:-1}" = 0 ]; then
  echo "== layers and networks against onnxruntime and OpenVINO: left out (PARE_BENCH_PEERS=0)"
elif [ ! -x $python ]; then
  echo "== layers and networks against onnxruntime and OpenVINO: not installed; 'make bench-peers-setup' does it"
else
  echo "== linear layers"
  $python bench/peers/linear_layers.py --build "$build" --rounds "$rounds" --out "$parts/3_linear.json" || wrong=1
  echo "== networks"
  $python bench/peers/end_to_end.py --build "$build" --rounds "$rounds" --out "$parts/4_networks.json" || wrong=1
  echo "== start and memory"
  $python bench/peers/start_and_memory.py --build "$build" --repeats "$rounds" --out "$parts/5_start.json" || wrong=1
fi

cpu=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -1)
cpu=${cpu:-$(uname -m)}
# Results of another compiler than the default stand beside those of the default one.
cpu+=${CXX:+ ${CXX##*/}}
name=$(tr -cs '[:alnum:]\n' '_' <<<"${cpu,,}" | sed 's/^_*//; s/_*$//')
"$build/bin/bench_report" "bench/results/$name" "$parts"/[0-9]_*.json
[ "$wrong" = 0 ] || {
  echo "bench: some results were wrong or programs failed: see above" >&2
  exit 1
}
