// sluice simulate, as a user runs it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "program.h"
#include "stream/scratch.h"

namespace sluice::tools {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::ProgramResult;
using testing::run_program;

const std::string kModel = std::string(SLUICE_SOURCE_DIR) + "/tests/data/models/qwen3_moe-many-affine4-gs32";

std::string content(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

class Simulate : public ::testing::Test {
 protected:
  std::string path(const char* name) const { return (scratch_.path() / name).string(); }
  json read_json(const char* name) const { return json::parse(content(path(name))); }

  stream::ScratchDirectory scratch_;
};

TEST_F(Simulate, CountsWhatTheRunCounted) {
  std::string tokens = "1";
  for (int i = 2; i <= 60; ++i) tokens += "," + std::to_string(i * 7 % 190);
  for (const auto& [slots, policy] : {std::pair("4", "decay"), std::pair("7", "lru"), std::pair("20", "decay")}) {
    const ProgramResult run = run_program({"logits", "-m", kModel, "--tokens", tokens, "--prefill", "20", "-o",
                                           path("logits"), "--cache-slots", slots, "--policy", policy, "--route-trace",
                                           path("run.trace"), "--stats-json", path("run.json")});
    ASSERT_EQ(run.exit_code, 0) << run.errors;
    const ProgramResult result = run_program(
        {"simulate", path("run.trace"), "--slots", slots, "--policy", policy, "--json", path("simulated.json")});
    ASSERT_EQ(result.exit_code, 0) << result.errors;
    const json counted = read_json("run.json");
    const json simulated = read_json("simulated.json");
    ASSERT_EQ(simulated["results"].size(), 1u);
    const json& cache = simulated["results"][0];
    EXPECT_EQ(simulated["decode_steps"], 40);
    EXPECT_EQ(simulated["prefill_steps"], 1);
    for (const char* name : {"lookups", "hits", "misses_cold", "misses_capacity", "hit_rate"}) {
      EXPECT_EQ(cache[name], counted["cache"][name]) << name;
      EXPECT_EQ(cache["prefill"][name], counted["prefill"]["cache"][name]) << name;
      for (std::size_t layer = 0; layer < counted["cache"]["per_layer"].size(); ++layer) {
        EXPECT_EQ(cache["per_layer"][layer][name], counted["cache"]["per_layer"][layer][name]) << layer << name;
      }
    }
    const ProgramResult belady = run_program(
        {"simulate", path("run.trace"), "--slots", slots, "--policy", "belady", "--json", path("belady.json")});
    EXPECT_EQ(read_json("belady.json")["results"][0]["hit_rate"], counted["regret"]["belady_hit_rate"])
        << belady.errors;
  }
}

TEST_F(Simulate, ShowsEveryPolicyAndDrawsIt) {
  const ProgramResult result = run_program({"simulate", "gen:olmoe", "--tokens", "80", "--slots", "16,8,16", "--svg",
                                            path("plot.svg"), "--json", path("all.json")});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, AllOf(HasSubstr("gen:olmoe: 16 MoE layers, 64 experts, 8 per token"),
                                   HasSubstr("0 prefill and 80 decode steps"), HasSubstr("decay"), HasSubstr("lru"),
                                   HasSubstr("belady"), Not(HasSubstr("tokens per second"))));
  EXPECT_THAT(content(path("plot.svg")),
              AllOf(HasSubstr("expert slots per layer, of 64"), HasSubstr(">belady<"), HasSubstr(">decay<")));
  const json all = read_json("all.json");
  ASSERT_EQ(all["results"].size(), 6u);
  EXPECT_EQ(all["results"][0]["slots"], 8);
  EXPECT_EQ(all["results"][5]["slots"], 16);
  EXPECT_TRUE(all["prediction"].is_null());
  EXPECT_TRUE(all["results"][0]["tok_per_s"].is_null());
  const double decay = all["results"][3]["hit_rate"], belady = all["results"][5]["hit_rate"];
  EXPECT_GT(belady, decay);
}

TEST_F(Simulate, WarmUpIsNotCounted) {
  const auto hit_rate = [&](const char* warm_up) {
    run_program({"simulate", "gen:olmoe", "--tokens", "64", "--slots", "64", "--policy", "lru", "--warm-up", warm_up,
                 "--json", path("warm.json")});
    const json result = read_json("warm.json")["results"][0];
    EXPECT_EQ(result["lookups"], (64 - std::stoi(warm_up)) * 16 * 8);
    return result["hit_rate"].get<double>();
  };
  EXPECT_LT(hit_rate("0"), hit_rate("32"));
}

TEST_F(Simulate, PredictsSpeedFromRatesAndSizes) {
  // Everything is in slots after the first step: 16 layers x 8 experts x 1 MB and 72 MB of dense weights from memory.
  const std::vector<std::string> arguments{"simulate",
                                           "gen:olmoe",
                                           "--tokens",
                                           "2",
                                           "--warm-up",
                                           "1",
                                           "--slots",
                                           "64",
                                           "--policy",
                                           "lru",
                                           "--experts-per-token",
                                           "64",
                                           "--disk-bandwidth",
                                           "1GB/s",
                                           "--expert-bytes",
                                           "1MB",
                                           "--memory-bandwidth",
                                           "10GB",
                                           "--dense-bytes",
                                           "72MB",
                                           "--json",
                                           path("speed.json")};
  const ProgramResult result = run_program(arguments);
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  EXPECT_THAT(result.output, HasSubstr("tokens per second at most"));
  const double speed = read_json("speed.json")["results"][0]["tok_per_s"];
  EXPECT_NEAR(speed, 10e9 / (16 * 64 * 1e6 + 72e6), 0.01);
}

TEST_F(Simulate, TakesSizesFromACheckpoint) {
  const ProgramResult result =
      run_program({"simulate", "gen:olmoe", "--tokens", "4", "--slots", "8", "--disk-bandwidth", "1GB",
                   "--memory-bandwidth", "10GB", "-m", kModel, "--json", path("sizes.json")});
  EXPECT_EQ(result.exit_code, 0) << result.errors;
  const json prediction = read_json("sizes.json")["prediction"];
  const ProgramResult run = run_program(
      {"logits", "-m", kModel, "--tokens", "1,2", "-o", path("logits"), "--route-trace", path("run.trace")});
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  const std::string trace = content(path("run.trace"));
  const json header = json::parse(trace.substr(0, trace.find('\n')));
  EXPECT_EQ(prediction["expert_bytes"], header["expert_bytes"]);
  EXPECT_EQ(prediction["dense_bytes"], header["dense_bytes"]);
  EXPECT_EQ(prediction["layer_by_layer"], false) << "olmoe has more layers";
  EXPECT_EQ(prediction["lookahead_recall"], 0);
  EXPECT_THAT(result.output, AllOf(HasSubstr("spread evenly"), HasSubstr("recall 0")));
}

TEST_F(Simulate, TakesTheLayersOfTheModelThatWasRecorded) {
  const ProgramResult run = run_program({"logits", "-m", kModel, "--tokens", "1,2,3,4,5", "--prefill", "1", "-o",
                                         path("logits"), "--route-trace", path("run.trace")});
  ASSERT_EQ(run.exit_code, 0) << run.errors;
  const auto simulated = [&](std::vector<std::string> more) {
    std::vector<std::string> arguments{
        "simulate", path("run.trace"),    "--slots", "4",      "--policy",         "lru", "--disk-bandwidth",
        "1GB",      "--memory-bandwidth", "10GB",    "--json", path("layers.json")};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_THAT(result.output, HasSubstr(more.empty() ? "spread evenly" : "as the layers have them"));
    return read_json("layers.json");
  };
  const json even = simulated({});
  const json exact = simulated({"-m", kModel});
  EXPECT_EQ(even["prediction"]["layer_by_layer"], false);
  EXPECT_EQ(exact["prediction"]["layer_by_layer"], true);
  EXPECT_EQ(exact["prediction"]["expert_bytes"], even["prediction"]["expert_bytes"]);
  EXPECT_LT(exact["results"][0]["tok_per_s"], even["results"][0]["tok_per_s"]) << "reads take whole windows";
}

TEST_F(Simulate, ADenseModelLeavesNoTraceAndSaysSo) {
  const std::string dense = std::string(SLUICE_SOURCE_DIR) + "/tests/data/models/qwen3-affine4-gs64";
  const ProgramResult run = run_program({"logits", "-m", dense, "--tokens", "1,2", "-o", path("logits"),
                                         "--route-trace", path("run.trace"), "--stats-json", path("run.json")});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_THAT(run.errors, AllOf(HasSubstr("requested --route-trace"), HasSubstr("no experts to route to")));
  EXPECT_EQ(read_json("run.json")["settings"]["route_trace"]["value"], "none");
  EXPECT_FALSE(std::filesystem::exists(path("run.trace")));
}

TEST_F(Simulate, ATraceThatCannotBeWrittenIsNamedBeforeTheRun) {
  const ProgramResult run = run_program(
      {"logits", "-m", kModel, "--tokens", "1,2", "-o", path("logits"), "--route-trace", "/nowhere/run.trace"});
  EXPECT_EQ(run.exit_code, 1);
  EXPECT_THAT(run.errors, HasSubstr("/nowhere/run.trace"));
  EXPECT_FALSE(std::filesystem::exists(path("logits")));
}

struct Refusal {
  std::vector<std::string> arguments;
  int exit_code;
  std::string message;
};

TEST_F(Simulate, RefusesWhatItCannotUse) {
  scratch_.write("table.csv", std::string_view("phase,step,layer,expert\n1,0,0,5\n"));
  const std::vector<Refusal> refusals{
      {{"gen:olmo"}, 2, "did you mean olmoe?"},
      {{path("none")}, 1, "none"},
      {{path("table.csv"), "--tokens", "5"}, 2, "--tokens: only for generated routes"},
      {{path("table.csv"), "--seed", "5"}, 2, "--seed: only for generated routes"},
      {{path("table.csv"), "--warm-up", "1"}, 2, "--warm-up: 1 of 1 decode steps leave none to count"},
      {{"gen:olmoe", "--slots", "8,0"}, 2, "--slots"},
      {{"gen:olmoe", "--slots", "8,"}, 2, "--slots"},
      {{"gen:olmoe", "--policy", "lru,fifo"}, 2, "--policy: 'fifo' is unknown; choose one of decay, lru, belady"},
      {{"gen:olmoe", "--experts-per-token", "65"}, 2, "--experts-per-token"},
      {{"gen:olmoe", "--disk-bandwidth", "1GB"}, 2, "give the other one too"},
      {{"gen:olmoe", "--disk-bandwidth", "1GB", "--memory-bandwidth", "9GB"}, 2, "--expert-bytes"},
      {{"gen:olmoe", "--disk-bandwidth", "0"}, 2, "--disk-bandwidth"},
      {{"gen:olmoe", "--lookahead-recall", "1.5"}, 2, "--lookahead-recall: '1.5' is not a number from 0 to 1"},
      {{"gen:olmoe", "--json", "/nowhere/x.json"}, 1, "/nowhere/x.json"},
      {{}, 2, "TRACE"}};
  for (const Refusal& refusal : refusals) {
    std::vector<std::string> arguments{"simulate"};
    arguments.insert(arguments.end(), refusal.arguments.begin(), refusal.arguments.end());
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, refusal.exit_code) << refusal.message;
    EXPECT_THAT(result.errors, HasSubstr(refusal.message));
    EXPECT_EQ(result.output, "");
  }
}

}  // namespace
}  // namespace sluice::tools
