# How everything here is compiled, and the functions that declare libraries and tests.

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

add_library(sluice_options INTERFACE)
# -ffp-contract=off: where a multiply and an add become one rounding is written in the code, so that every
# instruction set and every compiler gives the same bits (docs/arithmetic.md).
# -Wno-restrict: GCC 12 reports string concatenation falsely (GCC bug 105651).
target_compile_options(sluice_options INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -ffp-contract=off
                                                $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict>)
if(SLUICE_WERROR)
  target_compile_options(sluice_options INTERFACE -Werror)
endif()
if(SLUICE_SANITIZE)
  target_compile_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(sluice_options INTERFACE -fsanitize=${SLUICE_SANITIZE})
endif()

# sluice_library(NAME DEPENDS lower libraries... [PRIVATE packages...])
#
# One static library from every .cc of the calling folder and its sub-folders. Beside it, arrows_NAME links the whole
# library with nothing but what it may depend on: a call into a higher folder does not link.
function(sluice_library name)
  cmake_parse_arguments(ARG "" "" "DEPENDS;PRIVATE" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  add_library(sluice_${name} STATIC ${sources})
  add_library(Sluice::${name} ALIAS sluice_${name})
  set_target_properties(sluice_${name} PROPERTIES EXPORT_NAME ${name})
  target_include_directories(sluice_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}/src>
                                                   $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}/sluice>)
  target_compile_features(sluice_${name} PUBLIC cxx_std_20)
  target_link_libraries(sluice_${name} PUBLIC ${ARG_DEPENDS} PRIVATE $<BUILD_INTERFACE:sluice_options> ${ARG_PRIVATE})

  add_executable(arrows_${name} ${PROJECT_SOURCE_DIR}/cmake/arrows.cc)
  target_link_libraries(arrows_${name} PRIVATE sluice_options -Wl,--whole-archive $<TARGET_FILE:sluice_${name}>
                                               -Wl,--no-whole-archive ${ARG_DEPENDS} ${ARG_PRIVATE})
  add_dependencies(arrows_${name} sluice_${name})
endfunction()

# sluice_tests(NAME libraries...): one program NAME_tests from every *_test.cc of the calling folder, each test in ctest.
function(sluice_tests name)
  file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  if(NOT sources)
    return()
  endif()
  add_executable(${name}_tests ${sources})
  target_include_directories(${name}_tests PRIVATE ${PROJECT_SOURCE_DIR}/tests)
  target_compile_definitions(${name}_tests PRIVATE SLUICE_SOURCE_DIR="${PROJECT_SOURCE_DIR}")
  if(SLUICE_SANITIZE)
    target_compile_options(${name}_tests PRIVATE -O0)  # the library matters; test code compiles in half the time
  endif()
  target_link_libraries(${name}_tests PRIVATE ${ARGN} sluice_options GTest::gtest GTest::gmock GTest::gtest_main)
  gtest_discover_tests(${name}_tests TEST_PREFIX ${name}. PROPERTIES TIMEOUT 300 DISCOVERY_TIMEOUT 60)
endfunction()
