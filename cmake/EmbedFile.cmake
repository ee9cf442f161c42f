# pare_embed_file(<target> <file> <symbol>): compiles the file's text into the target as
#   namespace pare::embedded { extern const std::string_view <symbol>; }
# The generated source is made anew whenever the file changes. This same file, run with `cmake -P`, is the generator.

if(CMAKE_SCRIPT_MODE_FILE)
  file(READ "${INPUT}" text)
  set(delimiter "pare_embedded")
  string(FIND "${text}" ")${delimiter}\"" clash)
  if(NOT clash EQUAL -1)
    message(FATAL_ERROR "${INPUT} contains )${delimiter}\", which would end the raw string it is embedded in")
  endif()
  file(WRITE "${OUTPUT}"
    "// Made from ${NAME} by cmake/EmbedFile.cmake; edit that file instead.\n"
    "#include <string_view>\n\n"
    "namespace pare::embedded {\n"
    "extern const std::string_view ${SYMBOL};\n"
    "constinit const std::string_view ${SYMBOL} = R\"${delimiter}(${text})${delimiter}\";\n"
    "}  // namespace pare::embedded\n")
  return()
endif()

set(PARE_EMBED_SCRIPT "${CMAKE_CURRENT_LIST_FILE}")

function(pare_embed_file target file symbol)
  set(input "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
  set(output "${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cc")
  add_custom_command(
    OUTPUT "${output}"
    COMMAND "${CMAKE_COMMAND}" "-DINPUT=${input}" "-DNAME=${file}" "-DOUTPUT=${output}" "-DSYMBOL=${symbol}"
      -P "${PARE_EMBED_SCRIPT}"
    DEPENDS "${input}" "${PARE_EMBED_SCRIPT}"
    COMMENT "Embedding ${file}"
    VERBATIM)
  target_sources(${target} PRIVATE "${output}")
endfunction()
