"""Configs in the form that ports read: what transformers 5 writes, given as releases on the hub have it.

transformers 5 moves rotary settings into `rope_parameters`, leaves out what equals its defaults, and renames fields. Ports read
`rope_theta` at the top and have other defaults. Every field that is added here is told.
"""

from __future__ import annotations

import json
import math
from typing import Any

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
    "exaone4": {"sliding_window_pattern": lambda c: c.get("sliding_window_pattern")},
    "deepseek_v3": {
        "topk_method": lambda c: "noaux_tc",
        "scoring_func": lambda c: "sigmoid",
        "moe_layer_freq": lambda c: 1,
    },
    "deepseek_v2": {
        "scoring_func": lambda c: "softmax",
        "moe_layer_freq": lambda c: 1,
    },
    "glm4_moe": {"topk_method": lambda c: "noaux_tc", "scoring_func": lambda c: "sigmoid"},
    "qwen2_moe": {"decoder_sparse_step": lambda c: 1},
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
_MOVED = ("rope_theta", "partial_rotary_factor")


def rope(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary settings of the full-attention layers."""
    found = config.get("rope_parameters") or {}
    nested = found.get("full_attention")
    return nested if isinstance(nested, dict) else found


def pattern(config: dict[str, Any], default: int) -> int:
    """Every how-manieth layer attends to everything."""
    types = config.get("layer_types") or []
    return types.index("full_attention") + 1 if "full_attention" in types else default


def hub_form(config: dict[str, Any]) -> dict[str, Any]:
    """A whole config (every field, defaults included) as hub releases write it. Nested configs are translated, too."""
    made = dict(config)
    for name in ("text_config", "vision_config", "audio_config"):
        if isinstance(made.get(name), dict):
            made[name] = hub_form(made[name])
    _rope_to_top(config, made)
    for name, value in _PER_TYPE.get(config.get("model_type", ""), {}).items():
        if made.get(name) is None:
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
