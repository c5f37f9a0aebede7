"""Tensors that releases hold and transformers passes over when it loads them: its own models name them by patterns."""

from __future__ import annotations

import re
from typing import Any

import torch

# No tag, and no parameter of a small model, has this value.
FILLER = -8.0


def shared_layers(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Keys and values of layers that read another layer's: releases have them, transformers does not; full of FILLER."""
    held = model.state_dict()
    kinds = getattr(model.config, "layer_types", None) or []
    found: dict[str, torch.Tensor] = {}
    for prefix, pattern in _patterns(model):
        named = re.fullmatch(r"layers\.(\d+)\.([\w.]+)", pattern)
        if named is None:
            continue
        layer, rest = int(named[1]), named[2]
        for name, tensor in held.items():
            like = re.fullmatch(rf"{re.escape(prefix)}layers\.(\d+)\.{re.escape(rest)}\.(\w+)", name)
            if like and _alike(kinds, layer, int(like[1])):
                found[f"{prefix}layers.{layer}.{rest}.{like[2]}"] = torch.full_like(tensor, FILLER)
    return found


def beside(model: torch.nn.Module) -> list[str]:
    """Names of tensors that lie beside the model in its releases (heads that predict further tokens), one for each pattern."""
    found = []
    for _, pattern in _patterns(model):
        literal = re.match(r"\^?((?:\\\.|[\w.])+)", pattern)
        name = literal[1].replace("\\.", ".").rstrip(".") + ".norm.weight" if literal else ""
        if literal and re.search(pattern, name) and not pattern.startswith("layers."):
            found.append(name)
    return found


def _alike(kinds: list[str], layer: int, other: int) -> bool:
    return layer != other and (not kinds or max(layer, other) >= len(kinds) or kinds[layer] == kinds[other])


def _patterns(model: torch.nn.Module) -> list[tuple[str, str]]:
    """Each pattern with the path of the module that has it."""
    found: list[tuple[str, str]] = []
    for path, module in model.named_modules():
        patterns: Any = getattr(module, "_keys_to_ignore_on_load_unexpected", None) or []
        found += [(f"{path}." if path else "", pattern) for pattern in sorted(patterns)]
    return found
