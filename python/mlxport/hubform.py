"""Configs in the form that ports read: what transformers 5 writes, given as releases on the hub have it.

transformers 5 moves rotary settings into `rope_parameters`, leaves out what equals its defaults, and renames fields. Ports read
`rope_theta` at the top and have other defaults. Every field that is added here is told.
"""

from __future__ import annotations

import json
import math
from typing import Any

# What a hub release of a type has in other words than transformers 5 (field, how it follows from the config).
_REWRITTEN: dict[str, dict[str, Any]] = {
    "exaone4": {"sliding_window_pattern": lambda c: "L" * (pattern(c, 4) - 1) + "G"},
    "granitemoehybrid": {"layer_types": lambda c: [_BLOCKS.get(kind, kind) for kind in c["layer_types"]]},
}
_BLOCKS = {"linear_attention": "mamba", "full_attention": "attention"}

# What a hub release of a type has, and transformers 5 no longer writes; (field, how it follows from the config).
_PER_TYPE: dict[str, dict[str, Any]] = {
    "gpt_neox": {
        "rotary_emb_base": lambda c: rope(c).get("rope_theta", 10000),
        "rotary_pct": lambda c: rope(c).get("partial_rotary_factor", 0.25),
    },
    "mamba2": {
        "intermediate_size": lambda c: int(c["expand"] * c["hidden_size"]),
        "time_step_limit": lambda c: c.get("time_step_limit", [0.0, math.inf]),
    },
    "gemma3_text": {"sliding_window_pattern": lambda c: pattern(c, 6)},
    "gemma2": {},
    "cohere2": {"sliding_window_pattern": lambda c: pattern(c, 4)},
    "apertus": {"mlp_bias": lambda c: False, "post_norm": lambda c: False, "qk_norm": lambda c: True},
    "exaone_moe": {"is_moe_layer": lambda c: [kind == "sparse" for kind in c["mlp_layer_types"]]},
    "gemma4_text": {
        "global_head_dim": lambda c: in_some_layer(c, "head_dim"),
    },
    "glm_moe_dsa": {
        "topk_method": lambda c: "noaux_tc",
        "scoring_func": lambda c: "sigmoid",
        "moe_layer_freq": lambda c: 1,
    },
    "kimi_linear": {
        "rope_theta": lambda c: 10000.0,
        "num_experts_per_token": lambda c: c["num_experts_per_tok"],
        "first_k_dense_replace": lambda c: c["mlp_layer_types"].count("dense"),
        "mla_use_nope": lambda c: True,
        "linear_attn_config": lambda c: {
            "kda_layers": [n + 1 for n, kind in enumerate(c["layer_types"]) if kind == "linear_attention"],
            "full_attn_layers": [n + 1 for n, kind in enumerate(c["layer_types"]) if kind == "full_attention"],
            "head_dim": c["linear_head_dim"],
            "num_heads": c["linear_num_heads"],
            "short_conv_kernel_size": c["linear_conv_kernel_dim"],
        },
    },
    "longcat_flash": {
        "attention_method": lambda c: "MLA",
        "zero_expert_type": lambda c: "identity",
        "mla_scale_q_lora": lambda c: True,
        "mla_scale_kv_lora": lambda c: True,
        "attention_bias": lambda c: False,
    },
    "mimo_v2_flash": {
        "hybrid_layer_pattern": lambda c: [int(kind == "sliding_attention") for kind in c["layer_types"]],
        "moe_layer_freq": lambda c: [int(kind == "sparse") for kind in c["mlp_layer_types"]],
        "add_swa_attention_sink_bias": lambda c: True,
        "add_full_attention_sink_bias": lambda c: False,
        "sliding_window_size": lambda c: c["sliding_window"],
        "topk_method": lambda c: "noaux_tc",
        "scoring_func": lambda c: "sigmoid",
        "layernorm_epsilon": lambda c: c["rms_norm_eps"],
        "swa_rope_theta": lambda c: c["rope_parameters"]["sliding_attention"]["rope_theta"],
        "swa_num_attention_heads": lambda c: c["num_attention_heads"],
        "swa_num_key_value_heads": lambda c: 2 * c["num_key_value_heads"],
        "swa_head_dim": lambda c: c["head_dim"],
        "swa_v_head_dim": lambda c: c["v_head_dim"],
        "n_shared_experts": lambda c: None,
    },
    "minimax_m2": {
        "shared_intermediate_size": lambda c: 0,
        "rotary_dim": lambda c: int(c["head_dim"] * rope(c).get("partial_rotary_factor", 1.0)),
    },
    "nemotron_h": {
        "hybrid_override_pattern": lambda c: [_LETTERS[kind] for kind in c["layers_block_type"]],
    },
    "solar_open": {
        "intermediate_size": lambda c: c["moe_intermediate_size"],
        "first_k_dense_replace": lambda c: 0,
        "partial_rotary_factor": lambda c: 1.0,
    },
    "deepseek_v3": {
        "topk_method": lambda c: "noaux_tc",
        "scoring_func": lambda c: "sigmoid",
        "moe_layer_freq": lambda c: 1,
    },
    "deepseek_v4": {
        "num_hash_layers": lambda c: c["mlp_layer_types"].count("hash_moe"),
        "compress_ratios": lambda c: [_RATIOS[kind] for kind in c["layer_types"]],
        "qk_rope_head_dim": lambda c: int(c["head_dim"] * c["partial_rotary_factor"]),
    },
    "deepseek_v2": {
        "scoring_func": lambda c: "softmax",
        "moe_layer_freq": lambda c: 1,
    },
    "glm4_moe": {"topk_method": lambda c: "noaux_tc", "scoring_func": lambda c: "sigmoid"},
    "flint": {
        "no_rope_layer_indices": lambda c: [n for n, kind in enumerate(c["layer_types"]) if kind == "full_attention"]
    },
    "hrm_text": {"num_key_value_heads": lambda c: c["num_attention_heads"]},
    "llama4_vision_model": {"vision_feature_layer": lambda c: -1},
    "modernbert": {
        "global_attn_every_n_layers": lambda c: (c["layer_types"] + ["full_attention"]).index("full_attention", 1),
        "global_rope_theta": lambda c: c["rope_parameters"]["full_attention"]["rope_theta"],
        "local_rope_theta": lambda c: c["rope_parameters"]["sliding_attention"]["rope_theta"],
    },
    "qwen2_moe": {"decoder_sparse_step": lambda c: 1},
    # transformers always normalizes; releases say so.
    "qwen3_vl_moe_text": {"norm_topk_prob": lambda c: True},
    "qwen3_next": {"mlp_only_layers": lambda c: []},
    "falcon_h1": {},
    "lfm2": {
        "block_dim": lambda c: c["hidden_size"],
        "block_ff_dim": lambda c: c["intermediate_size"],
        "block_multiple_of": lambda c: 1,
        "block_ffn_dim_multiplier": lambda c: 1.0,
        "block_auto_adjust_ff_dim": lambda c: False,
    },
    "granitemoehybrid": {"position_embedding_type": lambda c: c.get("position_embedding_type") or "nope"},
}
# What every config class of transformers holds and no release writes into a nested part.
_GENERIC = (
    "_name_or_path",
    "architectures",
    "chunk_size_feed_forward",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_attentions",
    "output_hidden_states",
    "problem_type",
    "return_dict",
    "transformers_version",
)
_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
_MOVED = ("rope_theta", "partial_rotary_factor")
_LETTERS = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E", "linear_attention": "M", "full_attention": "*"}


def rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings of the full-attention layers."""
    found = config.get("rope_parameters") or {}
    nested = found.get("full_attention")
    return nested if isinstance(nested, dict) else found


def in_some_layer(config: dict[str, Any], name: str) -> Any:
    """A field's value in the layers that have another than the rest."""
    layers = (config.get("per_layer_config") or {}).values()
    return next((held[name] for held in layers if name in held), config[name])


def pattern(config: dict[str, Any], default: int) -> int:
    """Every how-manieth layer attends to everything."""
    types = config.get("layer_types") or []
    return types.index("full_attention") + 1 if "full_attention" in types else default


def hub_form(config: dict[str, Any]) -> dict[str, Any]:
    """A whole config (every field, defaults included) as hub releases write it. Nested configs are translated, too."""
    made = dict(config)
    for name in ("text_config", "vision_config", "audio_config"):
        if isinstance(made.get(name), dict):
            made[name] = hub_form({key: value for key, value in made[name].items() if key not in _GENERIC})
    _rope_to_top(config, made)
    kind = config.get("model_type", "")
    for name, value in _PER_TYPE.get(kind, {}).items():
        if made.get(name) is None:
            made[name] = value(made)
    for name, value in _REWRITTEN.get(kind, {}).items():
        made[name] = value(made)
    _derived(made)
    if made.get("torch_dtype") is None and made.get("dtype") is not None:
        made["torch_dtype"] = made["dtype"]
    return made


