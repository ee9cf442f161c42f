# Install rules and the package that find_package(pare) finds.
#
#   find_package(pare COMPONENTS runtime)   the torch-free part: pare::runtime
#   find_package(pare COMPONENTS train)     all of it: pare::pipeline and the floors below; needs LibTorch

include(CMakePackageConfigHelpers)

get_property(pare_floors GLOBAL PROPERTY PARE_FLOORS)
get_property(pare_training_floors GLOBAL PROPERTY PARE_TRAINING_FLOORS)
list(REMOVE_ITEM pare_floors ${pare_training_floors})

install(TARGETS ${pare_floors} EXPORT pareRuntimeTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT pareRuntimeTargets NAMESPACE pare:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pare)

if(pare_training_floors)
  install(TARGETS ${pare_training_floors} EXPORT pareTrainTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(EXPORT pareTrainTargets NAMESPACE pare:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pare)
endif()

foreach(program pare pare-run)
  if(TARGET ${program})
    install(TARGETS ${program} RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
  endif()
endforeach()
if(TARGET pare_runtime_c)
  install(TARGETS pare_runtime_c EXPORT pareRuntimeTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()

set(pare_header_floors base format kernels graph channels runtime)
if(NOT PARE_RUNTIME_ONLY)
  list(APPEND pare_header_floors train sparsity quant pipeline)
endif()
foreach(floor IN LISTS pare_header_floors)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/src/${floor}" DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/pare
    FILES_MATCHING PATTERN "*.h" PATTERN "testing*" EXCLUDE)
endforeach()

configure_package_config_file("${PROJECT_SOURCE_DIR}/cmake/pareConfig.cmake.in" "${PROJECT_BINARY_DIR}/pareConfig.cmake"
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pare)
write_basic_package_version_file("${PROJECT_BINARY_DIR}/pareConfigVersion.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/pareConfig.cmake" "${PROJECT_BINARY_DIR}/pareConfigVersion.cmake"
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pare)
