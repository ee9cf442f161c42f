# LibTorch: the one that CMAKE_PREFIX_PATH names (the folder of a PyTorch 2.x wheel will do), else Debian's.
# Defines pare_torch (what to link) and pare_torch_pch (its precompiled header, shared by all floors above).

if(NOT TARGET torch)
  find_package(Torch REQUIRED)
endif()

add_library(pare_torch INTERFACE)
target_link_libraries(pare_torch INTERFACE ${TORCH_LIBRARIES})
# System headers: their warnings are not ours.
target_include_directories(pare_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})
set_target_properties(pare_torch PROPERTIES EXPORT_NAME torch)
set_property(GLOBAL APPEND PROPERTY PARE_FLOORS pare_torch)
set_property(GLOBAL APPEND PROPERTY PARE_TRAINING_FLOORS pare_torch)

file(CONFIGURE OUTPUT "${PROJECT_BINARY_DIR}/torch_pch.cc" CONTENT "// Carries the precompiled header; holds no code.\n")
add_library(pare_torch_pch OBJECT "${PROJECT_BINARY_DIR}/torch_pch.cc")
target_compile_features(pare_torch_pch PUBLIC cxx_std_20)
target_link_libraries(pare_torch_pch PUBLIC pare_torch)
target_precompile_headers(pare_torch_pch PRIVATE <torch/torch.h> <string> <vector> <map> <memory> <functional>)
# -Wpedantic changes predefined macros, and GCC refuses a precompiled header made with others.
pare_set_warnings(pare_torch_pch)
