// The program as its user sees it: what it writes where, and how it ends.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::StartsWith;

const std::string kModel = embedded_model().string();

TEST(Run, WritesTextToStdoutAndTheRestToStderr) {
  const ProgramResult result = run_program({"run", "-p", "Name a book by Jules Verne.", "--temp", "0"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, ContainsRegex("^One book by Jules Verne is .*\\.\n$"));
  EXPECT_THAT(result.errors, AllOf(HasSubstr("tok/s"), HasSubstr("% hits"), HasSubstr("read ")));
}

TEST(Run, AloneWritesAPassageFromAStreamingModel) {
  const ProgramResult result = run_program({"run", "-n", "24", "--stats"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_GT(result.output.size(), 40U);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("prompt   Write a passage"), HasSubstr("12 of 32 experts")));
}

TEST(Run, SameSeedSameText) {
  const std::vector<std::string> arguments{"run", "-n", "16", "--seed", "5", "--quiet"};
  const ProgramResult first = run_program(arguments);
  EXPECT_EQ(first.exit_code, 0);
  EXPECT_EQ(first.output, run_program(arguments).output);
  std::vector<std::string> other = arguments;
  other[4] = "6";
  EXPECT_NE(first.output, run_program(other).output);
}

TEST(Run, QuietWritesOnlyText) {
  const ProgramResult result = run_program({"run", "-n", "4", "--quiet", "--prefetch", "on"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.errors, "");
}

TEST(Run, PromptFromFileStandardInputAndArgumentAreTheSame) {
  const ScratchDirectory scratch;
  const std::string text = "It was a cold evening, and the old man";
  const std::string file = scratch.write("prompt.txt", text + "\n").string();
  const auto output = [&](std::vector<std::string> input, const std::string& standard_input) {
    std::vector<std::string> arguments{"run", "-m", kModel, "-n", "8", "--temp", "0", "--quiet"};
    arguments.insert(arguments.end(), input.begin(), input.end());
    const ProgramResult result = run_program(ProgramInput{arguments, {}, standard_input});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return result.output;
  };
  const std::string expected = output({"-p", text}, "");
  EXPECT_GT(expected.size(), 8U);
  EXPECT_EQ(output({"-f", file}, ""), expected);
  EXPECT_EQ(output({"-p", "-"}, text + "\n"), expected);
  EXPECT_NE(output({"-p", text, "--chat"}, ""), expected);
}

TEST(Run, MaxTokensZeroEvaluatesThePromptOnly) {
  const ProgramResult result = run_program({"run", "-p", "Hello!", "-n", "0", "--quiet"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.output, "\n");
}

TEST(Run, ContextThatFillsUpEndsTheText) {
  const ProgramResult result = run_program({"run", "-m", kModel, "-p", "It was", "-n", "-1", "-c", "16", "--quiet"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
}

TEST(Run, EnvironmentSetsWhatFlagsSet) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "stats.json").string();
  const ProgramResult result = run_program(ProgramInput{
      {"run", "-n", "4", "--threads", "1"},
      {{"SLUICE_STATS_JSON", file}, {"SLUICE_CACHE_SLOTS", "9"}, {"SLUICE_THREADS", "2"}, {"SLUICE_QUIET", "1"}}});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  const json statistics = json::parse(read_file(file));
  EXPECT_EQ(statistics["cache"]["slots_per_layer"], 9);
  EXPECT_EQ(statistics["settings"]["cache_slots"]["value"], "9");
  EXPECT_EQ(statistics["settings"]["cache_slots"]["origin"], "environment SLUICE_CACHE_SLOTS");
  EXPECT_EQ(statistics["settings"]["threads"]["origin"], "flag --threads");
}

TEST(Run, StatisticsHaveEveryPromisedName) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "stats.json").string();
  const ProgramResult result = run_program({"run", "-n", "8", "--stats-json", file, "--seed", "3"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  const json statistics = json::parse(read_file(file));
  for (const char* name : {"/model",
                           "/load/seconds",
                           "/prefill/tokens",
                           "/prefill/seconds",
                           "/prefill/tok_per_s",
                           "/prefill/bytes_read",
                           "/decode/tokens",
                           "/decode/seconds",
                           "/decode/tok_per_s",
                           "/decode/bytes_read",
                           "/decode/bytes_needed",
                           "/decode/stall_seconds",
                           "/cache/slots_per_layer",
                           "/cache/layers",
                           "/cache/experts_per_layer",
                           "/cache/hits",
                           "/cache/misses_cold",
                           "/cache/misses_capacity",
                           "/cache/hit_rate",
                           "/cache/steady_hit_rate",
                           "/cache/speculative_reads",
                           "/cache/speculative_used",
                           "/cache/per_layer",
                           "/io/engine",
                           "/io/direct",
                           "/io/queue_depth",
                           "/io/bandwidth_bytes_per_s",
                           "/io/probe_bandwidth_bytes_per_s",
                           "/bound/disk_tok_per_s",
                           "/bound/memory_tok_per_s",
                           "/bound/max_tok_per_s",
                           "/bound/fraction",
                           "/bound/binding",
                           "/memory/dense_bytes",
                           "/memory/slot_bytes",
                           "/memory/kv_bytes",
                           "/memory/budget_bytes",
                           "/memory/rss_peak_bytes",
                           "/memory/major_faults",
                           "/memory/huge_page_bytes",
                           "/memory/slots_retired",
                           "/memory/slots_restored",
                           "/load/slots_filled",
                           "/load/slots_filled_bytes"}) {
    EXPECT_TRUE(statistics.contains(json::json_pointer(name))) << name;
  }
  EXPECT_EQ(statistics["settings"]["seed"]["value"], "3");
  EXPECT_THAT(statistics["settings"]["cache_slots"]["origin"].get<std::string>(), StartsWith("embedded model"));
  EXPECT_THAT(scratch.names(), ElementsAre("stats.json"));
}

TEST(Run, DocumentedStatisticsAreTheWrittenOnes) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "stats.json").string();
  ASSERT_EQ(run_program({"run", "-n", "4", "--stats-json", file, "--quiet"}).exit_code, 0);
  const std::string documentation = read_file(std::filesystem::path(SLUICE_SOURCE_DIR) / "docs" / "statistics.md");
  const json statistics = json::parse(read_file(file));
  for (const auto& [section, value] : statistics.items()) {
    if (section == "settings" || !value.is_object()) {
      EXPECT_THAT(documentation, HasSubstr("`" + section)) << "not documented";
      continue;
    }
    for (const auto& [name, ignored] : value.items()) {
      EXPECT_THAT(documentation, HasSubstr("`" + section + "." + name)) << "not documented";
    }
  }
}

TEST(Run, WhatHadNoEffectIsReported) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "stats.json").string();
  const ProgramResult result =
      run_program({"run", "-n", "2", "--prefetch", "on", "--cache-slots", "32", "--stats-json", file});
  EXPECT_THAT(result.errors, HasSubstr("requested --prefetch on, got off because"));
  EXPECT_THAT(json::parse(read_file(file))["notices"].dump(), HasSubstr("--prefetch"));
}

