// Loads the artifact that argv names, or shows the error that a missing one gives.
#include <iostream>

#include "pare/base/error.h"
#include "pare/runtime/session.h"

int main(int argc, char** argv) {
  try {
    const auto session = pare::runtime::Session::load(argc > 1 ? argv[1] : "missing.pare");
    std::cout << session.classes() << " classes\n";
    return 0;
  } catch (const pare::Error& error) {
    std::cout << error.what() << '\n';
    return error.category() == pare::ErrorCategory::kNotFound ? 0 : 1;
  }
}
