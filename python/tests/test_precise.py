"""The float64 run shares the float32 model's parameters: it computes what a float64 copy of the model computes, to the last digits."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from mlxport.precise import Float64, share


class Part(torch.nn.Module):
    """Every way in which a model's code takes its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.table = torch.nn.Embedding(11, 6)
        self.norm, self.conv = torch.nn.LayerNorm(6), torch.nn.Conv1d(6, 6, 3, padding=1)
        self.experts = torch.nn.Parameter(torch.randn(3, 6, 6))
        self.scale = torch.nn.Parameter(torch.randn(6))
        self.memory = torch.nn.GRU(6, 6, batch_first=True)
        self.register_buffer("bias", torch.randn(6))
        self.register_buffer("angles", 1.0 / 10000 ** (torch.arange(6).float() / 6), persistent=False)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.table(ids)).to(self.scale.dtype) + self.bias
        x = x + self.conv(x.mT).mT * self.scale.data.float()
        first, *rest = self.experts.unbind(0)
        x = F.linear(x, first) + torch.einsum("ij,blj->bli", torch.stack([self.experts[1], *rest])[0], x)
        x = self.memory(x)[0] + torch.cos(self.angles) * torch.cat([self.scale, self.scale])[:6]
        assert self.experts.shape == (3, 6, 6) and self.scale.size(0) == 6
        return x @ self.table.weight.T


@pytest.fixture
def model() -> Part:
    torch.manual_seed(3)
    return Part().eval()


def test_it_is_what_a_float64_copy_computes(model: Part) -> None:
    ids = torch.arange(10).reshape(2, 5)
    copied = copy.deepcopy(model).double()
    with Float64():
        torch.manual_seed(4)
        exact = Part().eval()
    copied.angles = exact.angles
    share(exact, model)
    with torch.no_grad(), Float64():
        right, made = copied(ids), exact(ids)
    assert made.dtype == torch.float64 and float((made - right).abs().max()) < 1e-14


def test_no_parameter_is_copied(model: Part) -> None:
    with Float64():
        exact = Part().eval()
    share(exact, model)
    assert all(ours is theirs for ours, theirs in zip(model.parameters(), exact.parameters(), strict=True))
    assert exact.angles.dtype == torch.float64 and not torch.equal(exact.angles, model.angles.double())
    assert torch.equal(exact.bias, model.bias.double())
