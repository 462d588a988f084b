// The parser of tokenizer.json as a fuzz target: a function of bytes that returns unless there is a fault.
#pragma once

#include <cstddef>
#include <span>

namespace sluice::fuzz {

/// tokenizer.json. Refusing it by Error is right; accepting it is right if the tokenizer then encodes any text, or
/// stops with an Error at a pattern that takes too long. Throws std::logic_error otherwise.
void tokenizer_json(std::span<const std::byte> input);

}  // namespace sluice::fuzz
