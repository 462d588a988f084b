// The entry point of libFuzzer for the target that SLUICE_FUZZ_TARGET names. An exception that leaves it is a finding.
#include <cstddef>
#include <cstdint>
#include <span>

#include "fuzz/targets.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sluice::fuzz::SLUICE_FUZZ_TARGET(std::as_bytes(std::span(data, size)));
  return 0;
}
