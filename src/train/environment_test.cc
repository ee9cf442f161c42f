#include "pare/train/environment.h"

#include <gtest/gtest.h>

#include <climits>

#include "pare/base/testing.h"
#include "pare/base/threads.h"

namespace pare::train {
namespace {

TEST(Environment, CpuIsADevice) { EXPECT_EQ(parse_device("cpu"), torch::Device(torch::kCPU)); }

TEST(Environment, NamesThatAreNoDeviceAreRefused) {
  for (const char* name : {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:4294967296", "cpu:0"}) {
    EXPECT_PARE_ERROR(parse_device(name), kInvalidArgument, "device") << name;
  }
}

TEST(Environment, ADeviceThatIsNotThereSaysWhatThisLibTorchSees) {
  EXPECT_PARE_ERROR(parse_device("cuda:127"), kUnsupported, "CUDA");
  if (torch::cuda::device_count() == 0) {
    EXPECT_PARE_ERROR(parse_device("cuda"), kUnsupported, libtorch_version());
  }
}

TEST(Environment, ConfiguringSetsTheThreadsAndMayBeRepeated) {
  configure_process(1);
  EXPECT_EQ(at::get_num_threads(), 1);
  configure_process();
  EXPECT_EQ(at::get_num_threads(), static_cast<int>(available_cores()));
  EXPECT_PARE_ERROR(configure_process(100'000), kInvalidArgument, "threads");
}

}  // namespace
}  // namespace pare::train
