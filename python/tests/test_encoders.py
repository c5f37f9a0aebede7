"""Encoders as tasks: small models of them, what they are fed, and that every position is judged."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mlxport import encoders, session, small, tasks


@pytest.mark.parametrize("kind", encoders.TASKS)
def test_pytorch_takes_what_it_is_fed(kind: str) -> None:
    task, config = encoders.TASKS[kind], tasks.config(kind, {})
    make = session.maker(config)
    small.require_small(kind, make)
    fed = task.inputs(session.whole(config), np.random.default_rng(1))
    with torch.no_grad():
        made = task.torch(make().eval(), {name: torch.from_numpy(array) for name, array in fed.items()})
    assert torch.isfinite(made).all()
    if "attention_mask" in fed:
        assert made.shape[:2] == fed["input_ids"].shape and fed["attention_mask"].min() == 0


def test_a_picture_is_not_of_the_size_of_the_table() -> None:
    config = session.whole(tasks.config("dinov2", {}))
    rows, columns = encoders.TASKS["dinov2"].inputs(config, np.random.default_rng(1))["pixel_values"].shape[2:]
    assert rows > config["image_size"] > columns
