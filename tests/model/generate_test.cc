// A read that fails while a text is written: what is there stays, and the session can go on.
#include "model/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "model/checkpoint_files.h"

namespace sluice::model {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const fs::path kModel = fs::path(SLUICE_SOURCE_DIR) / "tests/data/models/qwen3_moe-many-affine4-gs32";

/// A model whose shards can be cut and made whole again while it runs. So few slots that every token reads.
class DamagedModel {
 public:
  DamagedModel() {
    fs::copy(kModel, directory_.path());
    RuntimeSettings settings;
    settings.threads = 2;
    settings.cache_slots = 4;
    settings.prefill_chunk = 8;
    model_ = Model::load(directory_.path(), settings);
  }

  Model& model() { return *model_; }

  void cut() const {
    for (const stream::FileInfo& file : model_->checkpoint().files()) fs::resize_file(file.path, 8);
  }
  /// In place: the model has the files open.
  void mend() const {
    for (const stream::FileInfo& file : model_->checkpoint().files()) {
      std::ifstream whole(kModel / file.path.filename(), std::ios::binary);
      std::ofstream(file.path, std::ios::binary | std::ios::in | std::ios::out) << whole.rdbuf();
    }
  }

 private:
  TemporaryDirectory directory_;
  std::unique_ptr<Model> model_;
};

constexpr int kTokens = 24;

GenerateResult write(Model& model, Session& session, std::span<const int> prompt, int count, std::vector<int>& tokens,
                     kernels::FunctionRef<void()> after_token) {
  const GenerateRequest request{.prompt = prompt, .max_tokens = count, .sampling = {}, .stop_tokens = {}};
  const auto keep = [&](int token) {
    tokens.push_back(token);
    after_token();
  };
  return generate(model, session, request, keep, [](int) {});
}

TEST(Generate, AFailedReadEndsTheTextAndTheSessionGoesOnWhenItIsMended) {
  const std::vector<int> prompt{5, 9, 100, 42, 7};
  const auto nothing = [] {};
  std::vector<int> expected;
  DamagedModel damaged;
  Session undisturbed = damaged.model().new_session();
  EXPECT_EQ(write(damaged.model(), undisturbed, prompt, kTokens, expected, nothing).error, "");

  std::vector<int> tokens;
  Session session = damaged.model().new_session();
  const GenerateResult result = write(damaged.model(), session, prompt, kTokens, tokens, [&] {
    if (tokens.size() == 5) damaged.cut();
  });
  EXPECT_EQ(result.reason, FinishReason::failed);
  EXPECT_THAT(result.error, AllOf(HasSubstr(".safetensors: ends at byte"), HasSubstr("MoE layer")));
  EXPECT_EQ(result.generated_tokens, 5);
  EXPECT_EQ(result.decode_steps, 4);
  EXPECT_EQ(tokens, std::vector<int>(expected.begin(), expected.begin() + 5));
  EXPECT_EQ(session.position(), static_cast<int>(prompt.size()) + 4) << "the fifth token was not evaluated";

  damaged.mend();
  const int last = tokens.back();
  const GenerateResult rest = write(damaged.model(), session, std::span(&last, 1), kTokens - 5, tokens, nothing);
  EXPECT_EQ(rest.reason, FinishReason::max_tokens) << rest.error;
  EXPECT_EQ(tokens, expected);
}

TEST(Generate, AFailedReadOfThePromptLeavesTheSessionAsItWas) {
  DamagedModel damaged;
  damaged.cut();
  Session session = damaged.model().new_session();
  std::vector<int> tokens;
  const std::vector<int> prompt{5, 9, 100};
  const GenerateResult result = write(damaged.model(), session, prompt, kTokens, tokens, [] {});
  EXPECT_EQ(result.reason, FinishReason::failed);
  EXPECT_THAT(result.error, HasSubstr(".safetensors: ends at byte"));
  EXPECT_THAT(tokens, IsEmpty());
  EXPECT_EQ(session.position(), 0);
  EXPECT_EQ(result.prompt_tokens, 0);
}

TEST(Generate, OfAPromptOnlyTheTokensThatWereEvaluatedCount) {
  DamagedModel damaged;
  std::vector<int> prompt(20);
  std::iota(prompt.begin(), prompt.end(), 3);
  const GenerateRequest request{.prompt = prompt, .max_tokens = 1, .sampling = {}, .stop_tokens = {}};
  const auto ignore = [](int) {};

  Session session = damaged.model().new_session();
  EXPECT_EQ(generate(damaged.model(), session, request, ignore, ignore).prompt_tokens, 20);

  Session cancelled_session = damaged.model().new_session();
  std::atomic<bool> cancel = false;
  GenerateRequest cancelled = request;
  cancelled.cancel = &cancel;
  const auto cancel_after_two = [&](int done) { cancel = done == 16; };
  EXPECT_EQ(generate(damaged.model(), cancelled_session, cancelled, ignore, cancel_after_two).prompt_tokens, 16);

  Session damaged_session = damaged.model().new_session();
  const auto cut = [&](int) { damaged.cut(); };
  const GenerateResult result = generate(damaged.model(), damaged_session, request, ignore, cut);
  EXPECT_EQ(result.reason, FinishReason::failed);
  EXPECT_EQ(result.prompt_tokens, 8);
  EXPECT_EQ(damaged_session.position(), 8);
}

}  // namespace
}  // namespace sluice::model
