/* classify MODEL.pare IMAGE: the class of one image, by the C API.
 *
 * IMAGE holds raw pixels: one byte each, channel by channel, row by row, as many as the model's input has. */
#include <pare/runtime/capi/pare.h>
#include <stdio.h>
#include <stdlib.h>

/* Reads exactly `size` bytes; 0 if the file is shorter, longer or not readable. */
static int read_exactly(const char* path, uint8_t* bytes, size_t size) {
  FILE* file = fopen(path, "rb");
  if (file == NULL) return 0;
  const int fits = fread(bytes, 1, size, file) == size && fgetc(file) == EOF;
  fclose(file);
  return fits;
}

static int64_t largest(const float* numbers, int64_t count) {
  int64_t best = 0;
  for (int64_t i = 1; i < count; ++i) {
    if (numbers[i] > numbers[best]) best = i;
  }
  return best;
}

static int classify(pare_session* session, const char* image_path) {
  int64_t shape[3];
  if (pare_session_input_shape(session, shape) != PARE_OK) return 0;
  const size_t pixels = (size_t)(shape[0] * shape[1] * shape[2]);
  const int64_t classes = pare_session_classes(session);
  uint8_t* image = malloc(pixels);
  float* logits = malloc((size_t)classes * sizeof *logits);
  int done = 0;
  if (image == NULL || logits == NULL) {
    fprintf(stderr, "classify: not enough memory\n");
  } else if (!read_exactly(image_path, image, pixels)) {
    fprintf(stderr, "classify: %s: the model takes a file of exactly %zu bytes (%lld x %lld x %lld)\n", image_path,
            pixels, (long long)shape[0], (long long)shape[1], (long long)shape[2]);
  } else if (pare_session_run_u8(session, image, pixels, 1, logits, (size_t)classes) != PARE_OK) {
    fprintf(stderr, "classify: %s\n", pare_last_error());
  } else {
    const int64_t best = largest(logits, classes);
    const char* name = pare_session_class_name(session, best);
    printf("%s (class %lld, logit %.3f)\n", name == NULL ? "unnamed" : name, (long long)best, logits[best]);
    done = 1;
  }
  free(image);
  free(logits);
  return done;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: classify MODEL.pare IMAGE\n");
    return 2;
  }
  pare_session_options options = {.struct_size = sizeof options, .threads = 1, .max_batch = 1};
  pare_session* session = NULL;
  if (pare_session_load(argv[1], &options, &session) != PARE_OK) {
    fprintf(stderr, "classify: %s\n", pare_last_error());
    return 1;
  }
  const int done = classify(session, argv[2]);
  pare_session_free(session);
  return done ? 0 : 1;
}
