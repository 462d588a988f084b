// Whatever is wrong, the program says so in one line that names it, writes nothing, and ends with the right code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

namespace fs = std::filesystem;
using nlohmann::ordered_json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using ::testing::StartsWith;

constexpr int kFailure = 1;
constexpr int kUsage = 2;

const std::string kModel = embedded_model().string();

/// Expects one line on stderr that has all of `parts`, nothing on stdout, and the exit code.
void expect_refused(const ProgramResult& result, int code, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, code) << result.errors;
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(lines(result.errors), SizeIs(1));
  EXPECT_THAT(result.errors, StartsWith("sluice: "));
  for (const std::string& part : parts) EXPECT_THAT(result.errors, HasSubstr(part));
}

/// The same for a run of a damaged model, and that it wrote no statistics.
void expect_model_refused(const ModelCopy& copy, const std::vector<std::string>& parts) {
  const ScratchDirectory scratch;
  expect_refused(run_program({"run", "-m", copy.directory(), "-p", "Hello", "-n", "2", "--stats-json",
                              (scratch / "stats.json").string()}),
                 kFailure, parts);
  EXPECT_THAT(scratch.names(), IsEmpty());
}

/// A tensor of the first shard that every run needs.
constexpr const char* kTensor = "model.layers.0.self_attn.q_proj.scales";

TEST(BadModel, NoSuchDirectory) {
  expect_refused(run_program({"run", "-m", "/no/such/model", "-p", "Hello"}), kFailure, {"/no/such/model"});
}

TEST(BadModel, EmptyDirectory) {
  const ScratchDirectory scratch;
  expect_refused(run_program({"run", "-m", scratch.path().string(), "-p", "Hello"}), kFailure,
                 {scratch.path().string(), "config.json"});
}

TEST(BadModel, NoWeights) {
  const ScratchDirectory scratch;
  for (const char* file : {"config.json", "tokenizer.json", "tokenizer_config.json"}) {
    fs::create_symlink(embedded_model() / file, scratch / file);
  }
  expect_refused(run_program({"run", "-m", scratch.path().string(), "-p", "Hello"}), kFailure,
                 {scratch.path().string(), "safetensors"});
}

TEST(BadModel, MissingShard) {
  ModelCopy copy;
  copy.remove(ModelCopy::kShard);
  expect_model_refused(copy, {ModelCopy::kShard});
}

TEST(BadModel, TruncatedShard) {
  for (const std::uint64_t bytes : {0UL, 7UL, 100UL, 1000000UL, 15351311UL}) {
    ModelCopy copy;
    copy.truncate_shard(bytes);
    expect_model_refused(copy, {ModelCopy::kShard});
  }
}

TEST(BadModel, HeaderThatLies) {
  ModelCopy beyond;
  beyond.edit_header([](ordered_json& header) { header.at(kTensor)["data_offsets"][1] = std::uint64_t{1} << 60; });
  expect_model_refused(beyond, {ModelCopy::kShard});

  ModelCopy overflow;
  overflow.edit_header([](ordered_json& header) {
    header.at(kTensor)["shape"] = {std::int64_t{1} << 62, std::int64_t{1} << 62};
  });
  expect_model_refused(overflow, {ModelCopy::kShard});

  ModelCopy no_json;
  no_json.replace(ModelCopy::kShard, std::string("\x08\0\0\0\0\0\0\0not json", 16));
  expect_model_refused(no_json, {ModelCopy::kShard});

  ModelCopy absurd_length;
  absurd_length.replace(ModelCopy::kShard, std::string(8, '\xff') + "{}");
  expect_model_refused(absurd_length, {ModelCopy::kShard});
}

TEST(BadModel, MissingTensor) {
  ModelCopy copy;
  copy.edit("model.safetensors.index.json", [](ordered_json& index) { index["weight_map"].erase(kTensor); });
  copy.edit_header([](ordered_json& header) { ASSERT_EQ(header.erase(kTensor), 1U); });
  expect_model_refused(copy, {"model.layers.0.self_attn.q_proj"});
}

TEST(BadModel, TensorOfTheWrongShape) {
  ModelCopy copy;
  copy.edit_header([](ordered_json& header) {
    auto& shape = header.at(kTensor).at("shape");
    shape = ordered_json::array({shape[1], shape[0]});
  });
  expect_model_refused(copy, {kTensor});
}

TEST(BadModel, TensorOfTheWrongType) {
  ModelCopy copy;
  copy.edit_header([](ordered_json& header) { header.at(kTensor)["dtype"] = "I16"; });
  expect_model_refused(copy, {kTensor, "I16"});
}

TEST(BadModel, UnsupportedModelType) {
  ModelCopy copy;
  copy.edit("config.json", [](ordered_json& config) { config["model_type"] = "mystery"; });
  expect_model_refused(copy, {"config.json", "mystery"});
}

