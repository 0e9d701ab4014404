# A library or test is named after its folder: runtime/kv is runtime_kv, tests/runtime/kv is runtime_kv_test.

# minicpmv_library(NAME SOURCES a.cc b.cc DEPS other absl::status ...)
function(minicpmv_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC ${ARG_DEPS})
endfunction()

# minicpmv_test(NAME SOURCES a_test.cc ... DEPS runtime_kv ... [TIMEOUT seconds] [LABELS slow])
# One executable a folder; every TEST in it is one ctest entry.
function(minicpmv_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LABELS" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_compile_definitions(${name} PRIVATE MINICPMV_SOURCE_DIR="${CMAKE_SOURCE_DIR}" MINICPMV_BINARY_DIR="${CMAKE_BINARY_DIR}")
  gtest_discover_tests(${name} DISCOVERY_TIMEOUT 60 PROPERTIES TIMEOUT ${ARG_TIMEOUT} LABELS "${ARG_LABELS}")
endfunction()

# minicpmv_fuzz(NAME SOURCES x_fuzz.cc DEPS ...)   NAME is x_fuzz; its corpus is tests/testdata/corpora/x_fuzz/.
# With MINICPMV_FUZZ a libFuzzer target; otherwise a test that runs every file of the corpus once.
function(minicpmv_fuzz name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE ${ARG_DEPS})
  target_compile_definitions(${name} PRIVATE MINICPMV_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(MINICPMV_FUZZ)
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  else()
    target_sources(${name} PRIVATE ${CMAKE_SOURCE_DIR}/tests/fuzz/replay_main.cc)
    add_test(NAME ${name}.RepeatsItsCorpus COMMAND ${name} ${CMAKE_SOURCE_DIR}/tests/testdata/corpora/${name})
    set_tests_properties(${name}.RepeatsItsCorpus PROPERTIES TIMEOUT 120)
  endif()
endfunction()
