// Configs of real models: the keys of their published config.json that decide the shape of the computation, and those
// that must not matter.
#pragma once

#include <algorithm>
#include <nlohmann/json.hpp>
#include <string>

namespace sluice::model {

using nlohmann::json;

template <typename Choose>
inline json layer_list(int layers, const Choose& choose) {
  json list = json::array();
  for (int l = 0; l < layers; ++l) list.push_back(choose(l));
  return list;
}

inline json every_fourth_full(int layers) {
  return layer_list(layers, [](int l) { return l % 4 == 3 ? "full_attention" : "linear_attention"; });
}

inline json qwen3_5(int hidden, int layers, int heads, int value_heads, int experts, int top_k, int width) {
  return {{"model_type", "qwen3_5_moe"},
          {"tie_word_embeddings", false},
          {"vision_config", {{"depth", 27}}},
          {"text_config",
           {{"model_type", "qwen3_5_moe_text"},
            {"attention_bias", false},
            {"attn_output_gate", true},
            {"full_attention_interval", 4},
            {"head_dim", 256},
            {"hidden_act", "silu"},
            {"hidden_size", hidden},
            {"layer_types", every_fourth_full(layers)},
            {"linear_conv_kernel_dim", 4},
            {"linear_key_head_dim", 128},
            {"linear_num_key_heads", 16},
            {"linear_num_value_heads", value_heads},
            {"linear_value_head_dim", 128},
            {"max_position_embeddings", 262144},
            {"mlp_only_layers", json::array()},
            {"moe_intermediate_size", width},
            {"mtp_num_hidden_layers", 1},
            {"num_attention_heads", heads},
            {"num_experts", experts},
            {"num_experts_per_tok", top_k},
            {"num_hidden_layers", layers},
            {"num_key_value_heads", 2},
            {"rms_norm_eps", 1e-6},
            {"shared_expert_intermediate_size", width},
            {"tie_word_embeddings", false},
            {"vocab_size", 248320},
            {"rope_parameters",
             {{"mrope_interleaved", true},
              {"mrope_section", {11, 11, 10}},
              {"partial_rotary_factor", 0.25},
              {"rope_theta", 10000000},
              {"rope_type", "default"}}}}}};
}

inline json qwen3_next() {
  return {{"model_type", "qwen3_next"},
          {"attention_bias", false},
          {"decoder_sparse_step", 1},
          {"full_attention_interval", 4},
          {"head_dim", 256},
          {"hidden_act", "silu"},
          {"hidden_size", 2048},
          {"intermediate_size", 5120},
          {"linear_conv_kernel_dim", 4},
          {"linear_key_head_dim", 128},
          {"linear_num_key_heads", 16},
          {"linear_num_value_heads", 32},
          {"linear_value_head_dim", 128},
          {"max_position_embeddings", 262144},
          {"mlp_only_layers", json::array()},
          {"moe_intermediate_size", 512},
          {"norm_topk_prob", true},
          {"num_attention_heads", 16},
          {"num_experts", 512},
          {"num_experts_per_tok", 10},
          {"num_hidden_layers", 48},
          {"num_key_value_heads", 2},
          {"partial_rotary_factor", 0.25},
          {"rms_norm_eps", 1e-6},
          {"rope_scaling", nullptr},
          {"rope_theta", 10000000},
          {"shared_expert_intermediate_size", 512},
          {"use_sliding_window", false},
          {"vocab_size", 151936}};
}

inline json nemotron_h(int hidden, const std::string& pattern, int mamba_heads, int experts, int top_k, int width) {
  return {{"model_type", "nemotron_h"},
          {"attention_bias", false},
          {"conv_kernel", 4},
          {"head_dim", 128},
          {"hidden_size", hidden},
          {"hybrid_override_pattern", pattern},
          {"layer_norm_epsilon", 1e-5},
          {"mamba_head_dim", 64},
          {"mamba_hidden_act", "silu"},
          {"mamba_num_heads", mamba_heads},
          {"mamba_proj_bias", false},
          {"max_position_embeddings", 262144},
          {"mlp_bias", false},
          {"mlp_hidden_act", "relu2"},
          {"moe_intermediate_size", width},
          {"moe_shared_expert_intermediate_size", 2 * width},
          {"n_group", 1},
          {"n_groups", 8},
          {"n_routed_experts", experts},
          {"n_shared_experts", 1},
          {"norm_topk_prob", true},
          {"num_attention_heads", 32},
          {"num_experts_per_tok", top_k},
          {"num_hidden_layers", pattern.size()},
          {"num_key_value_heads", 2},
          {"num_nextn_predict_layers", 1},
          {"partial_rotary_factor", 1.0},
          {"sliding_window", nullptr},
          {"ssm_state_size", 128},
          {"tie_word_embeddings", false},
          {"topk_group", 1},
          {"use_bias", false},
          {"use_conv_bias", true},
          {"vocab_size", 131072}};
}

inline json nemotron_nano() {
  json config = nemotron_h(2688, "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME", 64, 128, 6, 1856);
  config["routed_scaling_factor"] = 2.5;
  return config;
}

/// Super has 88 layers: 40 M, 40 E, 8 *. What counts here is the number of each.
inline json nemotron_super() {
  std::string pattern;
  for (int i = 0; i < 8; ++i) pattern += "MEMEMEMEME*";
  json config = nemotron_h(4096, pattern, 128, 512, 22, 2688);
  config["moe_latent_size"] = 1024;
  config["routed_scaling_factor"] = 5.0;
  return config;
}

inline json glm4_moe(int hidden, int layers, int dense, int experts, int width, bool qk_norm, int context) {
  return {{"model_type", "glm4_moe"},
          {"attention_bias", true},
          {"first_k_dense_replace", dense},
          {"head_dim", 128},
          {"hidden_act", "silu"},
          {"hidden_size", hidden},
          {"intermediate_size", 12288},
          {"max_position_embeddings", context},
          {"moe_intermediate_size", width},
          {"n_group", 1},
          {"n_routed_experts", experts},
          {"n_shared_experts", 1},
          {"norm_topk_prob", true},
          {"num_attention_heads", 96},
          {"num_experts_per_tok", 8},
          {"num_hidden_layers", layers},
          {"num_key_value_heads", 8},
          {"num_nextn_predict_layers", 1},
          {"partial_rotary_factor", 0.5},
          {"rms_norm_eps", 1e-5},
          {"rope_scaling", nullptr},
          {"rope_theta", 1000000},
          {"routed_scaling_factor", 2.5},
          {"tie_word_embeddings", false},
          {"topk_group", 1},
          {"use_qk_norm", qk_norm},
          {"vocab_size", 151552}};
}

/// DeepSeek-V3; its descendants change a few values.
inline json deepseek_v3() {
  return {{"model_type", "deepseek_v3"},
          {"attention_bias", false},
          {"first_k_dense_replace", 3},
          {"hidden_act", "silu"},
          {"hidden_size", 7168},
          {"intermediate_size", 18432},
          {"kv_lora_rank", 512},
          {"max_position_embeddings", 163840},
          {"moe_intermediate_size", 2048},
          {"moe_layer_freq", 1},
          {"n_group", 8},
          {"n_routed_experts", 256},
          {"n_shared_experts", 1},
          {"norm_topk_prob", true},
          {"num_attention_heads", 128},
          {"num_experts_per_tok", 8},
          {"num_hidden_layers", 61},
          {"num_key_value_heads", 128},
          {"num_nextn_predict_layers", 1},
          {"q_lora_rank", 1536},
          {"qk_nope_head_dim", 128},
          {"qk_rope_head_dim", 64},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 10000},
          {"routed_scaling_factor", 2.5},
          {"scoring_func", "sigmoid"},
          {"tie_word_embeddings", false},
          {"topk_group", 4},
          {"topk_method", "noaux_tc"},
          {"v_head_dim", 128},
          {"vocab_size", 129280},
          {"rope_scaling",
           {{"beta_fast", 32},
            {"beta_slow", 1},
            {"factor", 40},
            {"mscale", 1.0},
            {"mscale_all_dim", 1.0},
            {"original_max_position_embeddings", 4096},
            {"type", "yarn"}}}};
}

