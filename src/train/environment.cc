#include "pare/train/environment.h"

#include <dlfcn.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include <charconv>
#include <climits>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/base/threads.h"

namespace pare::train {
namespace {

constexpr std::size_t kMaxThreads = 1024;

void keep_heap() {
#if defined(__GLIBC__)
  // No block is mapped on its own, however large (M_MMAP_THRESHOLD alone cannot be raised above 32 MiB), and the top of
  // the heap is not given back. The heap grows in large strides, which saves calls to brk.
  mallopt(M_MMAP_MAX, 0);
  mallopt(M_TRIM_THRESHOLD, INT_MAX);
  mallopt(M_TOP_PAD, 64 << 20);
#endif
}

// OpenBLAS brings a pool of its own, whose threads spin beside OpenMP's for the same cores. It is looked up at run
// time: a LibTorch that was built with MKL has no such function.
void set_blas_threads(int threads) {
  using SetThreads = void (*)(int);
  if (void* const symbol = dlsym(RTLD_DEFAULT, "openblas_set_num_threads")) {
    reinterpret_cast<SetThreads>(symbol)(threads);
  }
}

}  // namespace

void configure_process(std::size_t threads) {
  if (threads > kMaxThreads) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat(threads, " threads"), "threads",
                str_cat("at most ", kMaxThreads, "; 0 takes one per core"));
  }
  keep_heap();
  at::set_num_threads(static_cast<int>(threads == 0 ? available_cores() : threads));
  set_blas_threads(1);
}

torch::Device parse_device(const std::string& name) {
  if (name == "cpu") {
    return torch::kCPU;
  }
  int index = 0;
  bool well_formed = name == "cuda";
  if (name.rfind("cuda:", 0) == 0) {
    const char* const end = name.data() + name.size();
    const auto [stop, fault] = std::from_chars(name.data() + 5, end, index);
    well_formed = fault == std::errc() && stop == end && index >= 0 && index <= 127;
  }
  if (!well_formed) {
    throw Error(ErrorCategory::kInvalidArgument, str_cat("there is no device '", name, "'"), "device",
                "it is \"cpu\", \"cuda\" or \"cuda:<n>\"");
  }
  const auto devices = static_cast<int>(torch::cuda::device_count());
  if (index >= devices) {
    throw Error(ErrorCategory::kUnsupported,
                str_cat("device '", name, "' is not there: this LibTorch (", libtorch_version(), ") sees ", devices,
                        " CUDA devices"),
                "device", "use \"cpu\", or a LibTorch that was built with CUDA on a machine that has it");
  }
  return {torch::kCUDA, static_cast<torch::DeviceIndex>(index)};
}

std::string libtorch_version() { return TORCH_VERSION; }

}  // namespace pare::train
