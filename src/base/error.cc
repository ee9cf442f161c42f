#include "pare/base/error.h"

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace pare {
namespace {

std::string compose(const std::string& problem, const std::string& where, const std::string& remedy) {
  std::string text;
  if (!where.empty()) {
    text = where;
    text += ": ";
  }
  text += problem;
  if (!remedy.empty()) {
    text += "; ";
    text += remedy;
  }
  return text;
}

}  // namespace

std::string_view to_string(ErrorCategory category) {
  switch (category) {
    case ErrorCategory::kUsage:
      return "usage";
    case ErrorCategory::kInvalidArgument:
      return "invalid argument";
    case ErrorCategory::kNotFound:
      return "not found";
    case ErrorCategory::kIo:
      return "input/output";
    case ErrorCategory::kCorruptData:
      return "corrupt data";
    case ErrorCategory::kUnsupported:
      return "unsupported";
    case ErrorCategory::kState:
      return "wrong moment";
    case ErrorCategory::kNumeric:
      return "numeric";
    case ErrorCategory::kAccuracy:
      return "accuracy";
    case ErrorCategory::kVerification:
      return "verification";
  }
  PARE_CHECK(!"an ErrorCategory without a name");
}

Error::Error(ErrorCategory category, std::string problem, std::string where, std::string remedy)
    : std::runtime_error(compose(problem, where, remedy)),
      category_(category),
      problem_(std::move(problem)),
      where_(std::move(where)),
      remedy_(std::move(remedy)) {}

namespace internal {

void check_failed(const char* condition, const char* file, int line) {
  std::fprintf(stderr, "%s:%d: internal error in pare, please report it: %s does not hold\n", file, line, condition);
  std::abort();
}

}  // namespace internal
}  // namespace pare
