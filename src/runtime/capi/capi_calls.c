/* The C API as a C program sees it. check_c_api is called from a gtest (static library) and from capi_program.c (shared
 * library). Test-only. */
#include "pare/runtime/capi/capi_calls.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char failure[512];

#define EXPECT(condition)                                                                            \
  do {                                                                                               \
    if (!(condition)) {                                                                              \
      snprintf(failure, sizeof failure, "%s:%d: %s; last error: %s", __FILE__, __LINE__, #condition, \
               pare_last_error());                                                                   \
      return failure;                                                                                \
    }                                                                                                \
  } while (0)

/* The handle of a failed load is null, and the message says what was wrong. */
static const char* check_load_errors(const char* model) {
  pare_session* session = (pare_session*)&failure;
  EXPECT(pare_session_load("/does/not/exist.pare", NULL, &session) == PARE_NOT_FOUND);
  EXPECT(session == NULL);
  EXPECT(strstr(pare_last_error(), "/does/not/exist.pare") != NULL);
  EXPECT(pare_session_load(NULL, NULL, &session) == PARE_INVALID_ARGUMENT);
  EXPECT(strstr(pare_last_error(), "path is null") != NULL);
  EXPECT(pare_session_load(model, NULL, NULL) == PARE_INVALID_ARGUMENT);

  pare_session_options options;
  memset(&options, 0, sizeof options);
  EXPECT(pare_session_load(model, &options, &session) == PARE_INVALID_ARGUMENT);
  EXPECT(strstr(pare_last_error(), "struct_size") != NULL);
  options.struct_size = sizeof options;
  options.max_batch = -1;
  EXPECT(pare_session_load(model, &options, &session) == PARE_INVALID_ARGUMENT);
  EXPECT(session == NULL);
  EXPECT(strstr(pare_last_error(), "max_batch") != NULL);

  /* A program compiled against a later header, whose new option this library does not know. */
  struct {
    pare_session_options known;
    int64_t later;
  } newer;
  memset(&newer, 0, sizeof newer);
  newer.known.struct_size = sizeof newer;
  EXPECT(pare_session_load(model, &newer.known, &session) == PARE_OK);
  pare_session_free(session);
  newer.later = 1;
  EXPECT(pare_session_load(model, &newer.known, &session) == PARE_INVALID_ARGUMENT);
  return NULL;
}

static const char* check_null_session(void) {
  int64_t shape[3];
  float logit = 0;
  EXPECT(pare_session_input_shape(NULL, shape) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_session_classes(NULL) == 0);
  EXPECT(pare_session_class_name(NULL, 0) == NULL);
  EXPECT(pare_session_run_u8(NULL, NULL, 0, 0, &logit, 1) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_session_run_f32(NULL, NULL, 0, 0, &logit, 1) == PARE_INVALID_ARGUMENT);
  pare_session_free(NULL);
  return NULL;
}

const char* check_c_api(const char* model, const uint8_t* images, int64_t count, float* logits, size_t logits_count) {
  const char* problem = check_load_errors(model);
  if (problem == NULL) problem = check_null_session();
  if (problem != NULL) return problem;

  pare_session_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.threads = 2;
  options.max_batch = 2;
  pare_session* session = NULL;
  EXPECT(pare_session_load(model, &options, &session) == PARE_OK);
  int64_t shape[3] = {0, 0, 0};
  EXPECT(pare_session_input_shape(session, shape) == PARE_OK);
  EXPECT(pare_session_input_shape(session, NULL) == PARE_INVALID_ARGUMENT);
  const int64_t elems = shape[0] * shape[1] * shape[2];
  const int64_t classes = pare_session_classes(session);
  EXPECT(elems > 0 && classes > 0);
  EXPECT(logits_count == (size_t)(count * classes));
  EXPECT(strcmp(pare_session_class_name(session, 0), "class 0") == 0);
  EXPECT(pare_session_class_name(session, classes) == NULL);
  EXPECT(pare_session_class_name(session, -1) == NULL);

  const size_t images_count = (size_t)(count * elems);
  EXPECT(pare_session_run_u8(session, images, images_count - 1, count, logits, logits_count) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_session_run_u8(session, NULL, images_count, count, logits, logits_count) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_session_run_u8(session, images, images_count, count, NULL, logits_count) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_session_run_u8(session, images, images_count, count, logits, logits_count) == PARE_OK);

  float* zeros = calloc(images_count, sizeof *zeros);
  float* others = calloc(logits_count, sizeof *others);
  EXPECT(zeros != NULL && others != NULL);
  const pare_status status = pare_session_run_f32(session, zeros, images_count, count, others, logits_count);
  const int is_same_for_all = memcmp(others, others + classes, (size_t)classes * sizeof *others) == 0;
  free(zeros);
  free(others);
  EXPECT(status == PARE_OK && is_same_for_all);
  pare_session_free(session);

  int64_t facts = 0;
  EXPECT(pare_verify(model, &facts) == PARE_OK && facts > 0);
  EXPECT(pare_verify(model, NULL) == PARE_OK);
  EXPECT(pare_verify(NULL, NULL) == PARE_INVALID_ARGUMENT);
  EXPECT(pare_verify("/does/not/exist.pare", &facts) == PARE_NOT_FOUND && facts == 0);
  EXPECT(strlen(pare_version()) >= 5);
  EXPECT(strcmp(pare_status_name(PARE_CORRUPT_DATA), "corrupt data") == 0);
  EXPECT(strcmp(pare_status_name((pare_status)99), "unknown status") == 0);
  return NULL;
}