TEST(BadModel, UnsupportedQuantization) {
  ModelCopy mode;
  mode.edit("config.json", [](ordered_json& config) { config["quantization"]["mode"] = "mystery"; });
  expect_model_refused(mode, {"config.json", "mystery"});
  ModelCopy bits;
  bits.edit("config.json", [](ordered_json& config) { config["quantization"]["bits"] = 7; });
  expect_model_refused(bits, {"config.json", "7"});
}

TEST(BadModel, BrokenConfig) {
  for (const char* text : {"", "{", "[]", "{\"model_type\": 3}", "{\"model_type\": \"qwen3_moe\"}"}) {
    ModelCopy copy;
    copy.replace("config.json", text);
    expect_model_refused(copy, {"config.json"});
  }
  ModelCopy absurd;
  absurd.edit("config.json", [](ordered_json& config) { config["num_hidden_layers"] = -1; });
  expect_model_refused(absurd, {"config.json", "num_hidden_layers"});
}

TEST(BadModel, InfinityAndNaNInConfigAreAccepted) {
  ModelCopy copy;
  std::string text = read_file(embedded_model() / "config.json");
  text.insert(text.find('{') + 1, "\"time_step_limit\": [0.0, Infinity, -Infinity, NaN],");
  copy.replace("config.json", text);
  const ProgramResult result = run_program({"run", "-m", copy.directory(), "-p", "Hello", "-n", "2", "--quiet"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
}

TEST(BadModel, BrokenTokenizer) {
  ModelCopy broken;
  broken.replace("tokenizer.json", "{\"model\": ");
  expect_model_refused(broken, {"tokenizer.json"});
  ModelCopy missing;
  missing.remove("tokenizer.json");
  expect_model_refused(missing, {"tokenizer.json"});
  ModelCopy unsupported;
  unsupported.edit("tokenizer.json", [](ordered_json& tokenizer) { tokenizer["model"]["type"] = "Unigram"; });
  expect_model_refused(unsupported, {"tokenizer.json", "Unigram"});
}

TEST(BadModel, BrokenGenerationConfig) {
  ModelCopy copy;
  copy.replace("generation_config.json", "{\"temperature\": \"warm\"}");
  expect_model_refused(copy, {"generation_config.json", "temperature"});
}

TEST(BadModel, UnknownChatTemplateIsRefusedByName) {
  ModelCopy copy;
  copy.edit("tokenizer_config.json", [](ordered_json& config) { config["chat_template"] = "{{ mystery }}"; });
  expect_refused(run_program({"run", "-m", copy.directory(), "-p", "Hello", "--chat"}), kFailure,
                 {"tokenizer_config.json"});
}

TEST(BadPrompt, NotUtf8) {
  const ScratchDirectory scratch;
  const std::string bad = "caf\xe9 au lait";
  const std::string file = scratch.write("latin1.txt", bad).string();
  expect_refused(run_program({"run", "-p", bad}), kFailure, {"--prompt", "UTF-8", "offset 3"});
  expect_refused(run_program({"run", "-f", file}), kFailure, {file, "UTF-8"});
  expect_refused(run_program(ProgramInput{{"run", "-p", "-"}, {}, bad}), kFailure, {"standard input", "UTF-8"});
  expect_refused(run_program({"tokenize", bad}), kFailure, {"UTF-8"});
}

TEST(BadPrompt, LongerThanTheContext) {
  expect_refused(run_program({"run", "-m", kModel, "-p", "one two three four five six", "-c", "4"}), kFailure,
                 {"prompt", "context", "4", "--ctx-size"});
  expect_refused(run_program({"logits", "--tokens", "1,2,3,4,5", "-c", "4", "-o", "/dev/null"}), kFailure,
                 {"--tokens", "--ctx-size"});
}

TEST(BadPrompt, EmptyOrMissing) {
  expect_refused(run_program({"run", "-m", kModel, "-p", ""}), kFailure, {"prompt"});
  expect_refused(run_program({"run", "-m", kModel}), kUsage, {"-p"});
  expect_refused(run_program({"run", "-f", "/no/such/file"}), kFailure, {"/no/such/file"});
  expect_refused(run_program({"run", "-f", "/"}), kFailure, {"/: cannot be read"});
  expect_refused(run_program({"run", "-p", "a", "-f", "b"}), kUsage, {"--file"});
  expect_refused(run_program({"tokenize"}), kUsage, {"text"});
}

TEST(BadOutput, UnwritableFileIsFoundBeforeTheModelIsLoaded) {
  // The model does not exist past its config: whatever touched it would fail with another message.
  ModelCopy copy;
  copy.remove(ModelCopy::kShard);
  const std::string file = "/no/such/directory/result";
  expect_refused(run_program({"run", "-m", copy.directory(), "-p", "Hello", "--stats-json", file}), kFailure, {file});
  expect_refused(run_program({"logits", "-m", copy.directory(), "--tokens", "1", "-o", file}), kFailure, {file});
  expect_refused(run_program({"logits", "--tokens", "1", "-o", copy.directory()}), kFailure,
                 {copy.directory(), "directory"});
}

TEST(BadTokens, OutsideTheVocabularyWritesNothing) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "logits").string();
  expect_refused(run_program({"logits", "--tokens", "1,8192", "-o", file}), kFailure, {"8192", "0 to 8191"});
  expect_refused(run_program({"logits", "--tokens", "1,,2", "-o", file}), kUsage, {"--tokens"});
  expect_refused(run_program({"logits", "--tokens", "-1", "-o", file}), kUsage, {"--tokens"});
  expect_refused(run_program({"logits", "--tokens", "99999999999999", "-o", file}), kUsage, {"--tokens"});
  expect_refused(run_program({"logits", "--tokens", "1,2", "--prefill", "3", "-o", file}), kUsage, {"--prefill"});
  expect_refused(run_program({"logits", "-o", file}), kUsage, {"--tokens"});
  EXPECT_THAT(scratch.names(), IsEmpty());
}

