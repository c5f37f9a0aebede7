"""The widths of releases at which the findings of mlx-lm are measured, by page: what differs from transformers' defaults of the type.

Layers and words are few; experts are fewer, or narrower, where a layer of all of them would not fit.
"""

from __future__ import annotations

from typing import Any

from mlxport.atlas.mends.finding import Real

_PHI_FACTORS: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    # The release's first eight are 1.0 to 1.05 and 1.02 to 1.06; its last ones are about 2.8 and 65. Between them: evenly.
    "short_factor": [1.0 + 0.0286 * n for n in range(64)],
    "long_factor": [1.02 + 1.0 * n for n in range(64)],
    "short_mscale": 1.243163121016122,
    "long_mscale": 1.243163121016122,
    "original_max_position_embeddings": 4096,
}
# The release has the same factors for both.
_MINICPM_FACTORS: dict[str, Any] = {
    "rope_type": "longrope",
    "rope_theta": 10000.0,
    "short_factor": [1.0 + 0.03 * n for n in range(16)],
    "long_factor": [1.0 + 0.03 * n for n in range(16)],
    "original_max_position_embeddings": 32768,
}
_JAMBA: dict[str, Any] = {
    "num_hidden_layers": 2,
    "attn_layer_period": 2,
    "attn_layer_offset": 1,
    "intermediate_size": 1024,
    "use_mamba_kernels": False,
}

REAL: dict[str, tuple[Real, ...]] = {
    "gelu-exact": (
        Real(
            "gemma",
            "gemma-2b",
            {
                "hidden_size": 2048,
                "intermediate_size": 16384,
                "num_attention_heads": 8,
                "num_key_value_heads": 1,
                "num_hidden_layers": 2,
            },
        ),
        Real(
            "starcoder2",
            "starcoder2-3b",
            {
                "num_hidden_layers": 2,
                "sliding_window": None,
                "rope_parameters": {"rope_type": "default", "rope_theta": 999999.4420358813},
            },
        ),
        Real("gpt_bigcode", "santacoder", {"n_embd": 2048, "n_inner": 8192, "n_head": 16, "n_layer": 2}),
    ),
    "gelu-tanh": (
        Real(
            "gpt_neox",
            "pythia-1.4b",
            {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 16, "num_hidden_layers": 3},
        ),
    ),
    "glm-partial-rotation": (Real("glm", "glm-4-9b", {"num_hidden_layers": 2, "attention_bias": True}),),
    "latent-norm-epsilon": (
        Real(
            "minicpm3",
            "MiniCPM3-4B",
            {"num_hidden_layers": 3, "tie_word_embeddings": False, "rope_parameters": _MINICPM_FACTORS},
        ),
        Real("glm4_moe_lite", "GLM-4.7-Flash", {"num_hidden_layers": 3, "n_routed_experts": 8}),
        Real(
            "kimi_linear",
            "Kimi-Linear-48B-A3B",
            {
                "num_hidden_layers": 2,
                "layer_types": ["linear_attention", "full_attention"],
                "mlp_layer_types": ["sparse", "sparse"],
                "num_experts": 16,
            },
        ),
        Real("longcat_flash", "LongCat-Flash", {"num_layers": 1, "n_routed_experts": 16, "zero_expert_num": 8}),
    ),
    "indexer-norm-epsilon": (
        Real(
            "deepseek_v32",
            "DeepSeek-V3.2",
            {"num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 16, "intermediate_size": 2048},
            tokens=2400,
        ),
    ),
    "gemma2-window": (Real("gemma2", "gemma-2-2b", {"num_hidden_layers": 2}, tokens=4600),),
    "mistral-window": (
        Real(
            "mistral",
            "Mistral-7B-v0.1",
            {"num_hidden_layers": 2, "rms_norm_eps": 1e-5, "max_position_embeddings": 32768},
            tokens=4600,
        ),
    ),
    "phimoe-rope": (
        Real(
            "phimoe",
            "Phi-3.5-MoE",
            {
                "num_hidden_layers": 2,
                "num_local_experts": 4,
                "attention_bias": True,
                "lm_head_bias": True,
                "original_max_position_embeddings": 4096,
                "rope_parameters": _PHI_FACTORS,
            },
        ),
    ),
    "ernie-router-bias": (
        Real("ernie4_5_moe", "ERNIE-4.5-21B-A3B", {"num_hidden_layers": 2, "moe_layer_end_index": 1}),
    ),
    "jamba-router": (Real("jamba", "Jamba-v0.1", {**_JAMBA, "expert_layer_offset": 1}),),
    "llama4-qk-norm-epsilon": (
        Real(
            "llama4",
            "Llama-4-Scout",
            {
                "num_hidden_layers": 4,
                "num_local_experts": 2,
                "intermediate_size": 2048,
                "moe_layers": [0, 1, 2, 3],
                "no_rope_layers": [1, 1, 1, 0],
                "layer_types": ["chunked_attention"] * 3 + ["full_attention"],
            },
        ),
    ),
    "nanochat-norm-epsilon": (
        Real(
            "nanochat",
            "nanochat-d20",
            {
                "hidden_size": 1280,
                "intermediate_size": 5120,
                "num_attention_heads": 10,
                "num_key_value_heads": 10,
                "num_hidden_layers": 4,
                "max_position_embeddings": 2048,
            },
        ),
    ),
    "nemotron-time-step": (
        Real(
            "nemotron_h",
            "Nemotron-H-8B",
            {"num_hidden_layers": 3, "layers_block_type": ["mamba", "attention", "mamba"]},
        ),
    ),
    "gemma3-embedding-scale": (
        Real(
            "gemma3_text",
            "gemma-3-1b",
            {
                "hidden_size": 1152,
                "intermediate_size": 6912,
                "num_attention_heads": 4,
                "num_key_value_heads": 1,
                "num_hidden_layers": 6,
                "sliding_window": 512,
            },
        ),
    ),
    "gemma3n-shared-keys": (
        Real(
            "gemma3n",
            "gemma-3n-E2B",
            {
                "num_hidden_layers": 10,
                "num_kv_shared_layers": 5,
                "vocab_size_per_layer_input": 2048,
                "intermediate_size": [8192] * 10,
                "layer_types": (["sliding_attention"] * 4 + ["full_attention"]) * 2,
                "activation_sparsity_pattern": [0.95] * 5 + [0.0] * 5,
            },
        ),
    ),
    "mamba-padding": (
        Real(
            "mamba",
            "mamba-1.4b",
            {"hidden_size": 2048, "intermediate_size": 4096, "time_step_rank": 128, "num_hidden_layers": 3},
            padding=24,
        ),
        Real(
            "falcon_mamba",
            "falcon-mamba-7b",
            {"hidden_size": 4096, "intermediate_size": 8192, "time_step_rank": 256, "num_hidden_layers": 2},
            padding=24,
        ),
        Real("jamba", "Jamba-v0.1", {**_JAMBA, "expert_layer_offset": 1}, padding=24),
    ),
    "recurrent-gemma-padding": (
        Real(
            "recurrent_gemma",
            "recurrentgemma-2b",
            {"num_hidden_layers": 3, "intermediate_size": 15360, "num_key_value_heads": 1},
            padding=24,
        ),
    ),
    "olmo-hybrid-padding": (
        Real(
            "olmo_hybrid",
            "Olmo-Hybrid-7B",
            {
                "num_hidden_layers": 2,
                "layer_types": ["linear_attention", "full_attention"],
                # transformers saves convolutions of keys and values of one width alone.
                "linear_key_head_dim": 128,
                "linear_value_head_dim": 128,
            },
            padding=24,
        ),
    ),
}
