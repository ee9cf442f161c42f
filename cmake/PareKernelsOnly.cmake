# The kernels and what lies below them, for a processor that this machine is not (PARE_KERNELS_ONLY): the libraries that
# Debian would have to install for both are left out, and GoogleTest is built from Debian's sources.

find_package(nlohmann_json 3.10 REQUIRED)
find_path(XXHASH_INCLUDE_DIR xxhash.h REQUIRED)
# Named by targets that are not built here.
add_library(ZLIB::ZLIB INTERFACE IMPORTED GLOBAL)
set(PTHREADPOOL_LIBRARY "")
set(CPUINFO_LIBRARY "")
set(PARE_GOOGLETEST /usr/src/googletest CACHE PATH "Sources of GoogleTest")
set(INSTALL_GTEST OFF)
set(BUILD_GMOCK OFF)
add_subdirectory("${PARE_GOOGLETEST}" "${PROJECT_BINARY_DIR}/googletest" EXCLUDE_FROM_ALL)
include(GoogleTest)

set(PARE_BUILD_TESTS OFF)
add_subdirectory(base EXCLUDE_FROM_ALL)
add_subdirectory(format EXCLUDE_FROM_ALL)
set(PARE_BUILD_TESTS ON)
add_subdirectory(kernels)