def _derived(made: dict[str, Any]) -> None:
    """What hub releases write out and transformers works out."""
    hidden, heads = made.get("hidden_size"), made.get("num_attention_heads")
    if made.get("head_dim") is None and isinstance(hidden, int) and isinstance(heads, int) and heads:
        made["head_dim"] = hidden // heads
    if made.get("n_ctx") is None and made.get("n_positions") is not None:
        made["n_ctx"] = made["n_positions"]


def _rope_to_top(config: dict[str, Any], made: dict[str, Any]) -> None:
    found = rope(config)
    if not found:
        return
    for name in _MOVED:
        if name in found and made.get(name) is None:
            made[name] = found[name]
    local = (config.get("rope_parameters") or {}).get("sliding_attention")
    if isinstance(local, dict) and made.get("rope_local_base_freq") is None:
        made["rope_local_base_freq"] = local.get("rope_theta")
    kind = found.get("rope_type", "default")
    if kind != "default" or "mrope_section" in found:
        scaling = {name: value for name, value in found.items() if name not in _MOVED}
        scaling["type"] = "mrope" if "mrope_section" in found else kind
        made["rope_scaling"] = scaling
    else:
        made.setdefault("rope_scaling", None)


def resaved(saved: dict[str, Any], hub: dict[str, Any]) -> dict[str, Any]:
    """What transformers 5 writes of a release that it has read: fields that it does not know stay, rotary settings have moved."""
    moved = (*_MOVED, "rope_scaling", "rope_local_base_freq")
    return {**{name: value for name, value in hub.items() if name not in moved}, **saved}


def around_text(model_type: str, text: dict[str, Any]) -> dict[str, Any]:
    """The config of a whole model of which only the text part is there, as `mlx-lm` reads it."""
    return {"model_type": model_type, "vocab_size": text["vocab_size"], "text_config": text, **_both(text)}


def _both(text: dict[str, Any]) -> dict[str, Any]:
    """What stands at the top and in the text's part."""
    return {name: text[name] for name in ("tie_word_embeddings", "pad_token_id") if name in text}


def with_aliases(config: dict[str, Any], aliases: dict[str, str]) -> dict[str, Any]:
    """Also each field under the other names that transformers knows it by."""
    made = dict(config)
    for alias, name in aliases.items():
        if made.get(alias) is None and made.get(name) is not None:
            made[alias] = made[name]
    return made


def told(saved: dict[str, Any], hub: dict[str, Any], prefix: str = "") -> list[str]:
    """The fields that the hub's form has and the saved one has not, or has otherwise."""
    found = []
    for name in sorted(hub):
        if isinstance(hub[name], dict) and isinstance(saved.get(name), dict) and name.endswith("_config"):
            found.extend(told(saved[name], hub[name], f"{prefix}{name}."))
        elif name not in saved:
            if hub[name] is not None:
                found.append(f"{prefix}{name} added: {_short(hub[name])}")
        elif saved[name] != hub[name]:
            found.append(f"{prefix}{name}: {_short(saved[name])} became {_short(hub[name])}")
    return found


def _short(value: Any) -> str:
    text = json.dumps(value, default=str)
    return text if len(text) <= 80 else f"{text[:77]}…"
