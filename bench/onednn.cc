#include "bench/onednn.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>

#include "pare/base/strings.h"

namespace pare::bench {

std::vector<OneDnn> OneDnn::load_all() {
  setenv("OMP_NUM_THREADS", "1", 0);  // read when the library loads
  std::vector<OneDnn> found;
  const std::filesystem::path folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  for (int number = 0;; ++number) {
    const std::filesystem::path path = folder / str_cat("pare_onednn_", number, ".so");
    if (!std::filesystem::exists(path)) break;
    void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    const void* symbol = library == nullptr ? nullptr : dlsym(library, "pare_onednn");
    if (symbol == nullptr) {
      std::fprintf(stderr, "%s\n", dlerror());
      continue;
    }
    found.push_back(OneDnn(static_cast<const OneDnnPlugin*>(symbol)));
  }
  return found;
}

OneDnn::Primitive OneDnn::wrap(void* handle, const std::string& what, const char* why) const {
  Primitive primitive;
  primitive.name = str_cat("oneDNN ", version(), what);
  if (handle == nullptr) {
    primitive.why_not = why;
    return primitive;
  }
  primitive.name += str_cat(" (", plugin_->implementation(handle), ")");
  primitive.handle = std::shared_ptr<void>(handle, plugin_->free);
  primitive.run_function = plugin_->run;
  return primitive;
}

OneDnn::Primitive OneDnn::make(const OneDnnGemm& gemm) const {
  char why[256] = "";
  void* handle = plugin_->make_gemm(gemm, why, sizeof why);
  return wrap(handle, gemm.use_inner_product != 0 ? " inner product" : " matmul", why);
}

OneDnn::Primitive OneDnn::make(const OneDnnConv& conv) const {
  char why[256] = "";
  void* handle = plugin_->make_conv(conv, why, sizeof why);
  return wrap(handle, "", why);
}

}  // namespace pare::bench
