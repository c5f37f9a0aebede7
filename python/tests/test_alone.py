"""The isolated mode: what of PyTorch's inputs a module of the port is given, and what stays as the port has it."""

from __future__ import annotations

import mlx.core as mx
import numpy as np

from mlxport.alone import Instead
from mlxport.heard import Call, Run


def given(integers: np.ndarray, own: mx.array) -> tuple[np.ndarray, list]:
    """PyTorch's activations, and the arguments that the port's module is run with."""
    x = np.random.default_rng(0).standard_normal((1, 4, 3)).astype(np.float32)
    run = Run()
    run.add(Call("torch", run.number("torch"), [x, integers], []))
    made = Instead(run, {"torch": "port"})("port", 0, (mx.zeros((1, 4, 3)), own), {})
    assert made is not None
    return x, list(made[0])


def test_positions_do_not_take_a_masks_place() -> None:
    x, args = given(np.arange(4)[None], mx.array([[1, 1, 1, 0]]))
    assert np.array_equal(np.array(args[0]), x)
    assert np.array(args[1]).tolist() == [[1, 1, 1, 0]]


def test_choices_of_experts_are_pytorchs() -> None:
    chosen = np.array([[[3, 1], [0, 2], [1, 2], [3, 0]]])
    assert np.array_equal(np.array(given(chosen, mx.zeros((1, 4, 2), mx.int32))[1][1]), chosen)