inline json deepseek_v32() {
  json config = deepseek_v3();
  config.update({{"model_type", "deepseek_v32"}, {"index_head_dim", 128}, {"index_n_heads", 64}, {"index_topk", 2048}});
  return config;
}

inline json kimi_k2(int context, double yarn_factor) {
  json config = deepseek_v3();
  config.update({{"model_type", "kimi_k2"},
                 {"max_position_embeddings", context},
                 {"first_k_dense_replace", 1},
                 {"n_group", 1},
                 {"topk_group", 1},
                 {"n_routed_experts", 384},
                 {"num_attention_heads", 64},
                 {"num_key_value_heads", 64},
                 {"rope_theta", 50000},
                 {"routed_scaling_factor", 2.827},
                 {"vocab_size", 163840}});
  config["rope_scaling"]["factor"] = yarn_factor;
  return config;
}

inline json kimi_k25() {
  return {{"model_type", "kimi_k25"}, {"text_config", kimi_k2(262144, 64)}, {"vision_config", {{"patch_size", 14}}}};
}

inline json glm5(bool shared_indexers) {
  json config = deepseek_v32();
  config.erase("rope_scaling");
  config.erase("rope_theta");
  config.update({{"model_type", "glm_moe_dsa"},
                 {"hidden_size", 6144},
                 {"index_n_heads", 32},
                 {"max_position_embeddings", shared_indexers ? 1048576 : 202752},
                 {"indexer_rope_interleave", true},
                 {"intermediate_size", 12288},
                 {"n_group", 1},
                 {"topk_group", 1},
                 {"num_attention_heads", 64},
                 {"num_hidden_layers", 78},
                 {"q_lora_rank", 2048},
                 {"qk_nope_head_dim", 192},
                 {"rope_interleave", true},
                 {"v_head_dim", 256},
                 {"vocab_size", 154880},
                 {"mlp_layer_types", layer_list(78, [](int l) { return l < 3 ? "dense" : "sparse"; })},
                 {"rope_parameters", {{"rope_theta", shared_indexers ? 8000000 : 1000000}, {"rope_type", "default"}}}});
  if (shared_indexers) {
    config.update(
        {{"index_topk_freq", 4},
         {"index_skip_topk_offset", 3},
         {"index_share_for_mtp_iteration", true},
         {"index_topk_pattern", nullptr},
         {"indexer_types", layer_list(78, [](int l) { return std::max(l - 2, 0) % 4 == 0 ? "full" : "shared"; })}});
  }
  return config;
}

