#include "model/tokenizer/tokenizer_json.h"

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "base/error.h"
#include "base/text.h"
#include "model/json_file.h"

namespace sluice::model {
namespace {

using nlohmann::json;

/// An object of the document, with its place for messages.
class Part {
 public:
  /// `path`: names of the members that lead here, with dots; empty for the whole document.
  Part(const json& value, std::string_view file, std::string path)
      : value_(value), file_(file), path_(std::move(path)) {
    if (!value.is_object()) fail("{}: is {}, expected an object", subject(), value.type_name());
  }

  std::string_view file() const { return file_; }
  const std::string& path() const { return path_; }
  std::string subject() const { return path_.empty() ? std::string(file_) : fmt::format("{}: {}", file_, path_); }
  std::string path_of(std::string_view name) const {
    return path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name);
  }
  std::string subject_of(std::string_view name) const { return fmt::format("{}: {}", file_, path_of(name)); }

  /// The member, or nothing if it is absent or null.
  const json* find(const char* name) const {
    const auto member = value_.find(name);
    return member == value_.end() || member->is_null() ? nullptr : &*member;
  }
  std::optional<Part> object(const char* name) const {
    const json* member = find(name);
    return member == nullptr ? std::nullopt : std::optional<Part>(Part(*member, file_, path_of(name)));
  }
  std::optional<std::string> text(const char* name) const {
    const json* member = find(name);
    if (member == nullptr) return std::nullopt;
    if (!member->is_string()) fail("{}: is {}, expected a string", subject_of(name), member->type_name());
    return member->get<std::string>();
  }
  std::string required_text(const char* name) const {
    std::optional<std::string> value = text(name);
    if (!value) fail("{}: is missing, expected a string", subject_of(name));
    return *std::move(value);
  }
  bool flag(const char* name, bool fallback) const {
    const json* member = find(name);
    if (member == nullptr) return fallback;
    if (!member->is_boolean()) fail("{}: is {}, expected true or false", subject_of(name), member->type_name());
    return member->get<bool>();
  }
  /// The elements of an array; an absent one is empty.
  std::span<const json> array(const char* name) const {
    const json* member = find(name);
    if (member == nullptr) return {};
    if (!member->is_array()) fail("{}: is {}, expected an array", subject_of(name), member->type_name());
    return member->get_ref<const json::array_t&>();
  }

 private:
  const json& value_;
  std::string_view file_;
  std::string path_;
};

/// The token id in `value`, or nothing if it is none.
std::optional<int> read_id(const json& value) {
  if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= kMaxTokenIds) return std::nullopt;
  return value.get<int>();
}

[[noreturn]] void refuse_id(const std::string& subject, const json* value) {
  fail("{}: is {}, expected a token id from 0 to {}", subject, value == nullptr ? "missing" : printable(value->dump()),
       kMaxTokenIds - 1);
}

/// Takes the vocabulary and the merges out of the document while it is parsed: as a tree they would need ten times the
/// memory of the file.
class TableReader {
 public:
  TableReader(TokenizerJson& out, std::string_view file) : out_(out), file_(file) {}

  /// A JsonVisitor: false for what has been taken.
  bool operator()(std::span<const std::string> path, json& value) {
    if (path.size() != 3 || path[0] != "model") return true;
    if (path[1] == "vocab" && value.is_number()) {
      const std::optional<int> id = read_id(value);
      if (!id) refuse_id(fmt::format("{}: model.vocab, token '{}'", file_, printable(path[2])), &value);
      out_.vocabulary.emplace_back(path[2], *id);
      return false;
    }
    if (path[1] == "merges") {
      out_.merges.push_back(read_merge(value));
      return false;
    }
    return true;
  }

 private:
  /// "a b" in older files, ["a", "b"] in newer ones.
  std::pair<std::string, std::string> read_merge(json& value) const {
    if (value.is_string()) {
      const auto& text = value.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
        return {text.substr(0, space), text.substr(space + 1)};
      }
    } else if (value.is_array() && value.size() == 2 && value[0].is_string() && value[1].is_string()) {
      return {std::move(value[0].get_ref<std::string&>()), std::move(value[1].get_ref<std::string&>())};
    }
    fail("{}: model.merges, entry {}: is {}, expected two tokens, as \"a b\" or [\"a\", \"b\"]", file_,
         out_.merges.size(), printable(value.dump()));
  }

  TokenizerJson& out_;
  std::string_view file_;
};

void read_model(const Part& model, TokenizerJson& out) {
  const std::string type = model.text("type").value_or("BPE");  // files from before 2020 do not say
  if (type != "BPE") {
    fail("{}: is '{}'; only byte-level BPE is supported", model.subject_of("type"), printable(type));
  }
  const std::optional<Part> vocabulary = model.object("vocab");
  if (!vocabulary || out.vocabulary.empty()) fail("{}: is missing or empty", model.subject_of("vocab"));
  if (!model.array("merges").empty()) fail("{}: is broken", model.subject_of("merges"));
  for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    const std::string value = model.text(affix).value_or("");
    if (!value.empty()) fail("{}: is '{}'; byte-level BPE has none", model.subject_of(affix), printable(value));
  }
  const json* dropout = model.find("dropout");
  if (dropout != nullptr && *dropout != 0) {
    fail("{}: is {}; encoding at random is not supported", model.subject_of("dropout"), printable(dropout->dump()));
  }
  // byte_fallback, unk_token and fuse_unk say what happens to characters without a token. Here there are none: the
  // Tokenizer requires a token for every byte.
  out.ignore_merges = model.flag("ignore_merges", false);
}

