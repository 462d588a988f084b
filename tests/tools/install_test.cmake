# Installs BUILD_DIR into a directory of its own, runs the installed program from elsewhere, and builds a project that
# uses the installed libraries.
cmake_minimum_required(VERSION 3.25)
set(work ${BUILD_DIR}/install_test)
set(prefix ${work}/prefix)
file(REMOVE_RECURSE ${work})
file(MAKE_DIRECTORY ${work}/elsewhere)

# Runs a command; its standard output is left in `output`.
function(run)
  execute_process(COMMAND ${ARGN} WORKING_DIRECTORY ${work}/elsewhere RESULT_VARIABLE status OUTPUT_VARIABLE stdout
                  ERROR_VARIABLE stderr)
  if(NOT status EQUAL 0)
    message(FATAL_ERROR "exit ${status}: ${ARGN}\n${stdout}${stderr}")
  endif()
  set(output ${stdout} PARENT_SCOPE)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD_DIR} --prefix ${prefix})

run(${prefix}/bin/sluice inspect)
if(NOT output MATCHES "^${prefix}/share/sluice/models/inkwell-44m\n")
  message(FATAL_ERROR "the installed program does not use the installed model:\n${output}")
endif()
run(${prefix}/bin/sluice run -p "Hello!" -n 8 --temp 0 --quiet)
if(output STREQUAL "\n")
  message(FATAL_ERROR "the installed program wrote no text")
endif()
if(EXISTS ${prefix}/share/sluice/models/inkwell-44m/reference)
  message(FATAL_ERROR "reference outputs of the tests were installed")
endif()

run(${CMAKE_COMMAND} -G Ninja -S ${CONSUMER_DIR} -B ${work}/consumer -DCMAKE_PREFIX_PATH=${prefix}
    -DCMAKE_CXX_COMPILER=${CXX} "-DCMAKE_CXX_FLAGS=${CXX_FLAGS}")
run(${CMAKE_COMMAND} --build ${work}/consumer)
run(${work}/consumer/consumer ${prefix}/share/sluice/models/inkwell-44m)
if(NOT output MATCHES "^token [0-9]+\n$")
  message(FATAL_ERROR "unexpected output of the consumer:\n${output}")
endif()
file(REMOVE_RECURSE ${work})
