"""Causes are named where they are the cause, and only there."""

import numpy as np
import torch

from mlxport import causes
from mlxport.align import Pair
from mlxport.heard import Call, relative_rms


def pair(truth: np.ndarray, theirs: np.ndarray) -> Pair:
    return Pair("m", 0, "out", truth, truth, truth, theirs)


def drawn(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def test_theta_is_named_with_both_values() -> None:
    import mlx.core as mx

    x = drawn(1, 4, 61, 16).astype(np.float32)
    call = Call("rope.rotation", 0, [x], [x], None, {"dims": 16, "traditional": False, "base": 1e4, "scale": 1.0})
    right = np.array(mx.fast.rope(mx.array(x), 16, traditional=False, base=1e5, scale=1.0, offset=0))
    named = [what for what, out in causes.rotations(call, {"rope_theta": 1e5}, []) if relative_rms(out, right) < 1e-5]
    assert named == ["rope_theta: the port turns with base 10000, PyTorch with 100000"]


def test_a_window_that_is_ignored_is_named() -> None:
    q, k, v = drawn(1, 4, 31, 8), drawn(1, 4, 31, 8), drawn(1, 4, 31, 8)
    settings = {"scale": 8**-0.5, "cap": None, "window": 6, "shift": 0}
    with_window = causes._attention(q, k, v, settings).swapaxes(1, 2)
    without = causes._attention(q, k, v, {**settings, "window": None}).swapaxes(1, 2)
    rows, columns = np.arange(31)[:, None], np.arange(31)[None]
    mask = np.where((columns <= rows) & (columns > rows - 6), 0.0, -3e38)[None, None]
    meta = {"scaling": 8**-0.5, "config": {"sliding_window": 6, "hidden_size": 32, "num_attention_heads": 4}}
    found = list(causes.attentions([q, k, v, mask], meta, pair(with_window, without)))
    named = [what for what, ours, theirs in found if ours < 1e-5 and theirs < 1e-5]
    assert named == ["sliding_window of 6 is ignored: the port attends to everything before"]


def test_the_form_of_gelu_is_named_and_equal_ones_are_not() -> None:
    gate, up = drawn(61, 24), np.random.default_rng(1).standard_normal((61, 24))
    wide = torch.from_numpy(gate)
    exact = torch.nn.functional.gelu(wide).numpy() * up
    tanh = torch.nn.functional.gelu(wide, approximate="tanh").numpy() * up
    sisters = [pair(gate, gate), pair(up, up)]
    named = causes.activation(pair(tanh, exact), sisters)
    assert named is not None and named[0] == "activation: the port computes gelu (exact), PyTorch gelu's tanh form"
    assert causes.activation(pair(tanh, tanh), sisters) is None


def test_a_norm_weight_plus_one_and_an_epsilon_are_named() -> None:
    module = torch.nn.RMSNorm(32, eps=1e-6)
    module.weight.data = torch.from_numpy(drawn(32)).float()
    x, w = 0.01 * np.random.default_rng(5).standard_normal((61, 32)), module.weight.detach().double().numpy()
    right = causes._normed(x, w, 0.0, (1e-6, 0.0, True, False))
    for setting, word in (
        ((1e-6, 1.0, True, False), "norm weight"),
        ((1e-5, 0.0, True, False), "epsilon: the port takes 1e-05"),
    ):
        named = causes.norm(module, x, pair(right, causes._normed(x, w, 0.0, setting)))
        assert named is not None and word in named[0]


def test_a_norm_over_groups_of_channels_is_left_alone() -> None:
    x = drawn(1, 24, 4, 4)
    assert causes.norm(torch.nn.GroupNorm(4, 24), x, pair(x, x + 1)) is None


def test_lost_bias_and_transposed_weight_are_named() -> None:
    module = torch.nn.Linear(16, 16)
    x, w, b = drawn(61, 16), module.weight.detach().double().numpy(), module.bias.detach().double().numpy()
    right = x @ w.T + b
    for theirs, word in ((x @ w.T, "lost bias"), (x @ w + b, "transposed")):
        named = causes.linear(module, x, pair(right, theirs))
        assert named is not None and word in named[0]
    assert causes.linear(module, x, pair(right, right * 1.1)) is None


def test_an_epsilon_that_rounding_hides_is_not_blamed_for_a_norm_weight() -> None:
    module = torch.nn.RMSNorm(32, eps=1e-6)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(drawn(32)))
    x, w = np.random.default_rng(6).standard_normal((61, 32)), module.weight.detach().double().numpy()
    right = causes._normed(x, w, 0.0, (1e-6, 1.0, True, False))
    # As MLX rounds sums of squares, which fits an epsilon of nothing better.
    theirs = causes._normed(x, w, 0.0, (1e-6, 0.0, True, False)) * (1 + 5.5e-7)
    named = causes.norm(module, x, pair(right, theirs))
    assert named is not None and "norm weight" in named[0]


def test_a_router_that_is_not_renormalized_is_named() -> None:
    weights = np.abs(drawn(61, 6))
    named = causes.router(pair(weights / weights.sum(-1, keepdims=True), weights))
    assert named is not None and "sum to" in named[0]
