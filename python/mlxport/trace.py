"""Which PyTorch parameters each parameter of the port was made of: the port loads a checkpoint whose values are tags.

Tag k is a tensor full of 16k + 8. What the port's `sanitize` stacks, splits, transposes or renames keeps its tags; what it adds
(a norm's 1) shows as a small offset. Nothing is concluded from names.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import mlx.core as mx
import numpy as np
import torch

from mlxport.port import Port, parameters

SPACING, MIDDLE = 16, 8


@dataclass
class Trace:
    """For each parameter of the port, the tags it holds; `offsets` where something was added to what was loaded."""

    tags: dict[str, frozenset[int]]
    offsets: dict[str, float] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    # Made of what transformers passes over.
    fillers: set[str] = field(default_factory=set)


def tag(model: torch.nn.Module) -> dict[str, int]:
    """Overwrites every parameter and saved buffer by its tag; tied ones have one. Which name has which tag."""
    by_storage: dict[int, int] = {}
    tags: dict[str, int] = {}
    with torch.no_grad():
        for name, tensor in model.state_dict(keep_vars=True).items():
            if not tensor.is_floating_point():
                continue
            number = by_storage.setdefault(tensor.data_ptr(), len(by_storage))
            tensor.data.fill_(float(number * SPACING + MIDDLE))
            tags[name] = number
    return tags


def read(port: Port, count: int) -> Trace:
    """The tags in a port that loaded the tagged checkpoint of `count` tags."""
    trace = Trace({})
    for name, array in parameters(port.model).items():
        if not mx.issubdtype(array.dtype, mx.floating):
            continue
        values = np.unique(np.array(array.astype(mx.float32)))
        if (values < 0).all():
            trace.fillers.add(name)
        numbers = np.floor(values / SPACING)
        offsets = values - numbers * SPACING - MIDDLE
        known = (numbers >= 0) & (numbers < count) & (np.abs(offsets) < 4) & (offsets == np.round(offsets))
        if not known.all():
            trace.unread.append(name)
        trace.tags[name] = frozenset(int(n) for n in numbers[known])
        added = {float(offset) for offset in offsets[known]}
        if added and added != {0.0}:
            trace.offsets[name] = max(added, key=abs)
    return trace
