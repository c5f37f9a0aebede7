"""Figures of quantized conversions: the divergence of distributions, and how often the likeliest token is the same."""

from __future__ import annotations

import numpy as np

from mlxport import quantized


def test_a_model_does_not_differ_from_itself() -> None:
    drawn = np.random.default_rng(0).standard_normal((5, 9))
    assert quantized.compared(drawn, drawn + 3.0) == (0.0, 1.0) or quantized.compared(drawn, drawn + 3.0)[0] < 1e-12


def test_another_order_of_tokens_is_far() -> None:
    drawn = np.random.default_rng(0).standard_normal((5, 9))
    divergence, agreed = quantized.compared(drawn, drawn[:, ::-1])
    assert divergence > 0.1 and agreed < 1
