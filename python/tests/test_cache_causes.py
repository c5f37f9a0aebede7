"""A cause that only pieces over a cache show is named where it is the cause, and only there."""

import mlx.core as mx
import numpy as np
import pytest

from mlxport import cache_causes
from mlxport.align import Aligned, Pair, Sides
from mlxport.heard import Call, Fed, Run
from mlxport.mapping import Mapping

LENGTHS = [5, 1, 1]
POINT = "layers.0.attn.bare_attention"


def turned(x: np.ndarray, offset: int) -> np.ndarray:
    return np.array(mx.fast.rope(mx.array(x), 8, traditional=False, base=1e4, scale=1.0, offset=offset))


def recorded(offsets: list[int]) -> tuple[Fed, Aligned]:
    """Queries in pieces, each turned with its offset, beside those of the whole."""
    x = np.random.default_rng(0).standard_normal((1, 2, sum(LENGTHS), 8)).astype(np.float32)
    run, made, start = Run(), [], 0
    for length, offset in zip(LENGTHS, offsets, strict=True):
        piece = x[:, :, start : start + length]
        out = turned(piece, offset)
        meta = {"dims": 8, "traditional": False, "base": 1e4, "scale": 1.0, "offset": offset}
        run.add(Call("l.0.rope.rotation", run.number("l.0.rope.rotation"), [piece], [out], None, meta))
        made.append(out)
        start += length
    right = turned(x, 0)
    pair = Pair(POINT, 0, "in", right, right, right, np.concatenate(made, axis=2))
    return Fed(run, LENGTHS), Aligned([pair])


@pytest.mark.parametrize(
    ("offsets", "told"), [([0, 0, 0], "position 5 with rope offset 0, PyTorch with 5"), ([0, 5, 6], "")]
)
def test_positions_that_begin_anew_are_named(offsets: list[int], told: str) -> None:
    sides = Sides(Run(), Run(), Run(), Mapping({"layers.0.attn": "l.0"}), [], set())
    fed, pieces = recorded(offsets)
    found = cache_causes.found(sides, fed, pieces, Aligned([]))
    assert [told in cause["cause"] for cause in found] == ([True] if told else [])
    assert all(cause["point"] == f"{POINT}#0.in" and cause["within_tolerance"] for cause in found)


def test_keys_in_a_cache_are_held_against_those_of_the_whole_pass() -> None:
    sides = Sides(Run(), Run(), Run(), Mapping({"layers.0.attn": "l.0"}), [], set())
    fed, pieces = recorded([0, 4, 5])
    keys = pieces.pairs[0]
    whole = Aligned([Pair(POINT, 0, "in1", keys.truth, keys.truth, keys.truth, keys.truth)])
    out = Aligned([Pair(POINT, 0, "out", keys.truth, keys.truth, keys.truth, -keys.truth)])
    found = cache_causes.found(sides, fed, out, whole)
    assert [cause["point"] for cause in found] == [f"{POINT}#0.out"]
    assert "position 5 with rope offset 4, PyTorch with 5" in found[0]["cause"]
    assert not cache_causes.found(sides, fed, out, Aligned([]))