inline json kimi_linear() {
  json kda = json::array();
  json full = {27};
  for (int l = 1; l < 27; ++l) (l % 4 == 0 ? full : kda).push_back(l);
  return {{"model_type", "kimi_linear"},
          {"first_k_dense_replace", 1},
          {"head_dim", 72},
          {"hidden_act", "silu"},
          {"hidden_size", 2304},
          {"intermediate_size", 9216},
          {"kv_lora_rank", 512},
          {"linear_attn_config",
           {{"full_attn_layers", full},
            {"head_dim", 128},
            {"kda_layers", kda},
            {"num_heads", 32},
            {"short_conv_kernel_size", 4}}},
          {"mla_use_nope", true},
          {"model_max_length", 1048576},
          {"moe_intermediate_size", 1024},
          {"moe_layer_freq", 1},
          {"moe_renormalize", true},
          {"moe_router_activation_func", "sigmoid"},
          {"num_attention_heads", 32},
          {"num_expert_group", 1},
          {"num_experts", 256},
          {"num_experts_per_token", 8},
          {"num_hidden_layers", 27},
          {"num_key_value_heads", 32},
          {"num_nextn_predict_layers", 0},
          {"num_shared_experts", 1},
          {"q_lora_rank", nullptr},
          {"qk_nope_head_dim", 128},
          {"qk_rope_head_dim", 64},
          {"rms_norm_eps", 1e-5},
          {"rope_scaling", nullptr},
          {"rope_theta", 10000.0},
          {"routed_scaling_factor", 2.446},
          {"tie_word_embeddings", false},
          {"topk_group", 1},
          {"use_grouped_topk", true},
          {"v_head_dim", 128},
          {"vocab_size", 163840}};
}

inline json gpt_oss(int layers, int experts) {
  return {
      {"model_type", "gpt_oss"},
      {"attention_bias", true},
      {"experts_per_token", 4},
      {"head_dim", 64},
      {"hidden_act", "silu"},
      {"hidden_size", 2880},
      {"initial_context_length", 4096},
      {"intermediate_size", 2880},
      {"layer_types", layer_list(layers, [](int l) { return l % 2 == 0 ? "sliding_attention" : "full_attention"; })},
      {"max_position_embeddings", 131072},
      {"num_attention_heads", 64},
      {"num_experts_per_tok", 4},
      {"num_hidden_layers", layers},
      {"num_key_value_heads", 8},
      {"num_local_experts", experts},
      {"rms_norm_eps", 1e-5},
      {"rope_theta", 150000},
      {"sliding_window", 128},
      {"swiglu_limit", 7.0},
      {"tie_word_embeddings", false},
      {"vocab_size", 201088},
      {"rope_scaling",
       {{"beta_fast", 32.0},
        {"beta_slow", 1.0},
        {"factor", 32.0},
        {"original_max_position_embeddings", 4096},
        {"rope_type", "yarn"},
        {"truncate", false}}}};
}

