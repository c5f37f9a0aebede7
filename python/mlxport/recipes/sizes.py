"""The second size of a small model: every number another, rows that groups of 64 divide, and experts that count past ten.

Both sizes together tell which field a shape follows from.
"""

from __future__ import annotations

from typing import Any

from mlxport import small, vision
from mlxport.small_types import PER_TYPE, TEXT_PARTS

_LARGER: dict[str, Any] = {
    "vocab_size": 263,
    "hidden_size": 128,
    "n_embd": 128,
    "d_model": 128,
    "num_hidden_layers": 3,
    "n_layer": 3,
    "num_key_value_heads": 1,
    "intermediate_size": 192,
    "ffn_hidden_size": 192,
    "n_inner": 192,
    "head_dim": 48,
    "num_experts": 12,
    "n_routed_experts": 12,
    "num_local_experts": 12,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 64,
    "shared_expert_intermediate_size": 128,
    "shared_intermediate_size": 128,
    "expert_ffn_hidden_size": 64,
    "q_lora_rank": 64,
    "kv_lora_rank": 128,
    "qk_nope_head_dim": 32,
    "qk_rope_head_dim": 16,
    "v_head_dim": 24,
    "state_size": 32,
}
# What the second size needs where a size follows from others.
_PER_TYPE: dict[str, dict[str, Any]] = {
    "cohere2": {"head_dim": 32},
    "internlm3": {"head_dim": 32},
    "deepseek_v2": {"num_key_value_heads": 4},
    "deepseek_v3": {"num_key_value_heads": 4},
    "falcon_mamba": {"intermediate_size": 256, "time_step_rank": 8},
    "glm4_moe": {"num_key_value_heads": 1},
    "gpt_bigcode": {"n_inner": 192},
    "gpt_neox": {"intermediate_size": 512},
    "gptj": {"n_inner": 512, "rotary_dim": 16},
    "granitemoehybrid": {"mamba_n_heads": 16, "mamba_d_state": 32},
    "helium": {"head_dim": 32},
    "mamba": {"intermediate_size": 256, "time_step_rank": 8},
    "mamba2": {"num_heads": 16},
    "mistral4": {"num_key_value_heads": 4},
    "phi": {"num_key_value_heads": 2},
}

# Models with pictures: the text's and the pictures' widths; what follows from them follows.
_TEXT: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 192,
    "moe_intermediate_size": 64,
    "num_experts": 12,
}
_PICTURES: dict[str, Any] = {
    "hidden_size": 64,
    "embed_dim": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "out_hidden_size": 128,
    "depth": 4,
    "projection_dim": 64,
}


def config(model_type: str, size: int, *, pictures: bool) -> Any:
    """The small config of a type in the first or the second size."""
    if pictures:
        return vision.config(model_type, with_pictures(model_type) if size == 2 else None)
    return small.config(model_type, text(model_type) if size == 2 else None)


def text(model_type: str) -> dict[str, Any]:
    """The fields of the second size that a type's config knows and that do not follow from others of its own."""
    import transformers

    model_type = TEXT_PARTS.get(model_type, model_type)
    default, own = transformers.CONFIG_MAPPING[model_type](), PER_TYPE.get(model_type, {})
    known = {name: value for name, value in _LARGER.items() if name not in own and small._knows(default, name)}
    return {**known, **_PER_TYPE.get(model_type, {})}


def with_pictures(model_type: str) -> dict[str, Any]:
    """The same for a model with pictures, nested fields by dotted names; only what is stated grows."""
    whole = vision._fields(model_type)
    found = {}
    for part, sizes in (("text_config", _TEXT), ("vision_config", _PICTURES)):
        found.update({f"{part}.{name}": value for name, value in sizes.items() if name in whole[part]})
    held = whole["text_config"]
    if "embed_dim" in whole["vision_config"]:
        # Qwen2-VL's name for the pictures' own width; `hidden_size` is the text's there.
        found["vision_config.hidden_size"] = _TEXT["hidden_size"]
    section = held.get("rope_parameters", {}).get("mrope_section")
    if model_type == "glm4v":
        # What its heads divide says how wide they are; its rotation asks `head_dim`.
        found["text_config.head_dim"] = _TEXT["hidden_size"] // held["num_attention_heads"]
    if section and ("head_dim" not in held or model_type == "glm4v"):
        found["text_config.rope_parameters.mrope_section"] = [2 * part for part in section]
    if model_type == "gemma3":
        # The port rounds the width's root to bfloat16, as PyTorch does in bfloat16 alone: one that bfloat16 holds.
        found["text_config.hidden_size"] = 256
    if model_type == "paddleocr_vl":
        # mlx-vlm's projector is 1,024 wide whatever the config says.
        del found["text_config.hidden_size"]
    return found