void read_normalizer(const Part& normalizer, TokenizerJson& out) {
  const std::string type = normalizer.required_text("type");
  if (type == "NFC") {
    out.nfc = true;
  } else if (type == "Sequence") {
    for (const json& step : normalizer.array("normalizers"))
      read_normalizer(Part(step, normalizer.file(), normalizer.path()), out);
  } else {
    fail("{}: '{}' is not supported, expected NFC, a Sequence of it, or none", normalizer.subject(), printable(type));
  }
}

SplitBehavior read_behavior(const Part& split) {
  using enum SplitBehavior;
  constexpr std::array<std::pair<std::string_view, SplitBehavior>, 5> kBehaviors = {
      {{"Isolated", isolated},
       {"Removed", removed},
       {"MergedWithPrevious", merged_with_previous},
       {"MergedWithNext", merged_with_next},
       {"Contiguous", contiguous}}};
  const std::string name = split.required_text("behavior");
  for (const auto& [known, behavior] : kBehaviors) {
    if (name == known) return behavior;
  }
  fail("{}: '{}' is not known", split.subject_of("behavior"), printable(name));
}

SplitSpec read_split(const Part& split) {
  SplitSpec spec;
  const std::optional<Part> pattern = split.object("pattern");
  if (!pattern) fail("{}: is missing", split.subject_of("pattern"));
  std::optional<std::string> regex = pattern->text("Regex");
  spec.literal = !regex;
  spec.pattern = regex ? *std::move(regex) : pattern->required_text("String");
  spec.behavior = read_behavior(split);
  spec.invert = split.flag("invert", false);
  return spec;
}

/// Adds one pre-tokenizer to `out`. Sets `byte_level` at ByteLevel, behind which the text is no longer text.
void read_pre_tokenizer(const Part& part, bool& byte_level, PreTokenizerSpec& out) {
  const std::string type = part.required_text("type");
  if (byte_level) fail("{}: '{}' after ByteLevel is not supported", part.subject(), printable(type));
  if (type == "Sequence") {
    for (const json& step : part.array("pretokenizers")) {
      read_pre_tokenizer(Part(step, part.file(), part.path()), byte_level, out);
    }
  } else if (type == "Split") {
    out.splits.push_back(read_split(part));
  } else if (type == "Digits") {
    const bool individual = part.flag("individual_digits", false);
    out.splits.push_back({R"(\p{N})", false, individual ? SplitBehavior::isolated : SplitBehavior::contiguous, false});
  } else if (type == "ByteLevel") {
    out.add_prefix_space = part.flag("add_prefix_space", true);
    out.use_gpt2_pattern = part.flag("use_regex", true);
    byte_level = true;
  } else {
    fail("{}: '{}' is not supported, expected Split, Digits, ByteLevel or a Sequence of them", part.subject(),
         printable(type));
  }
}

AddedToken read_added_token(const Part& part) {
  AddedToken token;
  const json* id = part.find("id");
  const std::optional<int> checked = id == nullptr ? std::nullopt : read_id(*id);
  if (!checked) refuse_id(part.subject_of("id"), id);
  token.id = *checked;
  token.content = part.required_text("content");
  token.special = part.flag("special", false);
  token.single_word = part.flag("single_word", false);
  token.lstrip = part.flag("lstrip", false);
  token.rstrip = part.flag("rstrip", false);
  token.normalized = part.flag("normalized", !token.special);
  return token;
}

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, std::string_view file) {
  TokenizerJson out;
  const json document = parse_json(text, file, TableReader(out, file));
  const Part whole(document, file, "");

  const std::optional<Part> model = whole.object("model");
  if (!model) fail("{}: model: is missing", file);
  read_model(*model, out);

  if (const std::optional<Part> normalizer = whole.object("normalizer")) read_normalizer(*normalizer, out);

  bool byte_level = false;
  if (const std::optional<Part> pre_tokenizer = whole.object("pre_tokenizer")) {
    read_pre_tokenizer(*pre_tokenizer, byte_level, out.pre_tokenizer);
  }
  if (!byte_level) fail("{}: pre_tokenizer: has no ByteLevel; only byte-level BPE is supported", file);

  const std::optional<Part> decoder = whole.object("decoder");
  const std::string decoder_type = decoder ? decoder->required_text("type") : "none";
  if (decoder_type != "ByteLevel") {
    fail("{}: decoder: '{}' is not supported, expected ByteLevel", file, printable(decoder_type));
  }

  for (const json& token : whole.array("added_tokens")) {
    out.added_tokens.push_back(
        read_added_token(Part(token, file, fmt::format("added_tokens[{}]", out.added_tokens.size()))));
  }
  return out;
}

}  // namespace sluice::model
