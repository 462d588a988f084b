// sluice synth as its user sees it. What it writes is tested in tests/model/synth_*_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model/synth/shapes.h"
#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(Synth, WritesACheckpointThatTheOtherVerbsLoad) {
  const ScratchDirectory scratch;
  const std::string directory = (scratch / "model").string();
  const ProgramResult written = run_program({"synth", "--like", "qwen3-30b-a3b", "--layers", "1", "--bits", "2",
                                             "--group-size", "128", "--quiet", directory});
  ASSERT_EQ(written.exit_code, 0) << written.errors;
  EXPECT_THAT(written.output, AllOf(HasSubstr(directory), HasSubstr("1 layers")));
  EXPECT_EQ(written.errors, "");
  EXPECT_THAT(scratch.names(), ::testing::ElementsAre("model"));

  const ProgramResult inspected = run_program({"inspect", "-m", directory});
  ASSERT_EQ(inspected.exit_code, 0) << inspected.errors;
  EXPECT_THAT(inspected.output, AllOf(HasSubstr("qwen3_moe: 1 layers, hidden 2048, vocabulary 151936"),
                                      HasSubstr("128 per layer in 1 layers, 8 per token"),
                                      HasSubstr("affine 2-bit g128"), HasSubstr("affine 8-bit g64")));

  const ProgramResult again = run_program({"synth", "--like", "qwen3-30b-a3b", "--layers", "1", directory});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.errors, AllOf(HasSubstr(directory), HasSubstr("not empty")));
}

TEST(Synth, WhatDoesNotFitIsAUsageError) {
  const ScratchDirectory scratch;
  const std::string directory = (scratch / "model").string();
  const auto errors = [&](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "synth");
    const ProgramResult result = run_program(arguments);
    EXPECT_EQ(result.exit_code, 2) << result.errors;
    return result.errors;
  };
  EXPECT_THAT(errors({directory}), HasSubstr("--like"));
  EXPECT_THAT(errors({"--like", "olmoe"}), HasSubstr("DST"));
  EXPECT_THAT(errors({"--like", "olmo", directory}), AllOf(HasSubstr("did you mean olmoe?"), HasSubstr("glm-5.2")));

  EXPECT_THAT(errors({"--like", "glm-5.2", "--layers", "1", directory}), HasSubstr("expected 2 or more"));
  EXPECT_THAT(errors({"--like", "olmoe", "--mode", "gguf", directory}), HasSubstr("--mode: 'gguf'"));
  EXPECT_THAT(errors({"--like", "olmoe", "--bits", "7", directory}), HasSubstr("7 bits"));
  EXPECT_THAT(scratch.names(), IsEmpty());
}

TEST(Synth, DocumentationNamesEveryModel) {
  const std::string usage = read_file(SLUICE_SOURCE_DIR "/docs/usage.md");
  for (const auto& shape : model::synth::model_shapes()) {
    EXPECT_THAT(usage, HasSubstr("`" + std::string(shape.name) + "`"));
  }
}

}  // namespace
}  // namespace sluice::tools::testing
