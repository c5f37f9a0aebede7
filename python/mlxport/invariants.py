"""What must hold of a port by itself, whatever PyTorch says."""

from __future__ import annotations

import mlx.core as mx

from mlxport import port as ports
from mlxport.session import Session


def broken(made: Session) -> list[str]:
    """Every invariant that does not hold, in words: `sanitize` twice is once; what was saved loads to the same."""
    found = []
    model = made.port.model
    before = ports.parameters(model)
    if hasattr(model, "sanitize"):
        try:
            again = model.sanitize(dict(before))
        except Exception as error:  # noqa: BLE001 whatever the port says is told
            return [f"sanitize of converted weights raises {type(error).__name__}: {error}"]
        for name, array in before.items():
            if name not in again:
                found.append(f"sanitize of converted weights drops {name}")
            elif again[name].shape != array.shape or not bool(mx.array_equal(again[name], array)):
                found.append(f"sanitize of converted weights changes {name} once more")
    return found[:20]
