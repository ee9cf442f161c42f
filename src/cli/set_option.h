// The option --set of the commands of `pare`.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace pare::cli {

// KEY=VALUE, as often as needed, in order.
inline void add_set_option(CLI::App& command, std::vector<std::string>& overrides, const std::string& description) {
  command.add_option("--set", overrides, description)->expected(1)->take_all()->type_name("KEY=VALUE");
}

}  // namespace pare::cli
