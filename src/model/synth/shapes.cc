// Sizes are those of each model's config.json at its publisher, named above it. Keys that only matter to training, to
// other modalities, or to heads for several tokens are left out.
#include "model/synth/shapes.h"

#include <array>

namespace sluice::model::synth {
namespace {

using kernels::Format;
using kernels::Mode;

constexpr Format kAffine4{Mode::affine, 4, 64, DType::bf16};
constexpr Format kMxfp4{Mode::mxfp4, 4, 32, DType::u8};

// huggingface.co/Qwen/Qwen3-30B-A3B
constexpr std::string_view kQwen3 = R"({
  "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe", "torch_dtype": "bfloat16",
  "hidden_size": 2048, "num_hidden_layers": 48, "vocab_size": 151936, "max_position_embeddings": 40960,
  "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "attention_bias": false,
  "rope_theta": 1000000.0, "rope_scaling": null, "rms_norm_eps": 1e-06, "hidden_act": "silu",
  "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128, "num_experts_per_tok": 8,
  "norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [], "tie_word_embeddings": false,
  "bos_token_id": 151643, "eos_token_id": 151645})";

// huggingface.co/Qwen/Qwen3.5-35B-A3B
constexpr std::string_view kQwen35Small = R"({
  "architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe", "tie_word_embeddings": false,
  "text_config": {
    "model_type": "qwen3_5_moe_text", "dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "hidden_size": 2048, "num_hidden_layers": 40, "vocab_size": 248320, "max_position_embeddings": 262144,
    "num_attention_heads": 16, "num_key_value_heads": 2, "head_dim": 256, "attention_bias": false,
    "attn_output_gate": true, "full_attention_interval": 4,
    "linear_num_key_heads": 16, "linear_num_value_heads": 32, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "mamba_ssm_dtype": "float32",
    "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512, "tie_word_embeddings": false,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25,
                        "mrope_interleaved": true, "mrope_section": [11, 11, 10]}}})";

// huggingface.co/Qwen/Qwen3.5-122B-A10B
constexpr std::string_view kQwen35Large = R"({
  "architectures": ["Qwen3_5MoeForConditionalGeneration"], "model_type": "qwen3_5_moe", "tie_word_embeddings": false,
  "text_config": {
    "model_type": "qwen3_5_moe_text", "dtype": "bfloat16", "hidden_act": "silu", "rms_norm_eps": 1e-06,
    "hidden_size": 3072, "num_hidden_layers": 48, "vocab_size": 248320, "max_position_embeddings": 262144,
    "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 256, "attention_bias": false,
    "attn_output_gate": true, "full_attention_interval": 4,
    "linear_num_key_heads": 16, "linear_num_value_heads": 64, "linear_key_head_dim": 128,
    "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "mamba_ssm_dtype": "float32",
    "num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 1024,
    "shared_expert_intermediate_size": 1024, "tie_word_embeddings": false,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25,
                        "mrope_interleaved": true, "mrope_section": [11, 11, 10]}}})";

// huggingface.co/nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16
constexpr std::string_view kNemotronNano = R"({
  "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "torch_dtype": "bfloat16",
  "hidden_size": 2688, "num_hidden_layers": 52, "vocab_size": 131072, "max_position_embeddings": 262144,
  "hybrid_override_pattern": "MEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEM*EMEMEMEM*EMEMEMEME",
  "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "attention_bias": false,
  "rope_theta": 10000, "layer_norm_epsilon": 1e-05,
  "mamba_num_heads": 64, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
  "chunk_size": 128, "use_conv_bias": true, "use_bias": false, "mamba_proj_bias": false, "mamba_hidden_act": "silu",
  "time_step_limit": [0.0, Infinity], "time_step_min": 0.001, "time_step_max": 0.1, "time_step_floor": 0.0001,
  "n_routed_experts": 128, "n_shared_experts": 1, "num_experts_per_tok": 6, "n_group": 1, "topk_group": 1,
  "norm_topk_prob": true, "routed_scaling_factor": 2.5, "intermediate_size": 1856, "moe_intermediate_size": 1856,
  "moe_shared_expert_intermediate_size": 3712, "mlp_bias": false, "mlp_hidden_act": "relu2",
  "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2})";

// huggingface.co/nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16
constexpr std::string_view kNemotronSuper = R"({
  "architectures": ["NemotronHForCausalLM"], "model_type": "nemotron_h", "torch_dtype": "bfloat16",
  "hidden_size": 4096, "num_hidden_layers": 88, "vocab_size": 131072, "max_position_embeddings": 262144,
  "hybrid_override_pattern":
      "MEMEMEM*EMEMEMEM*EMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEMEM*EMEMEMEM*EMEMEMEME",
  "num_attention_heads": 32, "num_key_value_heads": 2, "head_dim": 128, "attention_bias": false,
  "rope_theta": 10000, "layer_norm_epsilon": 1e-05,
  "mamba_num_heads": 128, "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4,
  "chunk_size": 128, "use_conv_bias": true, "use_bias": false, "mamba_proj_bias": false, "mamba_hidden_act": "silu",
  "time_step_limit": [0.0, Infinity], "time_step_min": 0.001, "time_step_max": 0.1, "time_step_floor": 0.0001,
  "n_routed_experts": 512, "n_shared_experts": 1, "num_experts_per_tok": 22, "n_group": 1, "topk_group": 1,
  "norm_topk_prob": true, "routed_scaling_factor": 5.0, "intermediate_size": 2688, "moe_intermediate_size": 2688,
  "moe_latent_size": 1024, "moe_shared_expert_intermediate_size": 5376, "mlp_bias": false, "mlp_hidden_act": "relu2",
  "tie_word_embeddings": false, "bos_token_id": 1, "eos_token_id": 2})";

