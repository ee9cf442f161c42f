// What verify_artifact and read_artifact say of a file that is not sound. Test-only.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/artifact.h"
#include "pare/graph/testing/random_artifact.h"

namespace pare::graph::testing {

[[nodiscard]] inline std::string to_text(const VerifyReport& report) {
  std::string text;
  for (const VerifyFinding& finding : report.findings) {
    text += str_cat("[", finding.layer, "|", finding.promise, "] ", finding.problem, "\n");
  }
  return text;
}

[[nodiscard]] inline bool has_finding(const VerifyReport& report, const std::string& layer,
                                      const std::string& promise) {
  return std::any_of(report.findings.begin(), report.findings.end(), [&](const VerifyFinding& finding) {
    return finding.layer == layer && finding.promise == promise;
  });
}

// The category that read_artifact throws; nothing but kCorruptData and kUnsupported may come out of a damaged file.
[[nodiscard]] inline ErrorCategory read_category(const std::filesystem::path& path) {
  try {
    (void)read_artifact(path);
  } catch (const Error& error) {
    EXPECT_NE(error.problem(), "");
    EXPECT_NE(error.where().find(path.filename().string()), std::string::npos) << error.what();
    return error.category();
  }
  ADD_FAILURE() << "read_artifact accepted " << path;
  return ErrorCategory::kUsage;
}

[[nodiscard]] inline bool is_refusal(ErrorCategory category) {
  return category == ErrorCategory::kCorruptData || category == ErrorCategory::kUnsupported;
}

// One product, so that every bit of the file can be tried.
[[nodiscard]] inline Artifact tiny_artifact(std::uint64_t seed, bool two_four) {
  GraphOptions options;
  options.name = "tiny";
  options.image = {1, 2, 4};
  options.classes = 3;
  options.two_four = two_four;
  return random_artifact(seed, options);
}

}  // namespace pare::graph::testing
