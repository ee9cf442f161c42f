# The commands of the project. `make help` lists them.
#
#   PARE_NO_INSTALL=1       never install packages; say what is missing instead
#   CMAKE_PREFIX_PATH=DIR   another LibTorch than Debian's (the folder of a PyTorch 2.x wheel will do)
#   PARE_BENCH_PEERS=0      `make bench` without the other runtimes
#   RECIPE=…, OUT=…         what `make run` runs, and where it puts what it makes

RECIPE ?= recipes/fashion_mnist.toml
OUT    ?= runs/$(basename $(notdir $(RECIPE)))
JOBS   ?= $(shell nproc)

export CMAKE_PREFIX_PATH

.DEFAULT_GOAL := help
.PHONY: help run quick test bench bench-kernels bench-smoke bench-peers-setup format lint docs install clean setup \
        test-asan-ubsan test-tsan test-runtime-only test-dev test-libtorch2 test-arm

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install missing Debian packages (scripts/setup.sh --help)
	@scripts/setup.sh build

run: setup ## train, prune, quantize, convert and run the network of $(RECIPE)
	@scripts/build.sh release pare pare-run
	@scripts/run_recipe.sh build/release $(RECIPE) $(OUT)

quick: setup ## the same flow in under a minute
	@$(MAKE) --no-print-directory run RECIPE=recipes/quick.toml

test: setup ## build and run all tests
	@scripts/build.sh release
	@ctest --preset release --parallel $(JOBS)

test-asan-ubsan: setup ## all tests under AddressSanitizer and UndefinedBehaviorSanitizer
	@scripts/build.sh asan-ubsan
	@ctest --preset asan-ubsan --parallel $(JOBS)

test-tsan: setup ## the torch-free tests under ThreadSanitizer
	@scripts/build.sh tsan
	@ctest --preset tsan --parallel $(JOBS)

test-dev: setup ## all tests of the build with the standard library's checks
	@scripts/build.sh dev
	@ctest --preset dev --parallel $(JOBS)

test-runtime-only: ## the torch-free part alone, as on a machine without LibTorch
	@scripts/setup.sh runtime
	@scripts/build.sh runtime-only
	@ctest --preset runtime-only --parallel $(JOBS)

test-libtorch2: setup ## all tests against PyTorch 2.13's LibTorch (a wheel in .venv-torch)
	@scripts/test_libtorch2.sh

test-arm: ## the kernels' tests for 64-bit ARM, cross-compiled and run under qemu-user
	@scripts/setup.sh runtime arm
	@scripts/test_arm.sh

bench: ## the table of speed goals on this machine, into bench/results/ (docs/benchmarks.md)
	@scripts/setup.sh runtime bench
	@scripts/bench.sh table

bench-kernels: ## every kernel of every instruction set, by Google Benchmark
	@scripts/setup.sh runtime bench
	@scripts/bench.sh kernels

bench-smoke: ## whether the benchmark programs work: one shape, one round, nothing kept
	@scripts/setup.sh runtime bench
	@scripts/bench.sh smoke

bench-peers-setup: ## install what `make bench` compares with, into .venv-bench (about 1 GB)
	@bench/peers/setup.sh

format: ## clang-format all sources in place
	@scripts/setup.sh lint
	@scripts/check_format.sh --fix

lint: ## clang-format, include order of the floors, shellcheck, clang-tidy on the torch-free floors
	@scripts/setup.sh runtime lint
	@scripts/lint.sh

docs: ## API reference into build/docs/html
	@scripts/setup.sh docs
	@mkdir -p build/docs && doxygen docs/Doxyfile
	@echo "build/docs/html/index.html"

install: setup ## install into $(PREFIX) (default /usr/local)
	@scripts/build.sh release
	@cmake --install build/release $(if $(PREFIX),--prefix $(PREFIX))

clean: ## remove what was built (runs/ stays)
	@rm -rf build
