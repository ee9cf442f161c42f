#include "pare/runtime/capi/pare.h"

#include <algorithm>
#include <exception>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "pare/base/error.h"
#include "pare/base/strings.h"
#include "pare/graph/artifact.h"
#include "pare/runtime/session.h"

struct pare_session {
  pare::runtime::Session session;
};

namespace {

using pare::Error;
using pare::ErrorCategory;

thread_local std::string last_error;

pare_status status_of(ErrorCategory category) {
  switch (category) {
    case ErrorCategory::kNotFound:
      return PARE_NOT_FOUND;
    case ErrorCategory::kIo:
      return PARE_IO;
    case ErrorCategory::kCorruptData:
      return PARE_CORRUPT_DATA;
    case ErrorCategory::kUnsupported:
      return PARE_UNSUPPORTED;
    case ErrorCategory::kVerification:
      return PARE_VERIFICATION;
    case ErrorCategory::kUsage:
    case ErrorCategory::kInvalidArgument:
    case ErrorCategory::kState:
    case ErrorCategory::kNumeric:
    case ErrorCategory::kAccuracy:
      return PARE_INVALID_ARGUMENT;
  }
  return PARE_INTERNAL;
}

// Leaves the message empty rather than throwing where even it finds no memory.
void remember(const char* message) noexcept {
  try {
    last_error = message;
  } catch (const std::bad_alloc&) {
    last_error.clear();
  }
}

// Runs body(), and turns what it throws into a status and a message.
template <typename Body>
pare_status guarded(const Body& body) noexcept {
  try {
    body();
    return PARE_OK;
  } catch (const Error& error) {
    remember(error.what());
    return status_of(error.category());
  } catch (const std::bad_alloc&) {
    remember("not enough memory");
    return PARE_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    remember(error.what());
    return PARE_INTERNAL;
  }
}

void require(bool condition, const char* problem, const char* where) {
  if (!condition) throw Error(ErrorCategory::kInvalidArgument, problem, where);
}

pare::runtime::SessionOptions options_from(const pare_session_options* given) {
  pare::runtime::SessionOptions options;
  if (given == nullptr) return options;
  constexpr std::size_t kFirstVersionSize = sizeof(pare_session_options);
  require(given->struct_size >= kFirstVersionSize, "struct_size is not set", "pare_session_options");
  // A later header may have fields that this library does not know: they must be left at 0.
  const auto* bytes = reinterpret_cast<const unsigned char*>(given);
  for (std::size_t i = kFirstVersionSize; i < given->struct_size && i < 4096; ++i) {
    require(bytes[i] == 0, "an option is set that this version of the library does not know", "pare_session_options");
  }
  options.threads = given->threads;
  if (given->max_batch != 0) options.max_batch = given->max_batch;
  return options;
}

template <typename T>
pare_status run(pare_session* session, const T* images, std::size_t images_count, std::int64_t count, float* logits,
                std::size_t logits_count, const char* where) noexcept {
  return guarded([&] {
    require(session != nullptr, "the session is null", where);
    require(images != nullptr || images_count == 0, "images is null", where);
    require(logits != nullptr || logits_count == 0, "logits is null", where);
    session->session.run(std::span<const T>(images, images_count), count, std::span<float>(logits, logits_count));
  });
}

}  // namespace

extern "C" {

const char* pare_status_name(pare_status status) {
  switch (status) {
    case PARE_OK:
      return "ok";
    case PARE_INVALID_ARGUMENT:
      return "invalid argument";
    case PARE_NOT_FOUND:
      return "not found";
    case PARE_IO:
      return "input or output failed";
    case PARE_CORRUPT_DATA:
      return "corrupt data";
    case PARE_UNSUPPORTED:
      return "unsupported";
    case PARE_OUT_OF_MEMORY:
      return "out of memory";
    case PARE_VERIFICATION:
      return "verification failed";
    case PARE_INTERNAL:
      return "internal error";
  }
  return "unknown status";
}

const char* pare_last_error(void) { return last_error.c_str(); }

const char* pare_version(void) { return PARE_VERSION; }

pare_status pare_session_load(const char* path, const pare_session_options* options, pare_session** session) {
  if (session != nullptr) *session = nullptr;
  return guarded([&] {
    require(path != nullptr, "the path is null", "pare_session_load");
    require(session != nullptr, "there is no place for the session", "pare_session_load");
    *session = new pare_session{pare::runtime::Session::load(path, options_from(options))};
  });
}

void pare_session_free(pare_session* session) { delete session; }

pare_status pare_session_input_shape(const pare_session* session, int64_t shape[3]) {
  return guarded([&] {
    require(session != nullptr, "the session is null", "pare_session_input_shape");
    require(shape != nullptr, "shape is null", "pare_session_input_shape");
    const pare::Shape& found = session->session.input_shape();
    std::fill_n(shape, 3, 1);
    std::copy(found.begin(), found.end(), shape + 3 - found.size());
  });
}

int64_t pare_session_classes(const pare_session* session) {
  return session == nullptr ? 0 : session->session.classes();
}

const char* pare_session_class_name(const pare_session* session, int64_t index) {
  if (session == nullptr || index < 0) return nullptr;
  const std::vector<std::string>& names = session->session.class_names();
  const auto position = static_cast<std::size_t>(index);
  return position < names.size() ? names[position].c_str() : nullptr;
}

pare_status pare_session_run_u8(pare_session* session, const uint8_t* images, size_t images_count, int64_t count,
                                float* logits, size_t logits_count) {
  return run(session, images, images_count, count, logits, logits_count, "pare_session_run_u8");
}

pare_status pare_session_run_f32(pare_session* session, const float* images, size_t images_count, int64_t count,
                                 float* logits, size_t logits_count) {
  return run(session, images, images_count, count, logits, logits_count, "pare_session_run_f32");
}

pare_status pare_verify(const char* path, int64_t* facts_checked) {
  if (facts_checked != nullptr) *facts_checked = 0;
  return guarded([&] {
    require(path != nullptr, "the path is null", "pare_verify");
    const pare::graph::VerifyReport report = pare::graph::verify_artifact(path);
    if (facts_checked != nullptr) *facts_checked = report.facts_checked;
    if (report.ok()) return;
    std::string lines;
    for (const pare::graph::VerifyFinding& finding : report.findings) {
      lines += pare::str_cat("\n", finding.layer.empty() ? "the file" : finding.layer, " breaks its promise '",
                             finding.promise, "': ", finding.problem);
    }
    throw Error(ErrorCategory::kVerification, "it does not keep what it promises:" + lines, path);
  });
}

}  // extern "C"
