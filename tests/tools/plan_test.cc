// sluice plan as its user sees it. The figures are tested in tests/model/prediction_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
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
using ::testing::HasSubstr;
using ::testing::Not;

/// Runs plan with --json and returns the document.
json plan_of(std::vector<std::string> arguments) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "plan.json").string();
  arguments.insert(arguments.begin(), "plan");
  arguments.insert(arguments.end(), {"--json", file});
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  return json::parse(read_file(file));
}

TEST(Plan, SaysWhatARunOfTheEmbeddedModelWouldDo) {
  ModelCopy copy;
  copy.remove("tokenizer.json");
  const ProgramResult result = run_program({"plan"});
  ASSERT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_EQ(result.errors, "");
  EXPECT_THAT(result.output,
              AllOf(ContainsRegex("disk +[0-9.]+ [MG]iB/s in reads of [0-9.]+ [KM]iB, [0-9]+ at once"),
                    ContainsRegex("memory +[0-9.]+ [MG]iB/s with"), HasSubstr("in the manner of inkwell-44m"),
                    ContainsRegex("decode +up to [0-9.]+ tok/s, bound by"),
                    ContainsRegex("prefill +about [0-9.]+ tok/s, bound by"), HasSubstr("while slots are empty"),
                    ContainsRegex("12 +[0-9]+ MiB .*<- this plan"), HasSubstr("twice the disk speed"),
                    ContainsRegex("cache_slots +12 +embedded model")));

  const ProgramResult named = run_program({"plan", "-m", copy.directory()});
  EXPECT_EQ(named.exit_code, 0) << named.errors;
  EXPECT_THAT(named.output, HasSubstr("all experts are in slots")) << "a small model fits, and needs no tokenizer";
}

TEST(Plan, SaysWhatPackingWouldGain) {
  EXPECT_THAT(
      run_program({"plan"}).output,
      ContainsRegex("packing +an expert's 9 slices are read at .*B/s, as one record at .*B/s: sluice pack would"));
  const json packing = plan_of({})["packing"];
  EXPECT_EQ(packing["slices_per_expert"], 9);
  EXPECT_GT(packing["scattered_bytes_per_s"], 0);
  EXPECT_GT(packing["record_bytes_per_s"], 0);

  const ScratchDirectory scratch;
  const std::string packed = (scratch / "packed").string();
  ASSERT_EQ(run_program({"pack", "--quiet", embedded_model().string(), packed}).exit_code, 0);
  EXPECT_TRUE(plan_of({"-m", packed})["packing"].is_null());
  EXPECT_THAT(run_program({"plan", "-m", packed}).output, Not(HasSubstr("packing")));
}

TEST(Plan, SaysWhetherItCountsOnReadingAhead) {
  const auto recall = [](const char* prefetch) {
    return plan_of({"--cache-slots", "8", "--prefetch", prefetch})["lookahead_recall"].get<double>();
  };
  EXPECT_EQ(recall("auto"), 0.8);
  EXPECT_EQ(recall("off"), 0);
  EXPECT_THAT(run_program({"plan"}).output, HasSubstr("80 % of the misses are guessed"));
  EXPECT_THAT(run_program({"plan", "--prefetch", "off"}).output, HasSubstr("without reading ahead"));
}

TEST(Plan, SaysWhatAPromptChunkIsAndWhy) {
  const json plan = plan_of({"--cache-slots", "8"});
  EXPECT_GT(plan["machine"]["multiplications_per_s"], 0);
  EXPECT_EQ(plan["settings"]["prefill_chunk"]["value"], std::to_string(plan["prefill"]["chunk"].get<int>()));
  EXPECT_EQ(plan["settings"]["prefill_chunk"]["origin"], plan["prefill"]["chunk_origin"]);
  EXPECT_GT(plan["prefill"]["chunk_multiply_seconds"], 0);
  EXPECT_THAT(run_program({"plan"}).output, ContainsRegex("chunk [0-9]+: auto: the disk needs"));
  EXPECT_EQ(plan_of({"--prefill-chunk", "64"})["settings"]["prefill_chunk"]["origin"], "flag --prefill-chunk");
}

