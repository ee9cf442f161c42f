/* The C API of the runtime: load a .pare file, classify images. C11; no other header of pare is needed.
 *
 * Every function that can fail returns a pare_status; pare_last_error() then says what was wrong, where, and what to
 * do. No function throws, aborts on bad input, or writes to the standard streams. Strings are UTF-8 and end with 0.
 *
 * A session may be used by one thread at a time; different sessions are independent.
 */
#ifndef PARE_RUNTIME_CAPI_PARE_H_
#define PARE_RUNTIME_CAPI_PARE_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PARE_API __attribute__((visibility("default")))
#else
#define PARE_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(readability-identifier-naming) C has its own names */

/* Numbers are fixed: they never change meaning in a later version. */
typedef enum pare_status {
  PARE_OK = 0,
  PARE_INVALID_ARGUMENT = 1, /* a null pointer, a size that disagrees, an impossible option */
  PARE_NOT_FOUND = 2,        /* no such file */
  PARE_IO = 3,               /* reading failed: permissions, hardware */
  PARE_CORRUPT_DATA = 4,     /* the file contradicts its format or its checksum */
  PARE_UNSUPPORTED = 5,      /* a newer format, or a PARE_ISA that this machine lacks */
  PARE_OUT_OF_MEMORY = 6,
  PARE_VERIFICATION = 7, /* pare_verify: the artifact breaks a promise that it makes */
  PARE_INTERNAL = 8      /* a bug of pare */
} pare_status;

/* "invalid argument", "not found", …; never null. */
PARE_API const char* pare_status_name(pare_status status);

/* The message of the latest call that failed in this thread, "" if none has; valid until the next call that fails. */
PARE_API const char* pare_last_error(void);

/* "0.1.0". */
PARE_API const char* pare_version(void);

/* A loaded and planned artifact. */
typedef struct pare_session pare_session;

/* Zero-initialize, then set struct_size = sizeof(pare_session_options): a program that was compiled against an older
 * header keeps working, because what it does not know counts as 0. In every field 0 is the default. */
typedef struct pare_session_options {
  size_t struct_size;
  size_t threads;    /* 0: one per core that this process may run on */
  int64_t max_batch; /* images that buffers are planned for; larger batches run in slices. 0: 64 */
} pare_session_options;

/* Maps the file, validates all of it, plans, packs. `options` may be null. On success *session is to be freed with
 * pare_session_free; on failure it is null. */
PARE_API pare_status pare_session_load(const char* path, const pare_session_options* options, pare_session** session);

/* Null is allowed. */
PARE_API void pare_session_free(pare_session* session);

/* Channels, height and width of one image; of another input its extents, with 1 in front of those it lacks. */
PARE_API pare_status pare_session_input_shape(const pare_session* session, int64_t shape[3]);

/* Numbers of the output: of a classifier, logits of one image; 0 for a null session. */
PARE_API int64_t pare_session_classes(const pare_session* session);

/* Name of a class; null if the artifact has no names, or for an index outside [0, classes). Lives as long as the
 * session. */
PARE_API const char* pare_session_class_name(const pare_session* session, int64_t index);

/* Raw pixels: `count` images, each channels x height x width bytes, row by row, one channel after the other. The
 * artifact knows how to normalize them. `logits`: count x classes floats. `images_count` and `logits_count` are the
 * numbers of elements that the two pointers have room for; they must fit exactly. Nothing is allocated after the first
 * call. */
PARE_API pare_status pare_session_run_u8(pare_session* session, const uint8_t* images, size_t images_count,
                                         int64_t count, float* logits, size_t logits_count);

/* The same for images that were normalized already: (pixel / 255 - mean) / std. The only way to run a network whose
 * input is no image: `count` times what pare_session_input_shape says. */
PARE_API pare_status pare_session_run_f32(pare_session* session, const float* images, size_t images_count,
                                          int64_t count, float* logits, size_t logits_count);

/* Re-derives from the file alone what it promises: pattern, zeros, scales, shapes, checksums. PARE_VERIFICATION if a
 * promise is broken; pare_last_error() then has a line for each. `facts_checked` may be null. */
PARE_API pare_status pare_verify(const char* path, int64_t* facts_checked);

/* NOLINTEND(readability-identifier-naming) */

#ifdef __cplusplus
}
#endif

#endif /* PARE_RUNTIME_CAPI_PARE_H_ */
