// --heat through the program: written at the end of a run, used by the next.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tools/model_copy.h"
#include "tools/program.h"

namespace sluice::tools::testing {
namespace {

const std::string kModel = std::string(SLUICE_SOURCE_DIR) + "/tests/data/models/qwen3_moe-many-affine4-gs32";

TEST(Heat, IsWrittenByOneRunAndFillsTheSlotsOfTheNext) {
  const ScratchDirectory scratch;
  const auto slots_filled = [&] {
    const ProgramResult result =
        run_program({"logits", "-m", kModel, "--cache-slots", "6", "--tokens", "1,2,3,4,5,6,7,8", "--prefill", "2",
                     "--heat", (scratch / "heat.json").string(), "--stats-json", (scratch / "s.json").string(), "-o",
                     (scratch / "x").string()});
    EXPECT_EQ(result.exit_code, 0) << result.errors;
    return nlohmann::json::parse(read_file(scratch / "s.json"))["load"]["slots_filled"].get<int>();
  };
  EXPECT_EQ(slots_filled(), 0);
  const std::string first = read_file(scratch / "x");
  EXPECT_NE(read_file(scratch / "heat.json").find("qwen3_moe-many-affine4-gs32"), std::string::npos);
  EXPECT_GT(slots_filled(), 0);
  EXPECT_EQ(read_file(scratch / "x"), first);
}

TEST(Heat, OfAnotherModelEndsTheRun) {
  const ScratchDirectory scratch;
  const std::filesystem::path heat = scratch.write(
      "heat.json", R"({"format": "sluice heat 1", "checkpoint": "0", "model": "another", "layers": [[1]]})");
  const ProgramResult result =
      run_program({"logits", "-m", kModel, "--tokens", "1", "--heat", heat.string(), "-o", (scratch / "x").string()});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.errors.find("another"), std::string::npos) << result.errors;
}

}  // namespace
}  // namespace sluice::tools::testing
