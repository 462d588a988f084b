// --io mmap as its user sees it: the same text, and statistics that claim nothing about hits.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

struct MmapTest : ::testing::Test {
  /// A greedy run through that engine, its trace in "ENGINE.trace" and its statistics in "ENGINE.json".
  ProgramResult run(const std::string& engine, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> arguments{"run",
                                       "-p",
                                       "The sea",
                                       "-n",
                                       "40",
                                       "--temp",
                                       "0",
                                       "--io",
                                       engine,
                                       "--route-trace",
                                       (scratch / (engine + ".trace")).string(),
                                       "--stats-json",
                                       (scratch / (engine + ".json")).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return run_program(arguments);
  }

  const ScratchDirectory scratch;
};

TEST_F(MmapTest, GivesTheTextAndTheRoutesOfSlots) {
  const ProgramResult slots = run("pread");
  const ProgramResult mapped = run("mmap");
  EXPECT_EQ(mapped.exit_code, 0) << mapped.errors;
  EXPECT_GT(mapped.output.size(), 40U);
  EXPECT_EQ(mapped.output, slots.output);
  EXPECT_EQ(read_file(scratch / "mmap.trace"), read_file(scratch / "pread.trace"));
}

TEST_F(MmapTest, ClaimsNothingAboutHits) {
  const ProgramResult result = run("mmap", {"--stats"});
  EXPECT_THAT(result.errors, AllOf(HasSubstr("experts from the mapping (page cache)"), HasSubstr("io      mmap"),
                                   Not(HasSubstr("% hits")), Not(HasSubstr("in slots")), Not(HasSubstr("requested"))));
  const json statistics = json::parse(read_file(scratch / "mmap.json"));
  EXPECT_EQ(statistics["io"]["engine"], "mmap");
  EXPECT_EQ(statistics["settings"]["io"]["value"], "mmap");
  EXPECT_EQ(statistics["cache"]["slots_per_layer"], 0);
  EXPECT_EQ(statistics["memory"]["slot_bytes"], 0);
  EXPECT_EQ(statistics["notices"], json::array());
  for (const char* name :
       {"/cache/lookups", "/cache/hits", "/cache/misses_cold", "/cache/misses_capacity", "/cache/hit_rate",
        "/cache/steady_hit_rate", "/prefill/bytes_read", "/prefill/cache/hits", "/decode/bytes_read",
        "/decode/bytes_needed", "/decode/stall_seconds", "/bound/disk_tok_per_s", "/bound/schedule_tok_per_s",
        "/regret/belady_hit_rate", "/io/bandwidth_bytes_per_s"}) {
    EXPECT_TRUE(statistics.at(json::json_pointer(name)).is_null()) << name;
  }
  EXPECT_THAT(run("mmap").errors, HasSubstr("experts  from the mapping (page cache)"));
}

TEST_F(MmapTest, SettingsOfSlotsHaveNoEffectAndSaySo) {
  const std::string heat = (scratch / "heat").string();
  const ProgramResult result = run("mmap", {"--cache-slots", "9", "--policy", "lru", "--heat", heat});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.errors,
              AllOf(HasSubstr("requested --cache-slots, got none because --io mmap computes in place"),
                    HasSubstr("requested --policy lru, got none because --io mmap has no slots"),
                    HasSubstr("requested --heat " + heat + ", got none because --io mmap has no slots")));
  EXPECT_FALSE(std::filesystem::exists(heat));
}

TEST_F(MmapTest, IsRefusedTogetherWithMemory) {
  const ProgramResult result = run("mmap", {"--memory", "1GiB"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.errors, AllOf(HasSubstr("--io mmap"), HasSubstr("--memory")));
}

TEST_F(MmapTest, OtherVerbsKnowIt) {
  const ProgramResult inspected = run_program({"inspect", "--io", "mmap"});
  EXPECT_EQ(inspected.exit_code, 0) << inspected.errors;
  EXPECT_EQ(run_program({"inspect"}).output.substr(0, 400), inspected.output.substr(0, 400));
  const ProgramResult planned = run_program({"plan", "--io", "mmap"});
  EXPECT_EQ(planned.exit_code, 0) << planned.errors;
  EXPECT_THAT(planned.errors, HasSubstr("requested --io mmap, got the best engine because a plan is made for slots"));
  const std::string file = (scratch / "bench.json").string();
  const ProgramResult measured = run_program(
      {"bench", "--io", "mmap", "-p", "0", "-n", "4", "-r", "1", "--warm-up", "2", "--quiet", "--json", file});
  EXPECT_EQ(measured.exit_code, 0) << measured.errors;
  const json report = json::parse(read_file(file));
  EXPECT_FALSE(report["runs"].empty());
  for (const json& one : report["runs"]) EXPECT_EQ(one["io"]["engine"], "mmap");
}

}  // namespace
}  // namespace sluice::tools::testing
