"""mlx-vlm's models whose known faults are mended in memory, so that the rest of them can be held against PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.nn as nn

from mlxport.port import Port


def _qwen3_vl_moe(model: Any) -> None:
    """The pictures' blocks take GELU's exact form and their mergers its tanh form; PyTorch has it the other way round."""
    tower = model.vision_tower
    for block in tower.blocks:
        block.mlp.act_fn = nn.GELU(approx="tanh")
    for merger in (tower.merger, *tower.deepstack_merger_list):
        merger.act_fn = nn.GELU()


MENDS: dict[str, Callable[[Any], None]] = {"qwen3_vl_moe": _qwen3_vl_moe}


def mend(port: Port, model_type: str) -> Port:
    """The same port, mended."""
    MENDS[model_type](port.model)
    return port
