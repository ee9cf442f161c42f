# pare: the program with LibTorch in it.
add_executable(pare ${CMAKE_CURRENT_LIST_DIR}/pare.cc ${CMAKE_CURRENT_LIST_DIR}/pare_commands.cc
  ${CMAKE_CURRENT_LIST_DIR}/pare_suggest.cc)
target_link_libraries(pare PRIVATE pare_pipeline CLI11::CLI11)
pare_set_warnings(pare)
pare_use_torch(pare)

pare_test(pare_test
  SOURCES ${CMAKE_CURRENT_LIST_DIR}/pare_test.cc
  DEPENDS pare_tiny_run pare_report)
if(PARE_BUILD_TESTS)
  add_dependencies(pare_test pare)
  target_compile_definitions(pare_test PRIVATE PARE_PROGRAM="$<TARGET_FILE:pare>")
endif()

# The C++ API by example: a training loop of one's own.
add_executable(pare_example_train ${PROJECT_SOURCE_DIR}/examples/cpp_api/train.cc)
target_link_libraries(pare_example_train PRIVATE pare_pipeline)
pare_set_warnings(pare_example_train)
pare_use_torch(pare_example_train)
