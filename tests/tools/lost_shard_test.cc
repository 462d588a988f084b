// A shard that shrinks or goes away while the program writes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

constexpr const char* kShards[] = {ModelCopy::kShard, "model-00002-of-00002.safetensors"};

/// A copy of the embedded model in files of its own.
class OwnModel {
 public:
  OwnModel() {
    for (const char* shard : kShards) copy_.replace(shard, read_file(embedded_model() / shard));
  }

  /// A run that goes on for a long time; with so few slots it never stops reading.
  ProgramInput long_run(const std::string& engine) const {
    ProgramInput input{{"run", "-m", copy_.directory(), "-p", "The sea", "-n", "3000", "--temp", "0", "--io", engine,
                        "--quiet", "--stats-json", stats().string()}};
    if (engine != "mmap") input.arguments.insert(input.arguments.end(), {"--cache-slots", "4"});
    return input;
  }

  /// Cuts all tensors off.
  void truncate() const {
    for (const char* shard : kShards) std::filesystem::resize_file(copy_.scratch() / shard, 8);
  }

  void remove() {
    for (const char* shard : kShards) copy_.remove(shard);
  }

  std::string directory() const { return copy_.directory(); }
  std::filesystem::path stats() const { return copy_.scratch() / "stats.json"; }

 private:
  ModelCopy copy_;
};

TEST(LostShard, ThatShrinksEndsTheRunWithItsTextItsStatisticsAndOneLine) {
  for (const char* engine : {"uring", "pread"}) {
    SCOPED_TRACE(engine);
    const OwnModel model;
    RunningProgram program(model.long_run(engine));
    ASSERT_TRUE(program.wait_for_output(20));
    model.truncate();
    const ProgramResult result = program.finish();
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_GE(result.output.size(), 20U);
    EXPECT_THAT(result.output, EndsWith("\n"));
    EXPECT_THAT(lines(result.errors),
                ElementsAre(AllOf(HasSubstr(model.directory()), HasSubstr(".safetensors: ends at byte"),
                                  HasSubstr("truncated, or changed while running"))));
    const json statistics = json::parse(read_file(model.stats()));
    EXPECT_EQ(statistics["finish_reason"], "failed");
    EXPECT_GT(statistics["decode"]["tokens"], 0);
    EXPECT_TRUE(statistics["bound"]["disk_tok_per_s"].is_null());
  }
}

TEST(LostShard, ThatShrinksWhileItIsMappedEndsTheRunWithItsTextAndOneLine) {
  const OwnModel model;
  RunningProgram program(model.long_run("mmap"));
  ASSERT_TRUE(program.wait_for_output(20));
  model.truncate();
  const ProgramResult result = program.finish();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_GE(result.output.size(), 20U);
  EXPECT_THAT(lines(result.errors),
              ElementsAre(AllOf(HasSubstr(model.directory()), HasSubstr("truncated while running"))));
}

TEST(LostShard, ThatIsDeletedGoesOnUntilItIsClosed) {
  for (const char* engine : {"uring", "mmap"}) {
    SCOPED_TRACE(engine);
    OwnModel model;
    ProgramInput input = model.long_run(engine);
    input.arguments.insert(input.arguments.end(), {"-n", "60"});
    RunningProgram program(input);
    ASSERT_TRUE(program.wait_for_output(1));
    model.remove();
    const ProgramResult result = program.finish();
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    EXPECT_EQ(result.output,
              run_program({"run", "-p", "The sea", "-n", "60", "--temp", "0", "--no-chat", "--quiet"}).output);
  }
}

}  // namespace
}  // namespace sluice::tools::testing
