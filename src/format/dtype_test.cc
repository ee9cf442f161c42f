#include "pare/format/dtype.h"

#include <gtest/gtest.h>

#include "pare/base/testing.h"

namespace pare {
namespace {

constexpr DType kAll[] = {DType::kF32, DType::kF64, DType::kU8, DType::kS8, DType::kS32, DType::kS64, DType::kBool};

TEST(DType, NamesAreThoseOfSafetensorsAndReadBack) {
  std::string names;
  for (const DType dtype : kAll) {
    names += std::string(safetensors_name(dtype)) + " ";
    EXPECT_EQ(dtype_from_safetensors_name(safetensors_name(dtype)), dtype);
  }
  EXPECT_EQ(names, "F32 F64 U8 I8 I32 I64 BOOL ");
}

TEST(DType, SizesAreThoseOfTheCppTypes) {
  EXPECT_EQ(size_bytes(DType::kF32), sizeof(float));
  EXPECT_EQ(size_bytes(DType::kF64), sizeof(double));
  EXPECT_EQ(size_bytes(DType::kU8), 1U);
  EXPECT_EQ(size_bytes(DType::kS8), 1U);
  EXPECT_EQ(size_bytes(DType::kS32), 4U);
  EXPECT_EQ(size_bytes(DType::kS64), 8U);
  EXPECT_EQ(size_bytes(DType::kBool), 1U);
}

TEST(DType, UnknownNamesAreUnsupported) {
  EXPECT_PARE_ERROR(dtype_from_safetensors_name("BF16"), kUnsupported, "BF16");
  EXPECT_PARE_ERROR(dtype_from_safetensors_name("f32"), kUnsupported, "supported: F32");
  EXPECT_PARE_ERROR(dtype_from_safetensors_name(""), kUnsupported, "");
}

TEST(ElementCount, MultipliesTheExtents) {
  EXPECT_EQ(element_count({}), 1);
  EXPECT_EQ(element_count({7}), 7);
  EXPECT_EQ(element_count({64, 32, 3, 3}), 18432);
  EXPECT_EQ(element_count({5, 0, 3}), 0);
  EXPECT_EQ(element_count({std::int64_t{1} << 62, 0}), 0);
  EXPECT_EQ(element_count({std::int64_t{1} << 20, std::int64_t{1} << 20}), std::int64_t{1} << 40);
}

TEST(ElementCount, RefusesNegativeAndAbsurd) {
  EXPECT_PARE_ERROR(element_count({3, -1}), kInvalidArgument, "[3, -1]");
  EXPECT_PARE_ERROR(element_count({0, -1}), kInvalidArgument, "negative");
  EXPECT_PARE_ERROR(element_count({(std::int64_t{1} << 40) + 1}), kInvalidArgument, "2^40");
  const std::int64_t half = std::int64_t{1} << 32;
  EXPECT_PARE_ERROR(element_count({half, half}), kInvalidArgument, "2^40");
  EXPECT_PARE_ERROR(element_count({half, half, half, half}), kInvalidArgument, "2^40");
}

TEST(Shape, PrintsLikeAList) {
  EXPECT_EQ(to_string(Shape{}), "[]");
  EXPECT_EQ(to_string(Shape{64, 32, 3, 3}), "[64, 32, 3, 3]");
}

}  // namespace
}  // namespace pare
