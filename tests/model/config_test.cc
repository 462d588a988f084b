#include "model/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "model/families/family.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr const char* kSmall =
    R"({"model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 6, "vocab_size": 99,
  "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "rope_theta": 1e4, "intermediate_size": 128,
  "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32, "mlp_only_layers": [1],
  "decoder_sparse_step": 2, "tie_word_embeddings": true, "time_step_limit": [0.0, Infinity]})";

/// kSmall with one value replaced.
Config changed(const std::string& from, const std::string& to) {
  std::string text = kSmall;
  const auto at = text.find(from);
  if (at == std::string::npos) throw std::logic_error("nothing to replace: " + from);
  return Config::parse(text.replace(at, from.size(), to), "some/config.json");
}

/// The spec for a checkpoint of which no tensor is known.
ModelSpec build(const Config& config) {
  return build_spec(config, [](std::string_view) { return nullptr; });
}

TEST(Config, LayersAreMoeWhereTheConfigSaysSo) {
  const ModelSpec spec = build(changed("99", "99"));
  ASSERT_EQ(spec.layers, 6);
  ASSERT_EQ(spec.blocks.size(), 12U);  // attention and feed-forward by turns
  // (l + 1) % 2 == 0 and not in mlp_only_layers.
  const std::vector<bool> moe{false, false, false, true, false, true};
  for (std::size_t l = 0; l < 6; ++l) {
    EXPECT_EQ(std::holds_alternative<MoeSpec>(spec.blocks[2 * l + 1].operation), moe[l]) << l;
  }
  EXPECT_EQ(spec.head, spec.embedding);
  EXPECT_EQ(std::get<MoeSpec>(spec.blocks[7].operation).names[0].up, "model.layers.3.mlp.switch_mlp.up_proj");
}

TEST(Config, NamesTheNearestKnownFamily) {
  EXPECT_THAT(
      [] { build(changed("qwen3_moe", "qwen3_mod")); },
      ThrowsMessage<Error>(AllOf(HasSubstr("some/config.json"), HasSubstr("'qwen3_mod'"), HasSubstr("'qwen3_moe'"))));
}

struct Refusal {
  const char* from;
  const char* to;
  const char* named;
};

struct ConfigRefusal : testing::TestWithParam<Refusal> {};

TEST_P(ConfigRefusal, NamesFileAndKey) {
  const Refusal& refusal = GetParam();
  EXPECT_THAT([&] { build(changed(refusal.from, refusal.to)); },
              ThrowsMessage<Error>(AllOf(HasSubstr("some/config.json"), HasSubstr(refusal.named))));
}

INSTANTIATE_TEST_SUITE_P(
    Values, ConfigRefusal,
    testing::Values(Refusal{"\"hidden_size\": 64", "\"hidden_size\": \"64\"", "'hidden_size'"},
                    Refusal{"\"hidden_size\": 64", "\"hidden_size\": -1", "'hidden_size'"},
                    Refusal{"\"hidden_size\": 64", "\"hidden_size\": 1e300", "'hidden_size'"},
                    Refusal{"\"hidden_size\": 64", "\"hidden_size\": NaN", "'hidden_size'"},
                    Refusal{"\"hidden_size\": 64,", "", "'hidden_size'"},
                    Refusal{"\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3", "'num_key_value_heads'"},
                    Refusal{"\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 9", "'num_experts_per_tok'"},
                    Refusal{"\"head_dim\": 32", "\"head_dim\": 33", "'head_dim'"},
                    Refusal{"\"rope_theta\": 1e4", "\"rope_theta\": Infinity", "'rope_theta'"},
                    Refusal{"[1]", "[true]", "'mlp_only_layers'"},
                    Refusal{"\"head_dim\"", "\"hidden_act\": \"gelu\", \"head_dim\"", "'hidden_act'"},
                    Refusal{"\"head_dim\"", "\"attention_bias\": true, \"head_dim\"", "'attention_bias'"},
                    Refusal{"\"tie_word_embeddings\": true", "\"tie_word_embeddings\": 1", "'tie_word_embeddings'"}));

}  // namespace
}  // namespace sluice::model
