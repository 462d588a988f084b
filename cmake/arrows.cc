// Linked with one whole library and what it may depend on; see sluice_library() in SluiceBuild.cmake.
int main() { return 0; }
