/* capi_program MODEL IMAGES IMAGE_BYTES LOGITS COUNT CLASSES: the checks of capi_calls.c on the shared library; reads
 * raw images from a file and writes their logits to another. Test-only. */
#include <stdio.h>
#include <stdlib.h>

#include "pare/runtime/capi/capi_calls.h"

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const int64_t count = atoll(argv[5]);
  const size_t image_bytes = (size_t)(atoll(argv[3]) * count);
  const size_t logits_count = (size_t)(count * atoll(argv[6]));
  uint8_t* images = malloc(image_bytes);
  float* logits = calloc(logits_count, sizeof *logits);
  FILE* in = fopen(argv[2], "rb");
  if (images == NULL || logits == NULL || in == NULL || fread(images, 1, image_bytes, in) != image_bytes) return 2;
  fclose(in);
  const char* problem = check_c_api(argv[1], images, count, logits, logits_count);
  if (problem != NULL) {
    fprintf(stderr, "%s\n", problem);
    return 1;
  }
  FILE* out = fopen(argv[4], "wb");
  if (out == NULL || fwrite(logits, sizeof *logits, logits_count, out) != logits_count) return 2;
  fclose(out);
  free(images);
  free(logits);
  return 0;
}
