"""MLX's bare operations in PyTorch's graph: the same operation, or PyTorch's own."""

from __future__ import annotations

import pytest
import torch

from mlxport import kernels


def l2norm(x: torch.Tensor, dim: int = -1, eps: float = 1e-6) -> torch.Tensor:
    """As files of models with linear attention have it."""
    return x * torch.rsqrt((x * x).sum(dim=dim, keepdim=True) + eps)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_a_norm_by_the_sum_of_squares_keeps_its_epsilon(size: float) -> None:
    x = torch.randn(2, 5, 16, generator=torch.Generator().manual_seed(1)) * size
    made = kernels.l2_norm(l2norm)(x)
    torch.testing.assert_close(made, l2norm(x), rtol=1e-5, atol=0.0)
    assert not torch.equal(made, l2norm(x)), "MLX did not compute this"


def test_over_another_axis_it_is_pytorchs() -> None:
    x = torch.randn(2, 5, 16)
    assert torch.equal(kernels.l2_norm(l2norm)(x, dim=1), l2norm(x, dim=1))
