/* See capi_calls.c. Test-only. */
#ifndef PARE_RUNTIME_CAPI_CAPI_CALLS_H_
#define PARE_RUNTIME_CAPI_CAPI_CALLS_H_

#include "pare/runtime/capi/pare.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Null, or what is wrong. Fills `logits` from `count` >= 2 raw images. */
const char* check_c_api(const char* model, const uint8_t* images, int64_t count, float* logits, size_t logits_count);

#ifdef __cplusplus
}
#endif

#endif /* PARE_RUNTIME_CAPI_CAPI_CALLS_H_ */
