// How LibTorch is set up inside this process.
#pragma once

#include <torch/torch.h>

#include <cstddef>
#include <string>

namespace pare::train {

// Keeps freed buffers in the heap (mallopt: large mmap and trim thresholds), so that they are not unmapped and faulted
// in again at every step, and OpenBLAS on one thread beside OpenMP's. Call first thing in main(), before LibTorch has
// started threads. Measured on `convnet`, batch 128, two threads: 75-130 ms a step without, 50-53 ms with
// (LibTorch 1.13).
// threads = 0: one per core that this process may run on. Results depend on the number of threads, not on timing.
// Throws kInvalidArgument above 1024.
void configure_process(std::size_t threads = 0);

// "cpu" or "cuda[:n]". Throws kInvalidArgument for any other name, kUnsupported with the reason where this LibTorch or
// this machine has no such CUDA device.
[[nodiscard]] torch::Device parse_device(const std::string& name);

[[nodiscard]] std::string libtorch_version();

}  // namespace pare::train