// huggingface.co/zai-org/GLM-5.2
constexpr std::string_view kGlm = R"({
  "architectures": ["GlmMoeDsaForCausalLM"], "model_type": "glm_moe_dsa", "torch_dtype": "bfloat16",
  "hidden_size": 6144, "num_hidden_layers": 78, "vocab_size": 154880, "max_position_embeddings": 1048576,
  "num_attention_heads": 64, "num_key_value_heads": 64, "attention_bias": false, "q_lora_rank": 2048,
  "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64, "v_head_dim": 256,
  "rope_parameters": {"rope_theta": 8000000, "rope_type": "default"}, "rope_interleave": true,
  "rms_norm_eps": 1e-05, "hidden_act": "silu",
  "index_n_heads": 32, "index_head_dim": 128, "index_topk": 2048, "index_topk_freq": 4, "index_skip_topk_offset": 3,
  "indexer_rope_interleave": true,
  "indexer_types": [
    "full", "full", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared", "full", "shared", "shared", "shared", "full", "shared",
    "shared", "shared", "full", "shared", "shared", "shared"],
  "first_k_dense_replace": 3, "moe_layer_freq": 1, "intermediate_size": 12288, "moe_intermediate_size": 2048,
  "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 1, "topk_group": 1,
  "norm_topk_prob": true, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
  "tie_word_embeddings": false, "eos_token_id": [154820, 154827, 154829]})";

// huggingface.co/openai/gpt-oss-120b
constexpr std::string_view kGptOss = R"({
  "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "torch_dtype": "bfloat16",
  "hidden_size": 2880, "num_hidden_layers": 36, "vocab_size": 201088, "max_position_embeddings": 131072,
  "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64, "attention_bias": true, "sliding_window": 128,
  "layer_types": [
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention", "sliding_attention", "full_attention", "sliding_attention", "full_attention",
    "sliding_attention", "full_attention", "sliding_attention", "full_attention", "sliding_attention",
    "full_attention"],
  "rope_theta": 150000, "rope_scaling": {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0,
                                         "original_max_position_embeddings": 4096, "truncate": false},
  "rms_norm_eps": 1e-05, "hidden_act": "silu", "swiglu_limit": 7.0,
  "intermediate_size": 2880, "num_local_experts": 128, "num_experts_per_tok": 4, "experts_per_token": 4,
  "tie_word_embeddings": false, "eos_token_id": 200002})";

// huggingface.co/deepseek-ai/DeepSeek-V3
constexpr std::string_view kDeepSeek = R"({
  "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "torch_dtype": "bfloat16",
  "hidden_size": 7168, "num_hidden_layers": 61, "vocab_size": 129280, "max_position_embeddings": 163840,
  "num_attention_heads": 128, "num_key_value_heads": 128, "attention_bias": false, "q_lora_rank": 1536,
  "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
  "rope_theta": 10000, "rope_scaling": {"type": "yarn", "factor": 40, "beta_fast": 32, "beta_slow": 1, "mscale": 1.0,
                                        "mscale_all_dim": 1.0, "original_max_position_embeddings": 4096},
  "rms_norm_eps": 1e-06, "hidden_act": "silu",
  "first_k_dense_replace": 3, "moe_layer_freq": 1, "intermediate_size": 18432, "moe_intermediate_size": 2048,
  "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "n_group": 8, "topk_group": 4,
  "norm_topk_prob": true, "routed_scaling_factor": 2.5, "scoring_func": "sigmoid", "topk_method": "noaux_tc",
  "tie_word_embeddings": false, "bos_token_id": 0, "eos_token_id": 1})";

// huggingface.co/allenai/OLMoE-1B-7B-0125-Instruct
constexpr std::string_view kOlmoe = R"({
  "architectures": ["OlmoeForCausalLM"], "model_type": "olmoe", "torch_dtype": "bfloat16",
  "hidden_size": 2048, "num_hidden_layers": 16, "vocab_size": 50304, "max_position_embeddings": 4096,
  "num_attention_heads": 16, "num_key_value_heads": 16, "attention_bias": false, "clip_qkv": null,
  "rope_theta": 10000.0, "rope_scaling": null, "rms_norm_eps": 1e-05, "hidden_act": "silu",
  "intermediate_size": 1024, "num_experts": 64, "num_experts_per_tok": 8, "norm_topk_prob": false,
  "tie_word_embeddings": false, "eos_token_id": 50279})";

constexpr std::array<ModelShape, 9> kShapes{{{"qwen3-30b-a3b", kQwen3, kAffine4},
                                             {"qwen3.5-35b-a3b", kQwen35Small, kAffine4},
                                             {"qwen3.5-122b-a10b", kQwen35Large, kAffine4},
                                             {"nemotron-3-nano-30b", kNemotronNano, kAffine4},
                                             {"nemotron-3-super-120b", kNemotronSuper, kAffine4},
                                             {"glm-5.2", kGlm, kAffine4},
                                             {"gpt-oss-120b", kGptOss, kMxfp4},
                                             {"deepseek-v3", kDeepSeek, kAffine4},
                                             {"olmoe", kOlmoe, kAffine4}}};

}  // namespace

std::span<const ModelShape> model_shapes() { return kShapes; }

}  // namespace sluice::model::synth