TEST(BadSettings, SlotsBelowTheFloor) {
  for (const char* slots : {"0", "1", "3"}) {
    expect_refused(run_program({"run", "-p", "Hello", "--cache-slots", slots}), kFailure, {"--cache-slots", "4"});
  }
}

TEST(BadSettings, MemoryBelowTheFloorShowsWhatIsNeeded) {
  const ProgramResult result = run_program({"run", "-p", "Hello", "--memory", "1MiB"});
  EXPECT_EQ(result.exit_code, kFailure);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, AllOf(StartsWith("sluice: --memory"), HasSubstr("expert slots"), HasSubstr("total")));
}

TEST(BadSettings, ContextBeyondTheModel) {
  expect_refused(run_program({"run", "-p", "Hello", "-c", "5000"}), kFailure, {"--ctx-size", "4096"});
}

TEST(BadSettings, ValuesThatAreNone) {
  for (const std::vector<std::string>& flag : std::vector<std::vector<std::string>>{{"--threads", "x"},
                                                                                    {"--memory", "x"},
                                                                                    {"--io", "x"},
                                                                                    {"--policy", "x"},
                                                                                    {"--moe-path", "x"},
                                                                                    {"--cache-type", "x"},
                                                                                    {"--activations", "x"},
                                                                                    {"--max-tokens", "x"},
                                                                                    {"--temp", "x"},
                                                                                    {"--top-p", "2"},
                                                                                    {"--seed", "x"},
                                                                                    {"--top-k", "-1"}}) {
    std::vector<std::string> arguments{"run", "-p", "Hello"};
    arguments.insert(arguments.end(), flag.begin(), flag.end());
    expect_refused(run_program(arguments), kUsage, {flag.front()});
  }
}

TEST(BadSettings, VariablesAreNamedAsVariables) {
  expect_refused(run_program(ProgramInput{{"run"}, {{"SLUICE_CACHE_SLOT", "8"}}}), kUsage,
                 {"SLUICE_CACHE_SLOT:", "SLUICE_CACHE_SLOTS"});
  expect_refused(run_program(ProgramInput{{"run"}, {{"SLUICE_THREADS", "x"}}}), kUsage, {"SLUICE_THREADS"});
  expect_refused(run_program(ProgramInput{{"run"}, {{"SLUICE_ISA", "mystery"}}}), kUsage, {"SLUICE_ISA"});
  expect_refused(run_program(ProgramInput{{"tokenize", "x"}, {{"SLUICE_NONSENSE", "1"}}}), kUsage, {"SLUICE_NONSENSE"});
}

TEST(BadCommand, UnknownFlagAndVerb) {
  expect_refused(run_program({"run", "--cache-slot", "8"}), kUsage, {"--cache-slot", "did you mean --cache-slots?"});
  expect_refused(run_program({"rum"}), kUsage, {"rum", "did you mean run?"});
  expect_refused(run_program({"--versio"}), kUsage, {"--versio", "did you mean --version?"});
  expect_refused(run_program(std::vector<std::string>{}), kUsage, {"--help"});
  expect_refused(run_program({"run", "Hello"}), kUsage, {"Hello"});
  expect_refused(run_program({"run", "-p", "Hello", "--system-prompt", "x", "--no-chat"}), kUsage, {"--system-prompt"});
}

TEST(BadCommand, ControlCharactersDoNotReachTheTerminal) {
  expect_refused(run_program({"run", "-m", "/no/\x1b[2Jdir", "-p", "x"}), kFailure, {"\\x1b[2J"});
}

}  // namespace
}  // namespace sluice::tools::testing
