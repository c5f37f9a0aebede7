"""What a person gives a check and cannot be used: each is told with what was expected, what was found, where, and what to do."""

import json
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest
import torch
from safetensors.torch import save_file

from mlxport import class_file, port, port_file, scenarios
from mlxport.check.inputs import InputError, require_finite, require_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory that is fit to be read."""
    place = tmp_path / "model"
    place.mkdir()
    (place / "config.json").write_text('{"model_type": "llama"}')
    save_file({"w": torch.ones(4, 4)}, place / "model.safetensors")
    return place


def test_a_model_directory_and_a_hub_id_may_be_read(model: Path) -> None:
    require_model(str(model))
    require_model("owner/name")


@pytest.mark.parametrize(
    ("file", "text", "told"),
    [
        ("config.json", None, "found no config.json in it (it holds: model.safetensors)"),
        ("config.json", '{"model_type": ', "expected JSON"),
        ("config.json", "[]", "expected a JSON object, found list"),
        ("config.json", '{"hidden_size": 8}', "expected a model_type, found none"),
        ("model.safetensors", None, "expected weights (model*.safetensors or pytorch_model*.bin), found none"),
        ("model.safetensors", "short", "model.safetensors: no readable safetensors file of 5 bytes"),
    ],
)
def test_a_directory_that_is_no_model_is_told(model: Path, file: str, text: str | None, told: str) -> None:
    (model / file).unlink() if text is None else (model / file).write_text(text)
    with pytest.raises(InputError) as error:
        require_model(str(model))
    assert told in str(error.value) and str(model) in str(error.value)


def test_a_path_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(InputError, match="found no such directory or file"):
        require_model("./nowhere")


def test_weights_that_are_no_numbers_are_named() -> None:
    layer = torch.nn.Linear(4, 4)
    require_finite(layer, Path("m"))
    layer.weight.data[1, 2] = float("nan")
    with pytest.raises(InputError, match=r"m: expected numbers, found NaN or infinity in weight \(1 of 16\)"):
        require_finite(layer, Path("m"))


GOOD = "import mlx.nn as nn\nclass Model(nn.Module):\n    def __init__(self, args):\n        super().__init__()\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("class Model(:\n", "the file cannot be run: SyntaxError"),
        ("x = 1\nimport no_such_package\n", "line 2)"),
        (GOOD.replace("Model", "Other"), "has no class Model; it has Other"),
        ("class Model:\n    pass\n", "expected a class made of mlx.nn.Module"),
        (GOOD + "        raise RuntimeError('boom')\n", "the model cannot be made: RuntimeError: boom"),
    ],
)
def test_a_port_that_cannot_be_used_is_told_with_its_line(model: Path, text: str, told: str) -> None:
    file = model / "my_port.py"
    file.write_text(text)
    with pytest.raises(port.Unusable) as error:
        port.load(f"{file}:Model", model)
    assert told in str(error.value) and str(file) in str(error.value)


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(class_file.NoSuchClass, match="found no file nothing.py"):
        class_file.load("--port", "nothing.py:Model")


def test_all_that_does_not_fit_is_told_at_once(model: Path) -> None:
    file = model / "my_port.py"
    file.write_text(
        GOOD + "        self.a = nn.Linear(3, 5, bias=False)\n        self.b = nn.Linear(3, 5, bias=False)\n"
    )
    save_file({"a.weight": torch.ones(3, 5), "c.weight": torch.ones(2)}, model / "model.safetensors")
    with pytest.raises(port.PortError) as error:
        port.load(f"{file}:Model", model)
    assert str(error.value).splitlines() == [
        "checkpoint and parameters do not fit",
        "  in the checkpoint, not in the port (1): c.weight",
        "  in the port, not in the checkpoint (1): b.weight",
        "  of another shape (1): a.weight: (3, 5) in the checkpoint, (5, 3) in the port",
    ]
    assert not isinstance(error.value, port.Unusable)


def test_infinities_are_read_as_transformers_writes_them() -> None:
    assert port_file._untagged(json.loads('[{"a": {"__float__": "-Infinity"}}]')) == [{"a": float("-inf")}]


class _Bare(nn.Module):
    def __call__(self, inputs: mx.array, cache: list | None = None) -> mx.array:
        return inputs


class _NoCache(nn.Module):
    def __call__(self, inputs: mx.array) -> mx.array:
        return inputs


def test_a_port_whose_caches_cannot_be_made_is_told_what_it_lacks() -> None:
    with pytest.raises(port.NoCaches, match=r"_Bare has neither layers .* nor make_cache\(\)"):
        port.caches(port.Port("p", _Bare()))
    with pytest.raises(scenarios.CannotRun, match="_NoCache.__call__ takes no argument named cache"):
        scenarios.pieces(port.Port("p", _NoCache()), [1], lambda: lambda *_: mx.zeros(1))