TEST(Plan, PredictsPrefillFromItsParts) {
  const json plan = plan_of({"--cache-slots", "8", "--prefill-chunk", "64"});
  for (const json* prefill : {&plan["prefill"], &plan["cold_prefill"], &plan["double_disk"]["prefill"]}) {
    const auto seconds = [&](const char* name) { return (*prefill)[name].get<double>(); };
    EXPECT_EQ((*prefill)["tokens"], 64);
    EXPECT_GT(seconds("multiply_seconds"), seconds("expert_multiply_seconds"));
    EXPECT_GT(seconds("expert_multiply_seconds"), 0);
    EXPECT_NEAR(64 / seconds("tok_per_s"), seconds("multiply_seconds") + seconds("wait_seconds"), 1e-9);
    EXPECT_LE(seconds("tok_per_s"), 64 / seconds("disk_seconds") * (1 + 1e-9));
    const bool disk = seconds("disk_seconds") > seconds("multiply_seconds");
    EXPECT_EQ((*prefill)["binding"], disk ? "disk" : "multiplication");
  }
  EXPECT_DOUBLE_EQ(plan["double_disk"]["prefill"]["disk_seconds"], plan["prefill"]["disk_seconds"].get<double>() / 2);
  const double used = plan["prefill"]["distinct_experts_per_layer"];
  EXPECT_NEAR(plan["prefill"]["bytes_read"].get<double>() / plan["cold_prefill"]["bytes_read"].get<double>(),
              (used - 8) / used, 1e-9);
  EXPECT_LT(plan["double_memory"]["prefill"]["bytes_read"], plan["prefill"]["bytes_read"]);
  EXPECT_GE(plan["double_disk"]["prefill"]["tok_per_s"], plan["prefill"]["tok_per_s"]);
}

TEST(Plan, RefusesWhatOnlyARunWrites) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "file").string();
  const std::vector<std::vector<std::string>> outputs{{"--stats"}, {"--stats-json", file}, {"--route-trace", file}};
  for (const char* verb : {"plan", "inspect"}) {
    for (const std::vector<std::string>& output : outputs) {
      std::vector<std::string> arguments{verb, "-m", "/nowhere"};
      arguments.insert(arguments.end(), output.begin(), output.end());
      const ProgramResult result = run_program(arguments);
      EXPECT_EQ(result.exit_code, 2);
      EXPECT_THAT(result.errors, AllOf(HasSubstr(output.front() + ": "), HasSubstr(verb), HasSubstr("sluice run")));
    }
  }
}

TEST(Plan, MoreSlotsNeverPredictLess) {
  const json plan = plan_of({"--cache-slots", "8"});
  EXPECT_EQ(plan["memory"]["slots_per_layer"], 8);
  EXPECT_EQ(plan["decode"]["slots_per_layer"], 8);
  EXPECT_EQ(plan["settings"]["cache_slots"]["origin"], "flag --cache-slots");
  ASSERT_GE(plan["slots"].size(), 5U);
  EXPECT_EQ(plan["slots"].front()["slots_per_layer"], 4);
  EXPECT_EQ(plan["slots"].back()["slots_per_layer"], 32);
  EXPECT_EQ(plan["slots"].back()["hit_rate"], 1);
  for (std::size_t i = 1; i < plan["slots"].size(); ++i) {
    for (const char* name : {"slots_per_layer", "memory_bytes", "hit_rate", "schedule_tok_per_s"}) {
      EXPECT_GT(plan["slots"][i][name], plan["slots"][i - 1][name]) << name;
    }
    const json& row = plan["slots"][i];
    EXPECT_LE(row["schedule_tok_per_s"], row["memory_tok_per_s"].get<double>() * (1 + 1e-9));
  }
  EXPECT_GT(plan["double_memory"]["slots_per_layer"], 8);
  EXPECT_GT(plan["double_disk"]["schedule_tok_per_s"], plan["decode"]["schedule_tok_per_s"]);
  double best = 0;
  for (const json& cell : plan["machine"]["disk_grid"]) best = std::max(best, cell["bytes_per_s"].get<double>());
  EXPECT_EQ(plan["machine"]["disk_bytes_per_s"], best);
}