TEST(Run, SlotsForADenseModelAreRefusedOnce) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "logits.safetensors").string();
  const ProgramResult result = run_program({"logits", "-m", SLUICE_SOURCE_DIR "/tests/data/models/qwen3-affine4-gs64",
                                            "--tokens", "1,2", "--cache-slots", "8", "-o", file});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.errors, HasSubstr("requested --cache-slots 8, got 0 because the model has no routed experts"));
  EXPECT_EQ(result.errors.find("requested"), result.errors.rfind("requested")) << result.errors;
}

TEST(Run, ChangingTheModelIsNamed) {
  const ProgramResult result = run_program({"run", "-n", "2", "--experts-per-token", "2"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.errors, HasSubstr("changes the model"));
}

TEST(Run, FullDiskIsAnError) {
  ProgramInput input{{"run", "-n", "4", "--quiet"}, {}, {}, "/dev/full"};
  for (const std::vector<std::string>& arguments :
       {input.arguments, std::vector<std::string>{"inspect"}, std::vector<std::string>{"--help"}}) {
    input.arguments = arguments;
    const ProgramResult result = run_program(input);
    EXPECT_EQ(result.exit_code, 1) << arguments.front();
    EXPECT_THAT(lines(result.errors), ElementsAre(HasSubstr("standard output")));
  }
  const ProgramResult logits = run_program({"logits", "--tokens", "1", "-o", "/dev/full", "--quiet"});
  EXPECT_EQ(logits.exit_code, 1);
  EXPECT_THAT(lines(logits.errors), ElementsAre(HasSubstr("/dev/full")));
}

/// A run that would go on for a long time.
ProgramInput endless_run() {
  return {{"run", "-p", "Tell me about the sea.", "-n", "4000", "--seed", "1"}, {}, {}, {}};
}

TEST(Interrupt, FirstCtrlCEndsTheTextAndStatisticsFollow) {
  RunningProgram program(endless_run());
  ASSERT_TRUE(program.wait_for_output(1));
  program.signal(SIGINT);
  const ProgramResult result = program.finish();
  EXPECT_EQ(result.exit_code, 130);
  EXPECT_THAT(result.output, ::testing::EndsWith("\n"));
  EXPECT_THAT(result.errors, AllOf(HasSubstr("tok/s"), HasSubstr("% hits")));
}

TEST(Interrupt, TerminationIsTheSameWithItsOwnCode) {
  RunningProgram program(endless_run());
  ASSERT_TRUE(program.wait_for_output(1));
  program.signal(SIGTERM);
  const ProgramResult result = program.finish();
  EXPECT_EQ(result.exit_code, 143);
  EXPECT_THAT(result.errors, HasSubstr("tok/s"));
}

TEST(Logits, FileHasOneRowPerToken) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "logits.safetensors").string();
  const ProgramResult result = run_program({"logits", "--tokens", "1949,2103,6259,557", "-o", file});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.output, "");
  const std::string content = read_file(file);
  std::uint64_t length = 0;
  std::memcpy(&length, content.data(), sizeof length);
  EXPECT_EQ((8 + length) % 8, 0U);
  const json header = json::parse(content.substr(8, length));
  EXPECT_EQ(header["logits"]["dtype"], "F32");
  EXPECT_EQ(header["logits"]["shape"], json({4, 8192}));
  EXPECT_EQ(content.size(), 8 + length + 4UL * 8192 * 4);
  EXPECT_THAT(scratch.names(), ElementsAre("logits.safetensors"));
}

