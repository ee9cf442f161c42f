#include "pare/pipeline/version.h"

namespace pare::pipeline {

const char* version() { return PARE_VERSION; }

}  // namespace pare::pipeline
