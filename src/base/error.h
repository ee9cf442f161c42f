// Errors that a user, a file or a machine can cause, and the check for those that only we can.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace pare {

enum class ErrorCategory {
  kUsage,            // the command line itself is wrong
  kInvalidArgument,  // a value in a recipe, a call or an option is impossible
  kNotFound,         // a file, layer, set or key that does not exist
  kIo,               // reading or writing failed: permissions, disk full
  kCorruptData,      // a file contradicts its format or its checksum
  kUnsupported,      // well-formed, but outside what this build can do
  kState,            // called at the wrong moment (squash_mask before QAT has finished)
  kNumeric,          // NaN or infinity where a number is needed
  kAccuracy,         // below the limit that the recipe set
  kVerification,     // an artifact breaks a promise that it makes
};

[[nodiscard]] std::string_view to_string(ErrorCategory category);

// The one exception type that pare throws for faults of input or environment.
// what() reads "<where>: <problem>; <remedy>", with the parts that are empty left out.
class Error : public std::runtime_error {
 public:
  Error(ErrorCategory category, std::string problem, std::string where = {}, std::string remedy = {});

  [[nodiscard]] ErrorCategory category() const noexcept { return category_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] const std::string& where() const noexcept { return where_; }
  [[nodiscard]] const std::string& remedy() const noexcept { return remedy_; }

 private:
  ErrorCategory category_;
  std::string problem_;
  std::string where_;
  std::string remedy_;
};

namespace internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace internal

}  // namespace pare

// For our own bugs only: aborts with file and line, in every build. Never guards input.
#define PARE_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::pare::internal::check_failed(#condition, __FILE__, __LINE__))