inline json olmoe() {
  return {{"model_type", "olmoe"},        {"attention_bias", false},   {"clip_qkv", nullptr},
          {"hidden_act", "silu"},         {"hidden_size", 2048},       {"intermediate_size", 1024},
          {"norm_topk_prob", false},      {"num_attention_heads", 16}, {"num_experts", 64},
          {"num_experts_per_tok", 8},     {"num_hidden_layers", 16},   {"num_key_value_heads", 16},
          {"rms_norm_eps", 1e-5},         {"rope_scaling", nullptr},   {"rope_theta", 10000.0},
          {"tie_word_embeddings", false}, {"vocab_size", 50304},       {"max_position_embeddings", 4096}};
}

inline json mixtral() {
  return {{"model_type", "mixtral"},      {"hidden_act", "silu"},      {"hidden_size", 4096},
          {"intermediate_size", 14336},   {"num_attention_heads", 32}, {"num_experts_per_tok", 2},
          {"num_hidden_layers", 32},      {"num_key_value_heads", 8},  {"num_local_experts", 8},
          {"rms_norm_eps", 1e-5},         {"rope_theta", 1000000.0},   {"sliding_window", nullptr},
          {"tie_word_embeddings", false}, {"vocab_size", 32000},       {"max_position_embeddings", 32768}};
}

inline json minimax_m2() {
  return {{"model_type", "minimax_m2"},
          {"attn_type_list", layer_list(62, [](int) { return 1; })},
          {"head_dim", 128},
          {"hidden_act", "silu"},
          {"hidden_size", 3072},
          {"intermediate_size", 1536},
          {"max_position_embeddings", 196608},
          {"mlp_intermediate_size", 8192},
          {"num_attention_heads", 48},
          {"num_experts_per_tok", 8},
          {"num_hidden_layers", 62},
          {"num_key_value_heads", 8},
          {"num_local_experts", 256},
          {"num_mtp_modules", 3},
          {"qk_norm_type", "per_layer"},
          {"rms_norm_eps", 1e-6},
          {"rope_theta", 5000000},
          {"rotary_dim", 64},
          {"scoring_func", "sigmoid"},
          {"shared_intermediate_size", 0},
          {"sliding_window", nullptr},
          {"tie_word_embeddings", false},
          {"use_mtp", true},
          {"use_qk_norm", true},
          {"use_routing_bias", true},
          {"vocab_size", 200064}};
}

inline json gemma4() {
  return {{"model_type", "gemma4"},
          {"text_config",
           {{"model_type", "gemma4_text"},
            {"attention_bias", false},
            {"attention_k_eq_v", true},
            {"enable_moe_block", true},
            {"final_logit_softcapping", 30.0},
            {"global_head_dim", 512},
            {"head_dim", 256},
            {"hidden_activation", "gelu_pytorch_tanh"},
            {"hidden_size", 2816},
            {"hidden_size_per_layer_input", 0},
            {"intermediate_size", 2112},
            {"layer_types", layer_list(30, [](int l) { return l % 6 == 5 ? "full_attention" : "sliding_attention"; })},
            {"max_position_embeddings", 262144},
            {"moe_intermediate_size", 704},
            {"num_attention_heads", 16},
            {"num_experts", 128},
            {"num_global_key_value_heads", 2},
            {"num_hidden_layers", 30},
            {"num_key_value_heads", 8},
            {"num_kv_shared_layers", 0},
            {"rms_norm_eps", 1e-6},
            {"sliding_window", 1024},
            {"tie_word_embeddings", true},
            {"top_k_experts", 8},
            {"use_bidirectional_attention", "vision"},
            {"use_double_wide_mlp", false},
            {"vocab_size", 262144},
            {"rope_parameters",
             {{"full_attention", {{"partial_rotary_factor", 0.25}, {"rope_theta", 1e6}, {"rope_type", "proportional"}}},
              {"sliding_attention", {{"rope_theta", 1e4}, {"rope_type", "default"}}}}}}}};
}

}  // namespace sluice::model
