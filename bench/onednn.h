// The versions of oneDNN that this build found, as plug-ins beside the program.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "bench/onednn_plugin.h"

namespace pare::bench {

class OneDnn {
 public:
  // Every plug-in beside the program that loads; none is no error.
  [[nodiscard]] static std::vector<OneDnn> load_all();

  struct Primitive {
    std::string name;  // "oneDNN 2.6.3 matmul (brgemm:avx512_core_vnni)"
    std::shared_ptr<void> handle;
    void (*run_function)(void*) = nullptr;
    std::string why_not;  // if handle is null
    void run() const { run_function(handle.get()); }
  };
  [[nodiscard]] Primitive make(const OneDnnGemm& gemm) const;
  [[nodiscard]] Primitive make(const OneDnnConv& conv) const;
  [[nodiscard]] std::string version() const { return plugin_->version; }
  // Before the first make().
  [[nodiscard]] bool limit_to_avx2() const { return plugin_->limit_to_avx2(); }

 private:
  explicit OneDnn(const OneDnnPlugin* plugin) : plugin_(plugin) {}
  [[nodiscard]] Primitive wrap(void* handle, const std::string& what, const char* why) const;
  const OneDnnPlugin* plugin_;
};

}  // namespace pare::bench
