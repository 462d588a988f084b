// sluice: runs Mixture-of-Experts language models that are larger than memory.
#include <cstddef>
#include <span>

#include "verbs.h"

int main(int argc, char** argv) {
  const std::span<const char* const> arguments(argv, static_cast<std::size_t>(argc));
  return sluice::tools::run_program(arguments.subspan(argc > 0 ? 1 : 0), sluice::tools::process_environment());
}
