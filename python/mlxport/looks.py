"""Scenarios of models with pictures: sizes, shapes and numbers of pictures that the usual two do not show.

PyTorch's model is given the same. What it does not take itself, or what the model has no such thing as, is told and is no failure.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlxport import tasks, vision
from mlxport import vision_squares as squares
from mlxport import vision_types as types
from mlxport.scenarios import CannotRun

# Types whose pictures are cut into squares, each one more picture of pixels.
_CUT = ("gemma3", "idefics3", "smolvlm")
# Of these a picture may have another size than the config's.
_FREE = ("idefics3", "smolvlm")


def fed(name: str, config: dict[str, Any], seed: int) -> dict[str, np.ndarray]:
    """What both sides are fed in this scenario; CannotRun with the reason where the model has no such pictures."""
    kind = str(config.get("model_type"))
    if not vision.has_pictures(config) or tasks.of(kind) is not None:
        raise CannotRun("the model has no pictures beside text")
    known = kind in squares.SQUARE_TYPES or kind in types.PLACED_TYPES
    pictures = _whole(name, kind, vision.own_grid(config)) if known else _patches(name)
    return vision.inputs(config, seed + 1, pictures)


def _patches(name: str) -> vision.Pictures:
    """Pictures as rows of patches, of any size."""
    # Larger than the small models' tables of positions (8 by 8), and no whole number of windows.
    grids = {"resize": ((1, 10, 12),), "non-square": ((1, 2, 12),), "two-images": ((1, 6, 4), (1, 4, 8))}
    # These models know no tiles; what comes with them, five pictures, they take.
    grids["tiles"] = ((1, 4, 4), (1, 4, 6), (1, 6, 4), (1, 4, 4), (1, 2, 4))
    return vision.Pictures(grids[name], between={"two-images": 0, "tiles": 1}.get(name, 3))


def _whole(name: str, kind: str, own: tuple[int, int, int]) -> vision.Pictures:
    """Pictures of one size."""
    _, rows, columns = own
    if name == "two-images":
        return vision.Pictures((own, own), between=0)
    if name == "tiles":
        if kind not in _CUT:
            raise CannotRun("a picture of this model is one square")
        # Four squares and the whole picture made small.
        return vision.Pictures((own,) * 5, between=1)
    if kind in types.PLACED_TYPES:
        return vision.Pictures(((1, rows // 2, columns * 2) if name == "non-square" else (1, rows + 4, columns + 4),))
    if kind in squares.SIZED and name in ("resize", "non-square"):
        # Its table of rotations ends at the config's size.
        return vision.Pictures(((1, rows - 2, columns - 2) if name == "resize" else (1, rows // 2, columns),))
    if name == "resize" and kind in _FREE:
        return vision.Pictures(((1, rows + 2, columns + 2),))
    raise CannotRun("PyTorch's model takes pictures of one size and square ones alone")
