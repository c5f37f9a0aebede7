"""A port that reads text alone is judged on models with pictures: by text, and not for what only pictures go through."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from mlxport import session
from mlxport.check import parts
from mlxport.mapping import Mapping
from mlxport.port import Port

CONFIG = {"model_type": "qwen2_vl", "vision_config": {}, "text_config": {"vocab_size": 199}, "image_token_id": 192}


def made(port: str) -> session.Session:
    """A session as far as it is asked who reads what."""
    mapping = Mapping(left={"visual.blocks.0": "no parameters", "model.layers.0.act": "no parameters"})
    mapping.dropped = ["visual.blocks.0.attn.qkv.weight", "model.layers.0.gate.weight", "model.extra.weight"]
    nothing: Any = None
    return session.Session(nothing, Port(port, nothing), mapping, nothing, CONFIG)


def checked(port: str) -> Any:
    """A check in which the text's modules were called, and none of the pictures'."""
    calls = [SimpleNamespace(path="model.layers.0.gate"), SimpleNamespace(path="model.layers.0.act")]
    return SimpleNamespace(made=made(port), sides=lambda: SimpleNamespace(run=SimpleNamespace(calls=calls)))


def test_what_only_pictures_go_through_is_asked_of_who_reads_them() -> None:
    unmapped, findings = parts.unmapped_of(checked("mlx-lm"))
    # The module around those that were called is asked for, too; a part beside the pictures' that nothing called is not.
    assert [one["name"] for one in unmapped] == ["model.layers.0.act", "model.layers.0.gate.weight"]
    assert [one["field"] for one in findings] == ["model.layers.0.gate.weight"]
    unmapped, findings = parts.unmapped_of(checked("mlx-vlm"))
    assert len(unmapped) == 5 and len(findings) == 3


def test_such_a_port_is_fed_text_that_marks_no_picture() -> None:
    asked: Any = SimpleNamespace(seed=0)
    fed = parts.fed_to(made("mlx-lm"), asked)
    assert list(fed) == ["input_ids"] and fed["input_ids"].shape == (1, parts.LENGTH)
    assert not np.isin(fed["input_ids"], (190, 191, 192, 193)).any()
    assert not made("mlx-lm").sees() and made("mlx-vlm").sees()
