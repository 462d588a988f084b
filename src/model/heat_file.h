// How often each expert was used in earlier runs, kept in a file so that the next run starts with the right ones in its
// slots. It decides speed only, never a token.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "stream/checkpoint.h"

namespace sluice::model {

struct Heat {
  std::string checkpoint;                   // checkpoint_identity(), 16 hexadecimal digits
  std::string model;                        // name of its directory, for people
  std::vector<std::vector<double>> layers;  // [MoE layers][experts] lookups, older ones decayed; finite, not negative

  bool operator==(const Heat&) const = default;
};

/// A hash of the files' sizes and of the name, type, shape and place of every tensor: what the headers tell, without
/// reading data. Two sets of weights of one shape and layout share it; the heat of one costs the other speed at most.
std::string checkpoint_identity(const stream::Checkpoint& checkpoint);

/// Parses the text of a heat file as untrusted bytes. Throws Error beginning with `name`, in one line.
Heat parse_heat(std::string_view text, std::string_view name);

/// The text that parse_heat() reads.
std::string heat_text(const Heat& heat);

/// Reads a heat file that must belong to a checkpoint of this identity, with so many experts in each MoE layer. Throws
/// Error naming the file, and the model it belongs to if that is another one.
Heat load_heat(const std::filesystem::path& path, std::string_view identity, std::span<const int> experts);

/// Adds the lookups of a run of `steps` steps to heat that it decays by as many.
void add_lookups(Heat& heat, std::span<const std::vector<std::uint64_t>> lookups, std::uint64_t steps);

}  // namespace sluice::model
