"""The public API: recordings in the fixture format, with a truth that is float64 throughout."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
import torch

import mlxport
from mlxport import kernels
from mlxport.precise import Float64
from mlxport.trace import read, tag


class Casts(torch.nn.Module):
    """A norm that casts to float32 on the way, as released ones do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.linear(x).to(torch.float32)
        return (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).to(x.dtype)


def test_casts_to_float32_stay_float64_in_the_truth() -> None:
    model, x = Casts().double(), torch.randn(3, 8, dtype=torch.float64)
    with Float64(), torch.no_grad():
        exact = model(x)
        assert torch.zeros(2, dtype=torch.float32).dtype == torch.float64
    wide = model.linear(x)
    right = wide / (wide.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
    assert float((exact - right).abs().max()) < 1e-14


def test_a_recording_holds_inputs_outputs_and_floors(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 4), torch.nn.ReLU())

    class Named(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = model

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x)

    count = mlxport.record(Named().eval(), {"x": torch.randn(5, 8)}, tmp_path / "out")
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    names = [f"{p['point']}.{p['kind']}" for p in manifest["order"]]
    assert count == len(names) == 6 and "body.0.out" in names
    floor = next(p for p in manifest["order"] if p["point"] == "body.0" and p["kind"] == "out")["noise_floor"]
    assert 0 < floor["rms"] < 1e-6 * floor["ref_rms"] * 10
    with pytest.raises(FileExistsError):
        mlxport.record(Named(), {"x": torch.randn(5, 8)}, tmp_path / "out")


def test_mlx_modules_are_heard() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU())
    with mlxport.listen_mlx(model) as heard:
        model(mx.ones((2, 8)))
    assert [call.path for call in heard.run.calls] == ["layers.0", "layers.1"]


def test_bare_operations_on_mlx_are_the_same_operations() -> None:
    x = torch.randn(3, 7)
    mode = kernels.RuntimeKernels()
    with mode:
        made = torch.softmax(torch.nn.functional.linear(x, torch.eye(7)), -1)
    assert mode.done == {"linear": 1, "softmax": 1} and not mode.refused
    assert float((made - torch.softmax(x, -1)).abs().max()) < 1e-6


def test_groups_of_channels_and_frames_of_sound_are_the_same_operations() -> None:
    x, frames = torch.randn(2, 8, 5, 3), torch.fft.rfft(torch.randn(2, 13, 20)).mT
    mode = kernels.RuntimeKernels()
    with mode:
        torch.nn.functional.group_norm(x, 4, torch.randn(8), torch.randn(8))
        torch.istft(frames, 20, 5, 20, window=torch.hann_window(20))
    assert mode.done == {"group_norm": 1, "istft": 1} and not mode.refused


def test_an_operation_that_mlx_does_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(kernels._OPERATIONS, torch.tanh, lambda x: mx.sigmoid(kernels.to_mlx(x)))
    mode, x = kernels.RuntimeKernels(), torch.randn(9)
    with mode:
        made = torch.tanh(x)
    assert mode.refused == {"tanh": 1} and torch.equal(made, torch.tanh(x))


def test_tags_survive_stacking_and_show_what_was_added() -> None:
    torch_model = torch.nn.ModuleDict({"a": torch.nn.Linear(4, 4, bias=False), "b": torch.nn.Linear(4, 4, bias=False)})
    tags = tag(torch_model)
    port = nn.Linear(4, 8, bias=False)
    a, b = (torch_model[name].weight.detach().numpy() for name in "ab")
    port.weight = mx.array(np.concatenate([a, b + 1.0]))
    from mlxport.port import Port

    traced = read(Port("x", port), len(tags))
    assert traced.tags == {"weight": frozenset({0, 1})} and traced.offsets == {"weight": 1.0}


def test_what_mlx_compiles_is_run_and_not_heard() -> None:
    class Inner(nn.Module):
        def __call__(self, x: mx.array) -> mx.array:
            return mx.fast.scaled_dot_product_attention(x, x, x, scale=1.0)

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def __call__(self, x: mx.array) -> mx.array:
            return mx.compile(lambda part: self.inner(part) + 1)(x)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.outer = Outer()

        def __call__(self, x: mx.array) -> mx.array:
            return self.outer(x)

    model, given = Whole(), mx.ones((1, 1, 3, 4))
    with mlxport.listen_mlx(model) as listener:
        made = model(given)
    assert made.shape == (1, 1, 3, 4) and listener.run.count("outer") == 1 and listener.run.count("outer.inner") == 0


def test_infinities_leave_in_a_form_that_json_has() -> None:
    from mlxport import session

    said = session.tagged({"limit": [0.0, float("inf")], "low": -float("inf"), "name": "x"})
    assert said == {"limit": [0.0, {"__float__": "Infinity"}], "low": {"__float__": "-Infinity"}, "name": "x"}
