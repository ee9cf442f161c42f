#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "pare/base/strings.h"
#include "pare/base/testing.h"
#include "pare/graph/testing/random_artifact.h"
#include "pare/runtime/capi/capi_calls.h"
#include "pare/runtime/evaluate.h"
#include "pare/runtime/session.h"
#include "pare/runtime/testing/temporary_artifact.h"

namespace pare::runtime {
namespace {

constexpr std::int64_t kCount = 5;

std::vector<float> expected_logits(const std::filesystem::path& path, const std::vector<std::uint8_t>& images) {
  Session session = Session::load(path, {.threads = 1});
  std::vector<float> logits(static_cast<std::size_t>(kCount * session.classes()));
  session.run(images, kCount, logits);
  return logits;
}

TEST(CApi, GivesTheLogitsOfTheCppApiAndReportsErrors) {
  const testing::TemporaryArtifact file(graph::testing::odd_artifact(21, true));
  const std::vector<std::uint8_t> images = testing::random_images(21, kCount, 3 * 13 * 11);
  std::vector<float> logits(kCount * 3);
  const char* problem = check_c_api(file.path().c_str(), images.data(), kCount, logits.data(), logits.size());
  EXPECT_EQ(problem, nullptr) << problem;
  EXPECT_EQ(logits, expected_logits(file.path(), images));
}

TEST(CApi, TheSharedLibraryServesAProgramThatIsPureC) {
  const testing::TemporaryArtifact file(graph::testing::odd_artifact(22, false));
  const std::vector<std::uint8_t> images = testing::random_images(22, kCount, 3 * 13 * 11);
  const std::string in = file.path().string() + ".images";
  const std::string out = file.path().string() + ".logits";
  pare::testing::put_file(in, {reinterpret_cast<const char*>(images.data()), images.size()});
  const std::string command =
      str_cat(PARE_CAPI_PROGRAM, " ", file.path().string(), " ", in, " ", 3 * 13 * 11, " ", out, " ", kCount, " 3");
  ASSERT_EQ(std::system(command.c_str()), 0) << command;
  const std::vector<float> expected = expected_logits(file.path(), images);
  const std::string bytes = pare::testing::get_file(out);
  ASSERT_EQ(bytes.size(), expected.size() * sizeof(float));
  EXPECT_EQ(std::memcmp(bytes.data(), expected.data(), bytes.size()), 0);
}

// examples/c_api/classify.c, as a reader would run it.
TEST(CApi, TheExampleClassifiesAnImage) {
  const testing::TemporaryArtifact file(graph::testing::odd_artifact(24, true));
  const std::vector<std::uint8_t> images = testing::random_images(24, kCount, 3 * 13 * 11);
  const std::vector<float> logits = expected_logits(file.path(), images);
  const std::string in = file.path().string() + ".image";
  const std::string out = file.path().string() + ".out";
  const auto run = [&](std::string_view image) {
    pare::testing::put_file(in, image);
    const std::string command = str_cat(PARE_C_API_EXAMPLE, " ", file.path().string(), " ", in, " > ", out, " 2>&1");
    return std::system(command.c_str());
  };
  const std::string_view image(reinterpret_cast<const char*>(images.data()), 3 * 13 * 11);
  EXPECT_EQ(run(image), 0);
  const std::int64_t best = predicted_class(std::span<const float>(logits).first(3));
  EXPECT_TRUE(pare::testing::get_file(out).starts_with(str_cat("class ", best, " (class ", best, ", ")))
      << pare::testing::get_file(out);
  EXPECT_NE(run(image.substr(1)), 0);
  EXPECT_NE(pare::testing::get_file(out).find("exactly 429 bytes"), std::string::npos) << pare::testing::get_file(out);
}

TEST(CApi, ADamagedFileIsRefusedAndVerifyNamesThePromise) {
  const testing::TemporaryArtifact file(graph::testing::small_artifact(23, true));
  std::string bytes = pare::testing::get_file(file.path());
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 4);
  const std::string damaged = file.path().string() + ".damaged";
  pare::testing::put_file(damaged, bytes);
  pare_session* session = nullptr;
  EXPECT_EQ(pare_session_load(damaged.c_str(), nullptr, &session), PARE_CORRUPT_DATA);
  EXPECT_EQ(session, nullptr);
  EXPECT_NE(std::string(pare_last_error()).find(damaged), std::string::npos) << pare_last_error();
  EXPECT_EQ(pare_verify(damaged.c_str(), nullptr), PARE_VERIFICATION);
  EXPECT_NE(std::string(pare_last_error()).find("the file breaks its promise '"), std::string::npos)
      << pare_last_error();
}

TEST(CApi, ErrorsOfOneThreadAreNotSeenByAnother) {
  EXPECT_EQ(pare_verify(nullptr, nullptr), PARE_INVALID_ARGUMENT);
  const std::string mine = pare_last_error();
  EXPECT_NE(mine, "");
  std::string before = "unset";
  std::thread([&] {
    before = pare_last_error();
    (void)pare_session_run_u8(nullptr, nullptr, 0, 0, nullptr, 0);
  }).join();
  EXPECT_EQ(before, "");
  EXPECT_EQ(pare_last_error(), mine);
}

}  // namespace
}  // namespace pare::runtime
