// Raw pixels through the runtime, against what exact_forward showed. Test-only.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "pare/base/rng.h"
#include "pare/format/affine.h"
#include "pare/format/dtype.h"
#include "pare/runtime/session.h"

namespace pare::quant::testing {

inline constexpr float kPixelMean = 0.5F;
inline constexpr float kPixelStd = 0.25F;

// Images as a deployed program sees them, and as training does.
struct Images {
  std::int64_t count = 0;
  std::vector<std::uint8_t> pixels;
  torch::Tensor normalized;  // [count, C, H, W]
};

// `shape`: of a graph's input, [batch, C, H, W].
inline Images random_images(const Shape& shape, std::int64_t count, std::uint64_t seed) {
  Rng rng(seed, 0xB17);
  Images images{count, std::vector<std::uint8_t>(static_cast<std::size_t>(count * shape[1] * shape[2] * shape[3])),
                torch::empty({count, shape[1], shape[2], shape[3]})};
  for (std::size_t i = 0; i < images.pixels.size(); ++i) {
    images.pixels[i] = static_cast<std::uint8_t>(rng.below(256));
    images.normalized.data_ptr<float>()[i] = format::normalize_pixel(images.pixels[i], kPixelMean, kPixelStd);
  }
  return images;
}

// Every value that the runtime shows is the one that exact_forward showed under that name, and so are the logits, bit
// for bit; nothing that was shown is missing.
inline void expect_runtime_gives(runtime::Session& session, const Images& images,
                                 const std::map<std::string, torch::Tensor>& shown, const torch::Tensor& logits) {
  std::set<std::string> compared;
  session.set_tap([&](const runtime::Tap& tap) {
    ASSERT_TRUE(shown.contains(tap.value)) << tap.value;
    const torch::Tensor& exact = shown.at(tap.value);
    ASSERT_EQ(tap.shape, exact.sizes().vec()) << tap.value;
    const torch::Tensor expected = tap.dtype == DType::kU8 ? exact.to(torch::kUInt8) : exact;
    ASSERT_EQ(tap.bytes.size(), expected.nbytes()) << tap.value;
    EXPECT_EQ(std::memcmp(expected.data_ptr(), tap.bytes.data(), tap.bytes.size()), 0) << tap.value;
    compared.insert(tap.value);
  });
  std::vector<float> found(static_cast<std::size_t>(logits.numel()));
  session.run(images.pixels, images.count, found);
  EXPECT_EQ(compared.size(), shown.size());
  EXPECT_EQ(std::memcmp(found.data(), logits.contiguous().data_ptr<float>(), found.size() * sizeof(float)), 0);
}

}  // namespace pare::quant::testing