TEST(Plan, UsesTheRoutesOfARun) {
  const ScratchDirectory scratch;
  const std::string trace = (scratch / "routes").string();
  ASSERT_EQ(run_program({"run", "-n", "40", "--temp", "0", "--quiet", "--route-trace", trace}).exit_code, 0);
  const json recorded = plan_of({"--cache-slots", "8", "--trace", trace});
  EXPECT_THAT(recorded["routing"].get<std::string>(), HasSubstr(trace));
  EXPECT_NE(recorded["decode"]["hit_rate"], plan_of({"--cache-slots", "8"})["decode"]["hit_rate"]);

  const ProgramResult other = run_program({"plan", "--experts-per-token", "2", "--trace", trace});
  EXPECT_EQ(other.exit_code, 1);
  EXPECT_THAT(other.errors, AllOf(HasSubstr(trace), HasSubstr("4 per token"), HasSubstr("2 per token")));
}

TEST(Plan, ASyntheticCheckpointOfARealShape) {
  const ScratchDirectory scratch;
  const std::string directory = (scratch / "model").string();
  ASSERT_EQ(run_program({"synth", "--like", "qwen3-30b-a3b", "--layers", "1", "--bits", "2", "--group-size", "128",
                         "--quiet", directory})
                .exit_code,
            0);
  const json plan = plan_of({"-m", directory, "--cache-slots", "16", "-c", "256"});
  EXPECT_EQ(plan["model"]["experts_per_layer"], 128);
  EXPECT_EQ(plan["memory"]["slots_per_layer"], 16);
  EXPECT_GT(plan["decode"]["hit_rate"], 0.3);
  EXPECT_LT(plan["decode"]["hit_rate"], 0.8);
  EXPECT_GT(plan["decode"]["bytes_read_per_token"], 0);
  EXPECT_GT(plan["prefill"]["distinct_experts_per_layer"], 64);
}

TEST(Plan, ADenseModelHasNoSlots) {
  const ProgramResult result = run_program({"plan", "-m", SLUICE_SOURCE_DIR "/tests/data/models/qwen3-affine4-gs64"});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("every token touches all weights"),
                                   ContainsRegex("prefill +about [0-9.]+ tok/s for the first"),
                                   Not(HasSubstr("this plan")), Not(HasSubstr("hits"))));
}

TEST(Plan, WhatDoesNotFitIsSaidWithTheTable) {
  const ProgramResult result = run_program({"plan", "--memory", "1MiB"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.output, "");
  EXPECT_THAT(result.errors, AllOf(HasSubstr("--memory"), HasSubstr("expert slots")));
}

TEST(Plan, DocumentationNamesEveryValue) {
  const std::string usage = read_file(SLUICE_SOURCE_DIR "/docs/usage.md");
  const json plan = plan_of({});
  for (const auto& [section, value] : plan.items()) {
    EXPECT_THAT(usage, HasSubstr("`" + section)) << "not documented";
    if (section == "settings" || !value.is_object()) continue;
    for (const auto& [name, ignored] : value.items()) EXPECT_THAT(usage, HasSubstr("`" + name + "`")) << section;
  }
}

TEST(Rates, ARunKeepsThemForTheNext) {
  const ScratchDirectory scratch;
  const std::string file = (scratch / "stats.json").string();
  const auto statistics = [&](std::vector<std::string> more) {
    ProgramInput input{{"run", "-n", "8", "--temp", "0", "--stats-json", file, "--quiet", "-t", "1"},
                       {{"XDG_CACHE_HOME", scratch.path().string()}}};
    input.arguments.insert(input.arguments.end(), more.begin(), more.end());
    EXPECT_EQ(run_program(input).exit_code, 0);
    return json::parse(read_file(file));
  };
  const json first = statistics({});
  EXPECT_TRUE(first["io"]["probe_age_seconds"].is_null());
  const json second = statistics({});
  EXPECT_TRUE(second["io"]["probe_age_seconds"].is_number());
  EXPECT_EQ(second["io"]["probe_bandwidth_bytes_per_s"], first["io"]["probe_bandwidth_bytes_per_s"]);
  EXPECT_TRUE(statistics({"--probe"})["io"]["probe_age_seconds"].is_null());
}

}  // namespace
}  // namespace sluice::tools::testing
