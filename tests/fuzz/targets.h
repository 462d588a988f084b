// Parsers of untrusted bytes, each as a function of bytes that returns unless the parser has a fault.
#pragma once

#include <cstddef>
#include <span>

namespace sluice::fuzz {

/// The header of a safetensors file. Refusing it by Error is right; accepting it is right if every promise of
/// safetensors.h holds for the tensors, else throws std::logic_error.
void safetensors_header(std::span<const std::byte> input);

/// model.safetensors.index.json, likewise.
void checkpoint_index(std::span<const std::byte> input);

/// A routing trace in any format of one file, likewise.
void route_trace(std::span<const std::byte> input);

/// A heat file, likewise; what is accepted is written and read back the same.
void heat_file(std::span<const std::byte> input);

/// The description of a routing trace of arrays, over data of a fixed size, likewise.
void route_trace_arrays(std::span<const std::byte> input);

}  // namespace sluice::fuzz
