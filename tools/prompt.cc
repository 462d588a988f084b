#include "prompt.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"
#include "model/tokenizer/unicode.h"

namespace sluice::tools {
namespace {

constexpr const char* kStandardInput = "standard input";

std::string read_all(std::FILE* file, const std::string& name) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (const std::size_t got = std::fread(buffer.data(), 1, buffer.size(), file)) text.append(buffer.data(), got);
  if (std::ferror(file) != 0) fail("{}: cannot be read: {}", name, std::strerror(errno));
  if (text.ends_with('\n')) text.pop_back();
  return text;
}

std::string read_file(const std::string& name) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(name.c_str(), "rb"), std::fclose);
  if (file == nullptr) fail("{}: cannot be opened: {}", name, std::strerror(errno));
  return read_all(file.get(), name);
}

std::string checked(std::string text, std::string_view name) {
  if (const std::optional<std::size_t> bad = model::find_invalid_utf8(text)) {
    fail("{}: is not UTF-8 text: byte 0x{:02x} at offset {}", name, static_cast<unsigned char>(text[*bad]), *bad);
  }
  return text;
}

}  // namespace

std::optional<std::string> read_prompt(const std::optional<std::string>& argument, std::string_view argument_name,
                                       const std::optional<std::string>& file) {
  if (argument && file) fail_usage("--file: {} is given as well; give one of the two", argument_name);
  if (argument == "-" || file == "-") return checked(read_all(stdin, kStandardInput), kStandardInput);
  if (file) return checked(read_file(*file), *file);
  if (argument) return checked(*argument, argument_name);
  return std::nullopt;
}

}  // namespace sluice::tools
