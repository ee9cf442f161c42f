// A made-up record for tests of the reports: shaped like a run of recipes/fashion_mnist.toml, measured nowhere.
#pragma once

#include "pare/pipeline/run_record.h"

namespace pare::pipeline {

[[nodiscard]] RunRecord sample_record();

}  // namespace pare::pipeline
