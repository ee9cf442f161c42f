// pare's kernels and oneDNN as contestants: operands made, weights packed, results checked, ready to be timed.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "bench/huge_buffer.h"
#include "bench/onednn.h"
#include "bench/operands.h"
#include "bench/round_robin.h"
#include "pare/base/cpu.h"
#include "pare/base/threads.h"
#include "pare/kernels/depthwise/depthwise.h"
#include "pare/kernels/qconv/qconv.h"
#include "pare/kernels/qgemm/qgemm.h"

namespace pare::bench {

// C[m, n] from A[m, k]; a call runs `layers` such products, each with weights of its own: with enough of them the
// weights come from DRAM.
struct GemmShape {
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t layers = 1;
  [[nodiscard]] std::string name() const;  // "128x768x768", "8 x 1x4096x4096"
};

// A convolution of one image, stride 1, "same" padding.
struct ConvShape {
  std::int64_t extent = 0, in_c = 0, out_c = 0, kernel = 0;
  [[nodiscard]] std::string name() const;  // "3x3 56x56 64-64"
};

// One filter a channel.
struct DepthwiseShape {
  std::int64_t extent = 0, channels = 0, kernel = 3;
  [[nodiscard]] std::string name() const;  // "3x3 56x56 128"
};

struct Prepared {
  Contestant contestant;
  bool is_peer = false;
  Pattern pattern;
  Isa isa = Isa::kScalar;                // of the kernel that was found, own ones only
  const std::uint8_t* output = nullptr;  // what a call writes
  std::shared_ptr<void> keep;            // what the contestant runs on
  std::vector<std::string> trouble;  // results that disagree with the reference; such a contestant must not be timed
};

// What all contestants of one shape share: the activations.
class GemmField {
 public:
  GemmField(const GemmShape& shape, std::uint64_t seed);

  // pare's kernel for the pattern on `isa` or the nearest weaker one. `pool`: null for the calling thread alone.
  [[nodiscard]] Prepared own(const Pattern& pattern, Isa isa, ThreadPool* pool = nullptr) const;
  // Both primitives of every oneDNN, on the weights of `own_dense`, with whose results theirs are compared; what oneDNN
  // cannot do is left out.
  [[nodiscard]] std::vector<Prepared> peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const;

 private:
  GemmShape shape_;
  std::uint64_t seed_;
  std::shared_ptr<HugeBuffer<std::uint8_t>> padded_;  // rows 64 bytes longer than k, as the runtime lays them out
  std::shared_ptr<HugeBuffer<std::uint8_t>> plain_;
};

class ConvField {
 public:
  ConvField(const ConvShape& shape, std::uint64_t seed);
  [[nodiscard]] Prepared own(const Pattern& pattern, Isa isa) const;
  [[nodiscard]] std::vector<Prepared> peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const;

 private:
  ConvShape shape_;
  std::uint64_t seed_;
  std::shared_ptr<HugeBuffer<std::uint8_t>> x_;
};

class DepthwiseField {
 public:
  DepthwiseField(const DepthwiseShape& shape, std::uint64_t seed);
  [[nodiscard]] Prepared own(const Pattern& dense, Isa isa) const;
  [[nodiscard]] std::vector<Prepared> peers(const std::vector<OneDnn>& onednn, const Prepared& own_dense) const;

 private:
  DepthwiseShape shape_;
  std::uint64_t seed_;
  std::shared_ptr<HugeBuffer<std::uint8_t>> x_;
};

}  // namespace pare::bench
