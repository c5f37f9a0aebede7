"""What single architectures need beyond the sizes of `small`: fields of their own, and layers of every kind they have.

Every switch that changes numbers is on: windows shorter than the prompt, routed and shared experts, scaled rotary tables, unequal
multipliers. A value of None takes a field out.
"""

from __future__ import annotations

from typing import Any

# Types whose text part is what the port `mlx-lm` runs: (the type on the hub → transformers' type of the text part).
TEXT_PARTS: dict[str, str] = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}

_LATENT: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": None, "num_hidden_layers": 3}
# Enough heads that no score of the indexer is zero in all of them: a choice among equal scores says nothing about a port.
_INDEXED: dict[str, Any] = {**_LATENT, "index_topk": 8, "index_head_dim": 16, "index_n_heads": 16}
_LINEAR: dict[str, Any] = {
    "num_hidden_layers": 4,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
# Releases keep the sections of positions in texts, too.
_QWEN3_5: dict[str, Any] = {
    **_LINEAR,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.25,
        "mrope_section": [1, 1, 0],
        "mrope_interleaved": True,
    },
}
YARN = {
    "rope_type": "yarn",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 32,
    "beta_fast": 32,
    "beta_slow": 1,
}


def _longrope(original: int, pairs: int, **more: Any) -> dict[str, Any]:
    """Frequencies that differ for short and long sequences."""
    return {
        "rope_type": "longrope",
        "rope_theta": 10000.0,
        "short_factor": [1.0 + 0.1 * n for n in range(pairs)],
        "long_factor": [1.0 + 0.5 * n for n in range(pairs)],
        "original_max_position_embeddings": original,
        **more,
    }


