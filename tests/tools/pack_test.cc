// sluice pack as its user sees it. What it writes is tested in tests/model/pack_test.cc.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "model_copy.h"
#include "program.h"

namespace sluice::tools::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const std::string kModel = embedded_model().string();

TEST(Pack, WritesACheckpointThatGivesTheSame) {
  const ScratchDirectory scratch;
  const std::string packed = (scratch / "packed").string();
  const ProgramResult written = run_program({"pack", "--quiet", kModel, packed});
  ASSERT_EQ(written.exit_code, 0) << written.errors;
  EXPECT_THAT(written.output, AllOf(HasSubstr(packed), HasSubstr("experts of qwen3_moe"),
                                    HasSubstr("each one record instead of 9 slices"), HasSubstr("in 2 files")));
  EXPECT_EQ(written.errors, "");
  EXPECT_THAT(scratch.names(), ElementsAre("packed"));

  const auto logits = [&](const std::string& model) {
    const std::string file = (scratch / "logits").string();
    const ProgramResult result = run_program({"logits", "-m", model, "--tokens", "5,9,200,31", "--prefill", "2",
                                              "--cache-slots", "8", "--quiet", "-o", file});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return read_file(file);
  };
  EXPECT_TRUE(logits(packed) == logits(kModel));
  // Text needs the tokenizer, which came along.
  const ProgramResult text = run_program({"run", "-m", packed, "-p", "It was", "-n", "4", "--quiet"});
  EXPECT_EQ(text.exit_code, 0) << text.errors;

  const ProgramResult again = run_program({"pack", packed, (scratch / "again").string()});
  EXPECT_EQ(again.exit_code, 1);
  EXPECT_THAT(again.errors, AllOf(HasSubstr(packed), HasSubstr("nothing to pack")));
  const ProgramResult onto = run_program({"pack", kModel, packed});
  EXPECT_EQ(onto.exit_code, 1);
  EXPECT_THAT(onto.errors, AllOf(HasSubstr(packed), HasSubstr("not empty")));
  EXPECT_THAT(scratch.names(), ElementsAre("logits", "packed"));
}

TEST(Pack, MissingAndWrongArgumentsAreNamed) {
  const ScratchDirectory scratch;
  const ProgramResult no_source = run_program({"pack"});
  EXPECT_EQ(no_source.exit_code, 2);
  EXPECT_THAT(no_source.errors, HasSubstr("SRC"));
  const ProgramResult no_destination = run_program({"pack", kModel});
  EXPECT_EQ(no_destination.exit_code, 2);
  EXPECT_THAT(no_destination.errors, HasSubstr("DST"));
  const std::string missing = (scratch / "missing").string();
  const ProgramResult no_model = run_program({"pack", missing, (scratch / "packed").string()});
  EXPECT_EQ(no_model.exit_code, 1);
  EXPECT_THAT(no_model.errors, HasSubstr(missing));
  EXPECT_THAT(scratch.names(), IsEmpty());
}

}  // namespace
}  // namespace sluice::tools::testing
