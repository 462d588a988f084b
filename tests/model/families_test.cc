// What each family makes of a config: real models are accepted with the right layers, and a key that would change the
// numbers is either computed or refused by name.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "model/families/common.h"
#include "model/families/family.h"
#include "model/real_configs.h"

namespace sluice::model {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

ModelSpec build(const json& config) {
  return build_spec(Config::parse(config.dump(), "config.json"), [](std::string_view) { return nullptr; });
}

json config_of(const std::string& fixture) {
  const std::string path = std::string(SLUICE_SOURCE_DIR "/tests/data/models/") + fixture + "/config.json";
  std::ifstream file(path);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (const auto at = text.find("Infinity"); at != std::string::npos) text.replace(at, 8, "1e30");
  return json::parse(text);
}

struct RealModel {
  const char* name;
  json config;
  // Blocks of each kind.
  int attention, latent, recurrent, dense, moe;
  int experts, top_k, width, context;
};

void PrintTo(const RealModel& model, std::ostream* out) { *out << model.name; }

struct RealConfig : testing::TestWithParam<RealModel> {};

TEST_P(RealConfig, GivesTheLayersOfTheModel) {
  const RealModel& model = GetParam();
  const ModelSpec spec = build(model.config);
  int attention = 0, latent = 0, recurrent = 0, dense = 0, moe = 0;
  for (const BlockSpec& block : spec.blocks) {
    const OperationSpec& operation = block.operation;
    attention += std::holds_alternative<AttentionSpec>(operation) ? 1 : 0;
    latent += std::holds_alternative<MlaSpec>(operation) ? 1 : 0;
    dense += std::holds_alternative<MlpSpec>(operation) ? 1 : 0;
    if (const auto* experts = std::get_if<MoeSpec>(&operation)) {
      ++moe;
      EXPECT_EQ(experts->experts, model.experts);
      EXPECT_EQ(experts->top_k, model.top_k);
      EXPECT_EQ(experts->width, model.width);
    }
  }
  recurrent = static_cast<int>(spec.blocks.size()) - attention - latent - dense - moe;
  EXPECT_EQ(attention, model.attention);
  EXPECT_EQ(latent, model.latent);
  EXPECT_EQ(recurrent, model.recurrent);
  EXPECT_EQ(dense, model.dense);
  EXPECT_EQ(moe, model.moe);
  EXPECT_EQ(spec.max_context, model.context);
  EXPECT_EQ(spec.model_type, model.config["model_type"]);
}

INSTANTIATE_TEST_SUITE_P(
    Models, RealConfig,
    testing::Values(
        RealModel{"Qwen3_5_35B_A3B", qwen3_5(2048, 40, 16, 32, 256, 8, 512), 10, 0, 30, 0, 40, 256, 8, 512, 262144},
        RealModel{"Qwen3_5_122B_A10B", qwen3_5(3072, 48, 32, 64, 256, 8, 1024), 12, 0, 36, 0, 48, 256, 8, 1024, 262144},
        RealModel{"Qwen3_5_397B_A17B", qwen3_5(4096, 60, 32, 64, 512, 10, 1024), 15, 0, 45, 0, 60, 512, 10, 1024,
                  262144},
        RealModel{"Qwen3_Next_80B_A3B", qwen3_next(), 12, 0, 36, 0, 48, 512, 10, 512, 262144},
        RealModel{"Nemotron_3_Nano", nemotron_nano(), 6, 0, 23, 0, 23, 128, 6, 1856, 262144},
        RealModel{"Nemotron_3_Super", nemotron_super(), 8, 0, 40, 0, 40, 512, 22, 2688, 262144},
        RealModel{"GLM_4_5_Air", glm4_moe(4096, 46, 1, 128, 1408, false, 131072), 46, 0, 0, 1, 45, 128, 8, 1408,
                  131072},
        RealModel{"GLM_4_7", glm4_moe(5120, 92, 3, 160, 1536, true, 202752), 92, 0, 0, 3, 89, 160, 8, 1536, 202752},
        RealModel{"DeepSeek_V3", deepseek_v3(), 0, 61, 0, 3, 58, 256, 8, 2048, 163840},
        RealModel{"DeepSeek_V3_2", deepseek_v32(), 0, 61, 0, 3, 58, 256, 8, 2048, 163840},
        RealModel{"Kimi_K2", kimi_k2(131072, 32), 0, 61, 0, 1, 60, 384, 8, 2048, 131072},
        RealModel{"Kimi_K2_Thinking", kimi_k2(262144, 64), 0, 61, 0, 1, 60, 384, 8, 2048, 262144},
        RealModel{"Kimi_K2_5", kimi_k25(), 0, 61, 0, 1, 60, 384, 8, 2048, 262144},
        RealModel{"Kimi_Linear_48B_A3B", kimi_linear(), 0, 7, 20, 1, 26, 256, 8, 1024, 1048576},
        RealModel{"GLM_5", glm5(false), 0, 78, 0, 3, 75, 256, 8, 2048, 202752},
        RealModel{"GLM_5_2", glm5(true), 0, 78, 0, 3, 75, 256, 8, 2048, 1048576},
        RealModel{"gpt_oss_20b", gpt_oss(24, 32), 24, 0, 0, 0, 24, 32, 4, 2880, 131072},
        RealModel{"gpt_oss_120b", gpt_oss(36, 128), 36, 0, 0, 0, 36, 128, 4, 2880, 131072},
        RealModel{"OLMoE", olmoe(), 16, 0, 0, 0, 16, 64, 8, 1024, 4096},
        RealModel{"Mixtral_8x7B", mixtral(), 32, 0, 0, 0, 32, 8, 2, 14336, 32768},
        RealModel{"MiniMax_M2", minimax_m2(), 62, 0, 0, 0, 62, 256, 8, 1536, 196608},
        RealModel{"gemma_4_26B_A4B", gemma4(), 30, 0, 0, 0, 30, 128, 8, 704, 262144}),
    [](const auto& param) { return std::string(param.param.name); });

TEST(Families, Glm52LayersWithoutAnIndexerShareTheChoiceOfTheLast) {
  const ModelSpec spec = build(glm5(true));
  std::vector<int> full;
  for (const BlockSpec& block : spec.blocks) {
    const auto* mla = std::get_if<MlaSpec>(&block.operation);
    if (mla == nullptr) continue;
    EXPECT_NE(mla->indexer.has_value(), mla->shared_selection);
    if (mla->indexer) full.push_back(block.layer);
  }
  EXPECT_EQ(std::vector<int>(full.begin(), full.begin() + 5), (std::vector<int>{0, 1, 2, 6, 10}));
  EXPECT_EQ(full.back(), 74);
}

TEST(Families, FurtherLayersThatPredictTokensAreNotBuilt) {
  json config = deepseek_v3();
  const std::size_t blocks = build(config).blocks.size();
  config["num_nextn_predict_layers"] = 3;
  EXPECT_EQ(build(config).blocks.size(), blocks);
}

const RopeSpec& first_rope(const ModelSpec& spec) {
  for (const BlockSpec& block : spec.blocks) {
    if (const auto* attention = std::get_if<AttentionSpec>(&block.operation)) return attention->rope;
    if (const auto* latent = std::get_if<MlaSpec>(&block.operation)) return latent->rope;
  }
  throw std::logic_error("no attention");
}

/// Configs saved by newer versions of the publishers' library keep the rotary keys in an object of their own.
TEST(Families, RotaryKeysMayLieInRopeParameters) {
  for (json config : {qwen3_next(), glm4_moe(5120, 92, 3, 160, 1536, true, 202752), olmoe(), mixtral(), gpt_oss(24, 32),
                      minimax_m2(), deepseek_v3(), config_of("qwen3_moe-affine4-gs64")}) {
    const RopeSpec expected = first_rope(build(config));
    json parameters = config.contains("rope_scaling") && config["rope_scaling"].is_object()
                          ? config["rope_scaling"]
                          : json{{"rope_type", "default"}};
    for (const char* key : {"rope_theta", "partial_rotary_factor"}) {
      if (config.contains(key)) parameters[key] = config[key];
      config.erase(key);
    }
    config.erase("rope_scaling");
    config["rope_parameters"] = parameters;
    const RopeSpec found = first_rope(build(config));
    EXPECT_EQ(found.inv_freq, expected.inv_freq) << config["model_type"];
    EXPECT_EQ(found.amplitude, expected.amplitude) << config["model_type"];
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Refusals: a fixture's config with one value changed.

struct Refusal {
  const char* fixture;
  const char* pointer;  // where the value goes
  json value;
  const char* named;  // what the message says beside the key
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.fixture << refusal.pointer; }

struct FamilyRefusal : testing::TestWithParam<Refusal> {};

TEST_P(FamilyRefusal, NamesTheKeyAndWhatItHolds) {
  json config = config_of(GetParam().fixture);
  EXPECT_NO_THROW(build(config));
  const json::json_pointer pointer(GetParam().pointer);
  config[pointer] = GetParam().value;
  const bool in_list = config[pointer.parent_pointer()].is_array();
  const std::string key = in_list ? pointer.parent_pointer().back() : pointer.back();
  EXPECT_THAT([&] { build(config); }, ThrowsMessage<Error>(AllOf(HasSubstr("config.json"), HasSubstr("'" + key + "'"),
                                                                 HasSubstr(GetParam().named))));
}

constexpr const char* kQwen3 = "qwen3-affine4-gs64";
constexpr const char* kQwen3Moe = "qwen3_moe-affine4-gs64";
constexpr const char* kQwen3Next = "qwen3_next-affine4-gs32";
constexpr const char* kQwen35 = "qwen3_5_moe-affine4-gs64";
constexpr const char* kNemotron = "nemotron_h_plain-nvfp4";
constexpr const char* kDeepseek = "deepseek_v3-affine4-gs64";
constexpr const char* kDeepseek32 = "deepseek_v32-affine4-gs32";
constexpr const char* kGlm5 = "glm_moe_dsa-nvfp4";
constexpr const char* kGlm4 = "glm4_moe-affine4-gs64";
constexpr const char* kGptOss = "gpt_oss-mxfp4-q8";
constexpr const char* kOlmoe = "olmoe-affine4-gs64";
constexpr const char* kMixtral = "mixtral-affine4-gs64";
constexpr const char* kMinimax = "minimax-affine4-gs64";
constexpr const char* kKimi = "kimi_linear-affine4-gs32";
constexpr const char* kGemma = "gemma4-affine4-gs32";

struct Ignored {
  const char* fixture;
  const char* pointer;
  json value;
};

/// What the reference ignores changes nothing here either, and is said once.
TEST(FamilyNotice, NamesWhatTheReferenceIgnores) {
  const Ignored all[] = {{kQwen3Moe, "/rope_scaling/rope_type", "yarn"},
                         {kGlm4, "/rope_scaling/rope_type", "yarn"},
                         {kMixtral, "/rope_scaling/type", "linear"},
                         {kMinimax, "/rope_scaling/type", "yarn"},
                         {kQwen35, "/text_config/layer_types/0", "full_attention"},
                         {kGlm5, "/mlp_layer_types", json({"dense", "dense", "sparse"})},
                         {kOlmoe, "/clip_qkv", 8.0},
                         {kNemotron, "/tie_word_embeddings", true}};
  for (const Ignored& ignored : all) {
    json config = config_of(ignored.fixture);
    const ModelSpec plain = build(config);
    EXPECT_THAT(plain.notices, testing::IsEmpty());
    config[json::json_pointer(ignored.pointer)] = ignored.value;
    const ModelSpec spec = build(config);
    // The key itself, or the object or list that the changed value lies in.
    const auto names = [](const std::string& key) { return HasSubstr("'" + key + "' is ignored"); };
    const json::json_pointer pointer(ignored.pointer);
    const std::string parent = pointer.parent_pointer().empty() ? "" : pointer.parent_pointer().back();
    EXPECT_THAT(spec.notices, testing::ElementsAre(testing::AnyOf(names(pointer.back()), names(parent))));
    EXPECT_EQ(spec.blocks.size(), plain.blocks.size());
  }
}

const json kDynamic = {{"rope_type", "dynamic"}, {"factor", 2.0}};
const json kYarn = {{"rope_type", "yarn"}, {"factor", 4.0}};

INSTANTIATE_TEST_SUITE_P(
    Activations, FamilyRefusal,
    testing::Values(
        Refusal{kQwen3, "/hidden_act", "gelu", "silu"}, Refusal{kQwen3Moe, "/hidden_act", "gelu", "silu"},
        Refusal{kQwen3Next, "/hidden_act", "relu", "silu"}, Refusal{kQwen35, "/text_config/hidden_act", "gelu", "silu"},
        Refusal{kNemotron, "/mlp_hidden_act", "silu", "relu2"}, Refusal{kNemotron, "/mamba_hidden_act", "gelu", "silu"},
        Refusal{kDeepseek, "/hidden_act", "gelu", "silu"}, Refusal{kDeepseek32, "/hidden_act", "gelu", "silu"},
        Refusal{kGlm5, "/hidden_act", "gelu", "silu"}, Refusal{kGlm4, "/hidden_act", "gelu", "silu"},
        Refusal{kGptOss, "/hidden_act", "gelu", "silu"}, Refusal{kGptOss, "/swiglu_limit", 8.0, "8.0"},
        Refusal{kOlmoe, "/hidden_act", "gelu", "silu"}, Refusal{kMixtral, "/hidden_act", "gelu", "silu"},
        Refusal{kMinimax, "/hidden_act", "gelu", "silu"}, Refusal{kKimi, "/hidden_act", "situ", "silu"},
        Refusal{kGemma, "/text_config/hidden_activation", "silu", "gelu_pytorch"}));

INSTANTIATE_TEST_SUITE_P(
    RotaryEmbedding, FamilyRefusal,
    testing::Values(
        Refusal{kQwen3, "/rope_scaling/rope_type", "longrope", "longrope"},
        Refusal{kQwen3, "/rope_scaling/type", "dynamic", "dynamic"},
        Refusal{kQwen3Next, "/rope_scaling/rope_type", "dynamic", "dynamic"},
        Refusal{kQwen3Next, "/partial_rotary_factor", 0.35, "0.35"},
        Refusal{kQwen35, "/text_config/rope_parameters/rope_type", "ntk", "ntk"},
        Refusal{kDeepseek, "/rope_scaling/type", "longrope", "longrope"},
        Refusal{kDeepseek, "/rope_interleave", false, "true"},
        Refusal{kDeepseek32, "/rope_scaling/type", "linear-ish", "linear-ish"},
        Refusal{kDeepseek32, "/rope_scaling/attention_factor", 0.5, "0.5"},
        Refusal{kGlm5, "/rope_parameters/rope_type", "dynamic", "dynamic"}, Refusal{kGlm5, "/rope_theta", 7.5, "7.5"},
        Refusal{kGlm5, "/rope_scaling", kYarn, "rope_parameters"},
        Refusal{kGlm4, "/partial_rotary_factor", 0.1, "even"},
        Refusal{kGptOss, "/rope_scaling/rope_type", "longrope", "longrope"},
        Refusal{kOlmoe, "/rope_scaling/type", "dynamic", "dynamic"}, Refusal{kMinimax, "/rotary_dim", 7, "even"},
        Refusal{kGemma, "/text_config/rope_parameters/full_attention/rope_type", "dynamic", "dynamic"},
        Refusal{kGemma, "/text_config/rope_parameters/sliding_attention/partial_rotary_factor", 0.5, "0.5"}));

INSTANTIATE_TEST_SUITE_P(
    Attention, FamilyRefusal,
    testing::Values(
        Refusal{kQwen3, "/attention_bias", true, "false"}, Refusal{kQwen3, "/use_sliding_window", true, "false"},
        Refusal{kQwen3, "/layer_types", json::array({"sliding_attention"}), "full_attention"},
        Refusal{kQwen3, "/num_key_value_heads", 3, "divisor"}, Refusal{kQwen3, "/head_dim", 31, "even"},
        Refusal{kQwen3Moe, "/attention_bias", true, "false"}, Refusal{kQwen3Moe, "/use_sliding_window", true, "false"},
        Refusal{kQwen3Next, "/use_sliding_window", true, "false"},
        Refusal{kQwen3Next, "/linear_num_value_heads", 3, "multiple"},
        Refusal{kQwen35, "/text_config/attn_output_gate", false, "true"},
        Refusal{kNemotron, "/sliding_window", 128, "null"}, Refusal{kNemotron, "/use_bias", true, "mamba_proj_bias"},
        Refusal{kNemotron, "/layers_block_type/0", "rwkv", "M, *, E, -"}, Refusal{kNemotron, "/n_groups", 3, "divisor"},
        Refusal{kNemotron, "/time_step_limit", json({1.0, 0.5}), "[low, high]"},
        Refusal{kDeepseek, "/kv_lora_rank", 1024, "kv_lora_rank"}, Refusal{kDeepseek, "/qk_rope_head_dim", 15, "even"},
        Refusal{kDeepseek32, "/q_lora_rank", nullptr, "indexer"},
        Refusal{kDeepseek32, "/qk_rope_head_dim", 64, "index_head_dim"},
        Refusal{kGlm5, "/index_topk_freq", 4, "indexer_types"}, Refusal{kGlm5, "/index_topk_pattern", "FSS", "null"},
        Refusal{kGlm5, "/indexer_types", json({"shared", "full", "full"}), "full"},
        Refusal{kGlm5, "/indexer_types", json({"full", "none", "full"}), "shared"},
        Refusal{kGptOss, "/attention_bias", false, "true"},
        Refusal{kGptOss, "/layer_types/1", "chunked_attention", "sliding_attention"},
        Refusal{kGptOss, "/layer_types", json::array({"full_attention"}), "each layer"},
        Refusal{kMixtral, "/sliding_window", 4096, "null"},
        Refusal{kMinimax, "/attn_type_list", json({1, 0, 1}), "full attention"},
        Refusal{kMinimax, "/layer_types", json::array({"linear_attention"}), "full_attention"},
        Refusal{kMinimax, "/qk_norm_type", "per_head", "per_layer"}, Refusal{kMinimax, "/sliding_window", 64, "null"},
        Refusal{kMinimax, "/attention_bias", true, "false"}, Refusal{kKimi, "/mla_use_nope", false, "true"},
        Refusal{kKimi, "/mla_use_output_gate", true, "false"}, Refusal{kKimi, "/attn_res_block_size", 12, "null"},
        Refusal{kKimi, "/linear_attn_config/gate_lower_bound", -5.0, "null"},
        Refusal{kKimi, "/linear_attn_config/use_full_rank_gate", true, "false"},
        Refusal{kGemma, "/text_config/attention_bias", true, "false"},
        Refusal{kGemma, "/text_config/num_kv_shared_layers", 2, "0"},
        Refusal{kGemma, "/text_config/hidden_size_per_layer_input", 32, "0"},
        Refusal{kGemma, "/text_config/use_double_wide_mlp", true, "false"},
        Refusal{kGemma, "/text_config/layer_types/0", "linear_attention", "sliding_attention"}));

INSTANTIATE_TEST_SUITE_P(
    Experts, FamilyRefusal,
    testing::Values(
        Refusal{kDeepseek, "/scoring_func", "softmax", "sigmoid"},
        Refusal{kDeepseek, "/topk_method", "greedy", "noaux_tc"}, Refusal{kDeepseek, "/n_group", 3, "divisor"},
        Refusal{kDeepseek, "/n_group", 8, "two experts"}, Refusal{kDeepseek, "/topk_group", 5, "1 to 4"},
        Refusal{kDeepseek, "/num_experts_per_tok", 9, "8"},
        Refusal{kDeepseek, "/moe_layer_freq", json({1, 1}), "integer"},
        Refusal{kGlm4, "/scoring_func", "softmax", "sigmoid"}, Refusal{kGlm4, "/n_group", 3, "divisor"},
        Refusal{kNemotron, "/n_group", 3, "divisor"}, Refusal{kMinimax, "/scoring_func", "softmax", "sigmoid"},
        Refusal{kMinimax, "/use_routing_bias", false, "true"}, Refusal{kMinimax, "/shared_intermediate_size", 64, "0"},
        Refusal{kKimi, "/moe_router_activation_func", "softmax", "sigmoid"},
        Refusal{kKimi, "/num_expert_group", 3, "divisor"}, Refusal{kKimi, "/routed_expert_hidden_size", 64, "null"},
        Refusal{kQwen3Moe, "/num_experts_per_tok", 9, "8"}, Refusal{kOlmoe, "/num_experts", 0, "1 to"},
        Refusal{kMixtral, "/num_local_experts", 1.5, "integer"}));

TEST(Families, NemotronExpertsWithBiasesAreRefused) {
  json config = config_of(kNemotron);
  config["mlp_bias"] = true;
  const ModelSpec spec = build(config);  // biases of the shared expert are computed
  const auto& moe = std::get<MoeSpec>(spec.blocks[1].operation);
  EXPECT_TRUE(moe.shared->up.bias);
  EXPECT_FALSE(moe.bias);
  const stream::TensorInfo bias;
  const auto has_bias = [&](std::string_view name) {
    return name.ends_with(".experts.0.up_proj.bias") ? &bias : nullptr;
  };
  EXPECT_THAT([&] { build_spec(Config::parse(config.dump(), "config.json"), has_bias); },
              ThrowsMessage<Error>(AllOf(HasSubstr("'mlp_bias'"), HasSubstr("experts"))));
}

TEST(Families, AnUnknownModelTypeIsToldWhatIsNearAndHowToAddIt) {
  EXPECT_THAT(
      [] {
        build({{"model_type", "glm4_moe_lite"}});
      },
      ThrowsMessage<Error>(AllOf(HasSubstr("'glm4_moe_lite'"), HasSubstr("nearest known one is 'glm4_moe'"),
                                 HasSubstr("docs/adding-a-model.md"))));
}

TEST(Families, EveryRegisteredTypeIsSortedAndNamedOnce) {
  for (std::size_t i = 1; i < families().size(); ++i) {
    EXPECT_LT(families()[i - 1].model_type, families()[i].model_type);
  }
}

}  // namespace
}  // namespace sluice::model
