# How pare's targets are made: one static library a floor, tests and benchmarks beside their units.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_C_STANDARD 11)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")

if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()

find_program(PARE_CCACHE ccache)
if(PARE_CCACHE)
  # Precompiled headers can be cached only if ccache is told to look past their time stamps.
  set(PARE_COMPILER_LAUNCHER
    ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${PARE_CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${PARE_COMPILER_LAUNCHER})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${PARE_COMPILER_LAUNCHER})
endif()

# Sources include each other as "pare/<floor>/<file>.h", in the tree as after installation.
file(MAKE_DIRECTORY "${PROJECT_BINARY_DIR}/include")
file(CREATE_LINK "${PROJECT_SOURCE_DIR}/src" "${PROJECT_BINARY_DIR}/include/pare" SYMBOLIC)

# What a program does not call stays out of it.
add_compile_options(-ffunction-sections -fdata-sections)
add_link_options(-Wl,--gc-sections)

# Contraction into fused multiply-add would round once where the numerics contract rounds twice.
add_compile_options(-ffp-contract=off)
if(PARE_SANITIZE)
  add_compile_options(-fsanitize=${PARE_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PARE_SANITIZE})
endif()

function(pare_set_warnings target)
  target_compile_options(${target} PRIVATE -Wall -Wextra -Wpedantic -Wshadow
    "$<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor;-Woverloaded-virtual>")
  if(PARE_WARNINGS_AS_ERRORS)
    target_compile_options(${target} PRIVATE -Werror)
  endif()
endfunction()

# pare_floor(<name> SOURCES … DEPENDS … [TORCH]): library pare_<name>, exported as pare::<name>.
# TORCH: links LibTorch and takes its precompiled header. TRAINING: needs no LibTorch, but installs with those that do.
function(pare_floor name)
  cmake_parse_arguments(ARG "TORCH;TRAINING" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(pare_${name} STATIC ${ARG_SOURCES})
  add_library(pare::${name} ALIAS pare_${name})
  set_target_properties(pare_${name} PROPERTIES EXPORT_NAME ${name})
  target_compile_features(pare_${name} PUBLIC cxx_std_20)
  target_include_directories(pare_${name} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_BINARY_DIR}/include>"
    "$<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>")
  target_link_libraries(pare_${name} PUBLIC ${ARG_DEPENDS})
  pare_set_warnings(pare_${name})
  if(ARG_TORCH)
    pare_use_torch(pare_${name})
  endif()
  set_property(GLOBAL APPEND PROPERTY PARE_FLOORS pare_${name})
  if(ARG_TORCH OR ARG_TRAINING)
    set_property(GLOBAL APPEND PROPERTY PARE_TRAINING_FLOORS pare_${name})
  endif()
endfunction()

# pare_isa_sources(<target> <isa> SOURCES…): files compiled for one instruction set, and only on its processors. They
# include intrinsics and plain structs: inline code of the standard library, compiled for AVX-512, could win at link time
# and crash an older machine.
set(PARE_ISA_FLAGS_avx2 -mavx2)
set(PARE_ISA_FLAGS_avx512vnni -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 takes the undefined operands inside its own intrinsics for mistakes of their callers.
  list(PREPEND PARE_ISA_FLAGS_avx512vnni -Wno-uninitialized -Wno-maybe-uninitialized)
endif()
set(PARE_ISA_FLAGS_avx512vbmi ${PARE_ISA_FLAGS_avx512vnni} -mavx512vbmi -mavx512vbmi2)
set(PARE_ISA_FLAGS_neon_dotprod -march=armv8.2-a+dotprod)
set(PARE_ISA_FLAGS_neon_i8mm -march=armv8.2-a+dotprod+i8mm)
function(pare_isa_sources target isa)
  if(isa MATCHES "^avx")
    set(processors "^(x86_64|AMD64|amd64)$")
  else()
    set(processors "^(aarch64|arm64)$")
  endif()
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "${processors}")
    target_sources(${target} PRIVATE ${ARGN})
    set_source_files_properties(${ARGN} PROPERTIES COMPILE_OPTIONS "${PARE_ISA_FLAGS_${isa}}")
  endif()
endfunction()

# LibTorch and its precompiled header. torch/torch.h costs 20 to 25 seconds a file without it.
function(pare_use_torch target)
  target_link_libraries(${target} PUBLIC pare_torch)
  # CMake compiles programs with -fPIE, and GCC refuses a precompiled header that was made with -fPIC then.
  target_compile_options(${target} PRIVATE -fPIC)
  if(TARGET pare_torch_pch)
    target_precompile_headers(${target} REUSE_FROM pare_torch_pch)
  endif()
endfunction()

# pare_test(<name> SOURCES … DEPENDS … [TORCH]): one gtest program, run by ctest test by test.
function(pare_test name)
  if(NOT PARE_BUILD_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE
    PARE_GOLDENS_DIR="${PROJECT_SOURCE_DIR}/tests/goldens"
    PARE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  pare_set_warnings(${name})
  # Assertions gain nothing from -O3 and take a quarter longer to compile; what they test keeps it. GCC takes the
  # precompiled header at either level.
  target_compile_options(${name} PRIVATE -O1)
  if(ARG_TORCH)
    pare_use_torch(${name})
  endif()
  # Against hangs only: a busy machine may take many times what an idle one does.
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 300 PROPERTIES TIMEOUT 900)
endfunction()

# pare_optimize_for_size(<file> …): what runs once a load, or less, is kept small: pare-run has a limit (check_pare_run.sh).
function(pare_optimize_for_size)
  if(CMAKE_BUILD_TYPE STREQUAL "Release")
    set_property(SOURCE ${ARGN} APPEND PROPERTY COMPILE_OPTIONS -Os)
  endif()
endfunction()

# pare_bench(<name> SOURCES … DEPENDS …): one Google Benchmark program; run by hand or by `make bench-kernels`, never by
# ctest. The target pare_benches builds all of them.
function(pare_bench name)
  if(NOT PARE_BUILD_BENCH)
    return()
  endif()
  cmake_parse_arguments(ARG "TORCH" "" "SOURCES;DEPENDS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPENDS} benchmark::benchmark)
  if(NOT TARGET pare_benches)
    add_custom_target(pare_benches)
  endif()
  add_dependencies(pare_benches ${name})
  pare_set_warnings(${name})
  if(ARG_TORCH)
    pare_use_torch(${name})
  endif()
endfunction()
