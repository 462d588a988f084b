# cmake --install: the program with the embedded model, and the libraries with headers and CMake package files.
include(CMakePackageConfigHelpers)

install(TARGETS sluice RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})

# The program looks for it in ../share/sluice/models. The reference outputs are for tests.
install(DIRECTORY ${PROJECT_SOURCE_DIR}/models/inkwell-44m DESTINATION ${CMAKE_INSTALL_DATADIR}/sluice/models
        PATTERN reference EXCLUDE)

set(package_directory ${CMAKE_INSTALL_LIBDIR}/cmake/Sluice)
install(TARGETS sluice_base sluice_kernels sluice_stream sluice_cache sluice_model EXPORT SluiceTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(DIRECTORY ${PROJECT_SOURCE_DIR}/src/ DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/sluice FILES_MATCHING PATTERN "*.h")
install(EXPORT SluiceTargets NAMESPACE Sluice:: DESTINATION ${package_directory})

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/SluiceConfig.cmake.in ${PROJECT_BINARY_DIR}/SluiceConfig.cmake
                              INSTALL_DESTINATION ${package_directory})
# Before 1.0 every minor version may change the interface.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/SluiceConfig.cmake ${PROJECT_BINARY_DIR}/SluiceConfigVersion.cmake
        DESTINATION ${package_directory})