TEST(Logits, PrefillAndDecodeGiveTheSameBytes) {
  const ScratchDirectory scratch;
  const auto logits = [&](const std::string& prefill) {
    const std::string file = (scratch / "logits.safetensors").string();
    const ProgramResult result = run_program(
        {"logits", "-m", kModel, "--tokens", "1949,2103,6259,557,290", "--prefill", prefill, "-o", file, "--quiet"});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return read_file(file);
  };
  const std::string whole = logits("5");
  EXPECT_EQ(logits("0"), whole);
  EXPECT_EQ(logits("3"), whole);
}

TEST(Logits, NeedsNoTokenizer) {
  ModelCopy copy;
  copy.remove("tokenizer.json");
  copy.remove("tokenizer_config.json");
  copy.remove("generation_config.json");
  const ScratchDirectory scratch;
  const ProgramResult result = run_program({"logits", "-m", copy.directory(), "--tokens", "1,2", "-o",
                                            (scratch / "logits.safetensors").string(), "--quiet"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
}

TEST(Tokenize, ShowsIdsAndPieces) {
  const ProgramResult result = run_program({"tokenize", "Hello\n\xc3\xb6"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.errors, "");
  const std::vector<std::string> rows = lines(result.output);
  ASSERT_GE(rows.size(), 4U);
  EXPECT_THAT(rows.front(), ContainsRegex("^ +[0-9]+  \"H"));
  EXPECT_THAT(result.output, AllOf(HasSubstr("\"\\n\""), HasSubstr("\\xc3")));
}

TEST(Tokenize, IdsAreWhatLogitsTakes) {
  const ProgramResult ids = run_program({"tokenize", "--ids", "run"});
  EXPECT_THAT(ids.output, ContainsRegex("^[0-9]+(,[0-9]+)*\n$"));
  EXPECT_EQ(run_program(ProgramInput{{"tokenize", "--ids", "-"}, {}, "run\n"}).output, ids.output);
}

TEST(Inspect, ShowsSizesWithoutATokenizer) {
  ModelCopy copy;
  copy.remove("tokenizer.json");
  const ProgramResult result = run_program({"inspect", "-m", copy.directory()});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  EXPECT_THAT(result.output,
              AllOf(HasSubstr("qwen3_moe"), HasSubstr("8 layers"), HasSubstr("32 per layer in 8 layers, 4 per token"),
                    HasSubstr("affine 4-bit"), HasSubstr("4 (floor)"), HasSubstr("32 (all)")));
}

TEST(Inspect, SaysWhyItWouldNotRunHere) {
  const ProgramResult result = run_program({"inspect", "--memory", "1MiB"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("does not run"), HasSubstr("32 (all)")));
}

TEST(Version, NamesWhatABugReportNeeds) {
  const ProgramResult result = run_program({"--version"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(result.errors, "");
  for (const char* name : {"sluice ", "commit ", "compiler ", "isa ", "liburing ", "kernel "}) {
    EXPECT_THAT(result.output, HasSubstr(name));
  }
  EXPECT_THAT(run_program(ProgramInput{{"--version"}, {{"SLUICE_ISA", "scalar"}}}).output,
              ContainsRegex("isa +scalar"));
}

TEST(Help, GoesToStdoutAndSucceeds) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"--help"}, {"help"}, {"run", "--help"}, {"logits", "-h"}}) {
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_EQ(result.errors, "");
    EXPECT_THAT(result.output, StartsWith("usage: sluice"));
  }
}

}  // namespace
}  // namespace sluice::tools::testing