PER_TYPE: dict[str, dict[str, Any]] = {
    "gemma3_text": {"num_hidden_layers": 6},
    "gemma2": {"num_hidden_layers": 2},
    "gemma": {"num_key_value_heads": 1},
    "mamba": {"intermediate_size": 128, "time_step_rank": 4, "head_dim": None},
    "mamba2": {"num_heads": 8, "head_dim": 16, "expand": 2, "n_groups": 1, "intermediate_size": None},
    "deepseek_v3": _LATENT,
    "deepseek_v32": _INDEXED,
    "glm_moe_dsa": _INDEXED,
    "glm4_moe_lite": _LATENT,
    "mistral4": _LATENT,
    "recurrent_gemma": {"num_hidden_layers": 3, "num_key_value_heads": 1},
    "deepseek_v4": {
        "num_hidden_layers": 3,
        "num_key_value_heads": 1,
        "n_shared_experts": 1,
        "qk_rope_head_dim": None,
        "partial_rotary_factor": 0.5,
        "layer_types": ["sliding_attention"] * 3,
        "mlp_layer_types": ["moe"] * 3,
        # Small enough that activations meet it.
        "swiglu_limit": 0.5,
        "o_groups": 2,
        "o_lora_rank": 12,
        "hc_mult": 2,
        "num_nextn_predict_layers": 0,
    },
    "deepseek_v2": {
        "num_key_value_heads": 4,
        "head_dim": None,
        "num_hidden_layers": 3,
        "topk_method": "greedy",
        "n_group": 1,
        "num_experts_per_tok": 2,
        "routed_scaling_factor": 1.0,
        "rope_parameters": {**YARN, "mscale": 0.707, "mscale_all_dim": 0.707},
    },
    "glm4_moe": {"num_key_value_heads": 2, "n_group": 1, "num_hidden_layers": 3},
    "gpt_neox": {"num_key_value_heads": None, "head_dim": None, "intermediate_size": 256},
    "gpt2": {"n_inner": None},
    "gpt_bigcode": {"n_inner": 256},
    "gptj": {"n_inner": 256, "rotary_dim": 8, "head_dim": None},
    "phi3": {"original_max_position_embeddings": 128, "head_dim": None},
    "phi": {"head_dim": None, "num_key_value_heads": 4},
    "qwen2_moe": {"head_dim": None, "num_hidden_layers": 2},
    "cohere2": {"num_hidden_layers": 4},
    "olmo3": {"num_hidden_layers": 4},
    "lfm2": {
        "layer_types": ["conv", "full_attention", "conv"],
        "num_hidden_layers": 3,
        "block_auto_adjust_ff_dim": False,
        "head_dim": None,
    },
    "granitemoehybrid": {
        "num_hidden_layers": 3,
        "layer_types": ["mamba", "attention", "mamba"],
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 16,
        "mamba_d_conv": 4,
        "mamba_n_groups": 1,
        "mamba_expand": 2,
        "mamba_chunk_size": 8,
        "head_dim": None,
    },
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_ssm": 128, "mamba_d_state": 16, "mamba_n_groups": 1},
    "qwen3_next": {
        "num_hidden_layers": 4,
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "decoder_sparse_step": 1,
    },
    "nemotron": {"head_dim": None},
    "stablelm": {"head_dim": None},
    "olmoe": {"head_dim": None},
    "mixtral": {"head_dim": None},
    "helium": {"head_dim": 16},
    "smollm3": {"num_hidden_layers": 4, "head_dim": None},
    "exaone4": {"num_hidden_layers": 4},
    "internlm3": {},
    "gpt_oss": {"num_hidden_layers": 2},
    "afmoe": {"num_hidden_layers": 4, "num_shared_experts": 1, "mup_enabled": True, "route_scale": 2.826},
    "apertus": {
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "original_max_position_embeddings": 64,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        }
    },
    "dbrx": {
        "n_heads": 4,
        "n_layers": 2,
        "max_seq_len": 128,
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 96, "moe_num_experts": 6, "moe_top_k": 2, "hidden_size": 64},
        "num_key_value_heads": None,
    },
    "dots1": {"n_routed_experts": 6, "n_shared_experts": 1, "num_experts_per_tok": 2, "num_hidden_layers": 3},
    "exaone_moe": {"num_hidden_layers": 4},
    "gemma3n_text": {
        "num_hidden_layers": 10,
        "num_kv_shared_layers": 5,
        "vocab_size_per_layer_input": 199,
        "hidden_size_per_layer_input": 8,
        "altup_num_inputs": 4,
        "laurel_rank": 8,
        "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 2,
        "intermediate_size": [96] * 10,
        "activation_sparsity_pattern": [0.95, 0.0] * 5,
    },
    "gemma4_text": {
        "head_dim": 16,
        "global_head_dim": 32,
        "num_hidden_layers": 6,
        "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 199,
        "enable_moe_block": False,
        "use_double_wide_mlp": False,
    },
    "jamba": {
        "num_hidden_layers": 4,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "head_dim": None,
        "use_mamba_kernels": False,
    },
    "kimi_linear": {
        "num_key_value_heads": 4,
        "num_hidden_layers": 3,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        "mlp_layer_types": ["sparse"] * 3,
        "num_experts_per_token": 2,
        "num_expert_group": 1,
        "q_lora_rank": None,
        "linear_head_dim": 16,
        "linear_num_heads": 4,
    },
    "lfm2_moe": {
        "num_hidden_layers": 3,
        "layer_types": ["conv", "full_attention", "conv"],
        "num_dense_layers": 1,
        "head_dim": None,
    },
    "llama4_text": {
        "num_hidden_layers": 4,
        "attention_chunk_size": 8,
        "intermediate_size_mlp": 40,
        "num_experts_per_tok": 1,
        "interleave_moe_layer_step": 2,
        "moe_layers": [1, 3],
        "no_rope_layers": [1, 1, 1, 0],
        "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
    },
    "longcat_flash": {
        "num_layers": 2,
        "num_hidden_layers": None,
        "head_dim": 8,
        "num_key_value_heads": None,
        "moe_topk": 3,
        "zero_expert_num": 3,
        "routed_scaling_factor": 2.0,
    },
    "mimo_v2_flash": {
        "num_hidden_layers": 3,
        "head_dim": 24,
        "v_head_dim": 10,
        "n_group": 1,
        "layer_types": ["full_attention", "sliding_attention", "full_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "minicpm3": {
        "num_key_value_heads": 4,
        "head_dim": None,
        "dim_model_base": 16,
        "v_head_dim": 16,
        "tie_word_embeddings": False,
        "rope_parameters": _longrope(32, 4),
    },
    "nemotron_h": {
        "num_hidden_layers": 4,
        "layers_block_type": ["mamba", "attention", "mlp", "mamba"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 16,
        "n_groups": 2,
        "conv_kernel": 4,
    },
    "olmo_hybrid": {
        **_LINEAR,
        "num_key_value_heads": 4,
        "linear_num_key_heads": 4,
        "head_dim": None,
    },
    "phimoe": {
        "attention_bias": True,
        "lm_head_bias": True,
        "head_dim": None,
        "original_max_position_embeddings": 32,
        "rope_parameters": _longrope(32, 8, short_mscale=1.2, long_mscale=1.3),
    },
    "qwen3_5_text": _QWEN3_5,
    "qwen3_5_moe_text": _QWEN3_5,
    "solar_open": {"n_group": 1},
}
