"""Layouts by rule: what is put right, and that a transposed square is not."""

import numpy as np

from mlxport import layout
from mlxport.align import Pair
from mlxport.boundary import undo


def test_rows_and_leading_axes_fold() -> None:
    rows = np.arange(61 * 8.0).reshape(61, 8)
    made = layout.to_shape(rows, (1, 61, 8))
    assert made is not None and made[1] == layout.FOLDED
    assert np.array_equal(made[0][0], rows)


def test_heads_before_and_after_length() -> None:
    array = np.random.default_rng(0).standard_normal((1, 4, 61, 16))
    made = layout.to_shape(array, (1, 61, 4, 16))
    assert made is not None and made[1] == layout.HEADS
    assert np.array_equal(made[0], array.swapaxes(1, 2))
    merged = layout.to_shape(array, (1, 61, 64))
    assert merged is not None and np.array_equal(merged[0], array.swapaxes(1, 2).reshape(1, 61, 64))


def test_channels_last_for_convolutions_even_where_the_shape_is_square() -> None:
    array = np.random.default_rng(1).standard_normal((1, 8, 8, 8))
    made = layout.to_shape(array, (1, 8, 8, 8), convolution=True)
    assert made is not None and made[1] == layout.CHANNELS


def test_a_transposed_square_is_never_put_right() -> None:
    square = np.random.default_rng(2).standard_normal((1, 16, 16))
    made = layout.to_shape(square.swapaxes(1, 2), (1, 16, 16))
    assert made is not None and made[1] == layout.AS_IS
    assert not np.array_equal(made[0], square)


def test_other_sizes_have_no_layout() -> None:
    assert layout.to_shape(np.zeros((1, 61, 2, 64)), (61, 64)) is None
    assert layout.to_shape(np.zeros((1, 6, 61)), (1, 61, 6)) is not None


def test_pieces_are_joined_along_the_positions() -> None:
    whole = np.random.default_rng(3).standard_normal((1, 4, 7, 3))
    parts = [whole[:, :, :4], whole[:, :, 4:5], whole[:, :, 5:]]
    assert np.array_equal(layout.joined(parts, [4, 1, 2]), whole)
    assert layout.joined([np.zeros((1, 9)), np.zeros((1, 9))], [4, 1]) is None


def test_a_factor_that_the_next_module_never_sees_is_no_boundary() -> None:
    """A router that lost its scale: what runs next is given other numbers and agrees, what is around it does not."""
    from mlxport.align import Aligned, Pair, Sides, _settle
    from mlxport.heard import Call, Run
    from mlxport.mapping import Mapping

    gate, around = np.random.default_rng(5).standard_normal((2, 61, 6))
    run = Run()
    run.add(Call("mlp.gate", run.number("mlp.gate"), [around], [gate]))
    sides = Sides(run, run, run, Mapping(), [], set())

    def pairs(theirs: np.ndarray) -> list[Pair]:
        return [
            Pair("mlp.gate", 0, "out", gate, gate, gate, gate * 0.4),
            Pair("mlp.shared", 0, "in", around, around, around, around),
            Pair("mlp", 0, "out", around, around, around, theirs),
        ]

    broken = Aligned(pairs(around * 1.1))
    _settle(broken, sides)
    assert not broken.boundaries and broken.pairs[0].fails()
    right = Aligned(pairs(around))
    _settle(right, sides)
    assert right.boundaries[0]["judged_at"] == "mlp#0.out" and not right.pairs[0].fails()


def test_rows_of_a_table_in_another_order_are_the_same_rows_and_others_are_not() -> None:
    truth = np.random.default_rng(3).standard_normal((1, 6, 4)).astype(np.float32)
    theirs = truth[:, [2, 0, 1, 5, 4, 3]]
    undone = undo(Pair("embed", 0, "out", truth, truth, truth, theirs))
    assert undone is not None and np.array_equal(undone[0], truth)
    assert undo(Pair("embed", 0, "out", truth, truth, truth, np.roll(theirs, 1, -1))) is None


def test_a_branch_beside_a_wrong_module_tells_nothing_of_it() -> None:
    """Attention and MLP of the same input, side by side: that the MLP is given what PyTorch's is says nothing of attention."""
    from mlxport.align import Aligned, Pair, Sides, _settle
    from mlxport.heard import Call, Run
    from mlxport.mapping import Mapping

    given, out, layer = np.random.default_rng(6).standard_normal((3, 61, 6))
    run = Run()
    run.add(Call("layer.attn", run.number("layer.attn"), [given], [out]))
    sides = Sides(run, run, run, Mapping(), [], set())

    def settled(next_input: np.ndarray) -> Aligned:
        found = Aligned(
            [
                Pair("layer.attn", 0, "out", out, out, out, out * 0.4),
                Pair("layer.mlp", 0, "in", next_input, next_input, next_input, next_input),
                Pair("layer", 0, "out", layer, layer, layer, layer * 1.1),
            ]
        )
        _settle(found, sides)
        return found

    assert settled(given).pairs[0].point == "layer.attn" and not settled(given).boundaries
