"""A small random model of any architecture that transformers knows: its config, and weights that show faults.

Sizes are small and all different, so no axis can be taken for another. Windows are shorter than the prompt. Weights hold bfloat16's
values, as released checkpoints do; norms and biases are not trivial, so a lost one is seen.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from typing import Any

import torch

from mlxport.small_types import PER_TYPE, TEXT_PARTS

# Sizes by field; only what the config class knows is set.
SIZES: dict[str, Any] = {
    "vocab_size": 199,
    "hidden_size": 64,
    "n_embd": 64,
    "d_model": 64,
    "num_hidden_layers": 2,
    "n_layer": 2,
    "num_attention_heads": 4,
    "n_head": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 96,
    "ffn_hidden_size": 96,
    "n_inner": 96,
    "head_dim": 16,
    "max_position_embeddings": 128,
    "n_positions": 128,
    "n_ctx": 128,
    "sliding_window": 8,
    "attention_window": 8,
    "num_experts": 6,
    "n_routed_experts": 6,
    "num_local_experts": 6,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 40,
    "shared_intermediate_size": 40,
    "expert_ffn_hidden_size": 24,
    "first_k_dense_replace": 1,
    "n_group": 2,
    "topk_group": 1,
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 12,
    "qk_rope_head_dim": 8,
    "v_head_dim": 10,
    "query_pre_attn_scalar": 24,
    "state_size": 16,
    "conv_kernel": 4,
    "chunk_size": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}

# A small model has at most so many parameters.
LARGEST = 5_000_000

# A routed choice closer than this, relative, hangs on rounding.
SMALLEST_GAP = 1e-4


def config(model_type: str, fields: dict[str, Any] | None = None) -> Any:
    """The small config of an architecture; `fields` go before what it has. A type that transformers does not know is a ValueError."""
    import transformers

    model_type = TEXT_PARTS.get(model_type, model_type)
    if model_type not in transformers.CONFIG_MAPPING:
        alike = ", ".join(difflib.get_close_matches(model_type, list(transformers.CONFIG_MAPPING), 6)) or "none"
        raise ValueError(f"transformers {transformers.__version__} knows no model type {model_type!r}; alike: {alike}")
    kind = transformers.CONFIG_MAPPING[model_type]
    own = {**PER_TYPE.get(model_type, {}), **(fields or {})}
    default = kind()
    known = {name: v for name, v in {**SIZES, **own}.items() if v is not None and _knows(default, name)}
    made = kind(**{**known, **{name: value for name, value in own.items() if value is not None}})
    if getattr(made, "n_shared_experts", None):
        made.n_shared_experts = 1
    return made


def require_small(model_type: str, make: Callable[[], torch.nn.Module]) -> None:
    """A ValueError where a type's config has parts that no size here reaches, so that the model would not be small."""
    with torch.device("meta"):
        count = sum(parameter.numel() for parameter in make().parameters())
    if count > LARGEST:
        raise ValueError(
            f"no small form of {model_type} is known: it would have {count:,} parameters (at most {LARGEST:,})"
        )


def _knows(default: Any, name: str) -> bool:
    """Whether a config class has this field; one that is absent by default (a window of None) stays absent."""
    if name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        return True
    aliases = getattr(type(default), "attribute_map", {})
    if name in aliases and name not in vars(default):
        return False
    try:
        held = getattr(default, name)
    except AttributeError:
        return False
    except Exception:  # noqa: BLE001 some configs refuse to name one value where layers differ
        return name in vars(default)
    return held is not None or name in ("head_dim", "num_key_value_heads", "q_lora_rank", "n_inner")


def fill(model: torch.nn.Module, seed: int, *, rounded: bool = True) -> None:
    """Draws every parameter anew. Activations stay near one, and nothing is trivial.

    `rounded`: values that bfloat16 holds, as released checkpoints have them; else any float32 values, where a cast shows how it rounds.
    """
    generator = torch.Generator().manual_seed(seed)

    def held(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.bfloat16().float() if rounded else tensor

    def draw(shape: torch.Size, scale: float) -> torch.Tensor:
        return held(torch.randn(shape, generator=generator) * scale)

    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    with torch.no_grad():
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) in embeddings:
                    parameter.copy_(draw(parameter.shape, 1.0))
                elif parameter.ndim >= 2 and parameter.numel() > 64:
                    transposed = type(module).__name__ == "Conv1D"
                    fan_in = parameter.shape[0] if transposed else parameter[0].numel()
                    if parameter.ndim == 3 and "conv" not in type(module).__name__.lower():
                        fan_in = parameter.shape[-1]
                    parameter.copy_(draw(parameter.shape, 1.2 / fan_in**0.5))
                elif name.endswith("bias") or "norm" not in type(module).__name__.lower():
                    parameter.copy_(held(parameter + draw(parameter.shape, 0.15)))
                else:
                    parameter.copy_(held(parameter + draw(parameter.shape, 0.2)))
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.copy_(draw(buffer.shape, 0.05))
