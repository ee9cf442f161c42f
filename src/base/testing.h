// Helpers for tests only; no library includes this.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "pare/base/error.h"

namespace pare::testing {

// A folder of its own that is removed at the end.
class TempDir {
 public:
  TempDir() {
    std::string name = (std::filesystem::temp_directory_path() / "pare-test-XXXXXX").string();
    PARE_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  [[nodiscard]] std::filesystem::path operator/(std::string_view name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

// Neither synced nor atomic: for the inputs of a test.
inline void put_file(const std::filesystem::path& path, std::string_view contents) {
  // Some file systems flush a file that is truncated and rewritten; a new one they do not.
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  std::ofstream file(path, std::ios::binary);
  file.write(contents.data(), static_cast<std::streamsize>(contents.size()));
  PARE_CHECK(file.good());
}

[[nodiscard]] inline std::string get_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// The pare::Error that `call` throws; nothing if it returns.
template <typename Call>
[[nodiscard]] std::optional<Error> error_of(Call&& call) {
  try {
    static_cast<void>(std::forward<Call>(call)());
  } catch (const Error& error) {
    return error;
  }
  return std::nullopt;
}

[[nodiscard]] inline ::testing::AssertionResult is_error(const std::optional<Error>& error, ErrorCategory category,
                                                         std::string_view text = "") {
  if (!error)
    return ::testing::AssertionFailure() << "nothing was thrown, where '" << to_string(category) << "' belongs";
  if (error->category() != category) {
    return ::testing::AssertionFailure() << "'" << to_string(error->category()) << "' instead of '"
                                         << to_string(category) << "': " << error->what();
  }
  if (std::string_view(error->what()).find(text) == std::string_view::npos) {
    return ::testing::AssertionFailure() << "'" << error->what() << "' does not say '" << text << "'";
  }
  return ::testing::AssertionSuccess();
}

}  // namespace pare::testing

// EXPECT_PARE_ERROR(read_idx(path), kCorruptData, "truncated"): throws pare::Error of that category, what() holds that
// text.
#define EXPECT_PARE_ERROR(expression, category, text)                                            \
  EXPECT_TRUE(::pare::testing::is_error(::pare::testing::error_of([&] { return (expression); }), \
                                        ::pare::ErrorCategory::category, text))

// The same, ending the test where it does not hold.
#define ASSERT_PARE_ERROR(expression, category, text)                                            \
  ASSERT_TRUE(::pare::testing::is_error(::pare::testing::error_of([&] { return (expression); }), \
                                        ::pare::ErrorCategory::category, text))
