"""The scenarios of pictures: what both sides are fed, and what is not run, with the reason."""

from __future__ import annotations

import numpy as np
import pytest

from mlxport import looks, vision
from mlxport.battery import LOOKS
from mlxport.scenarios import CannotRun


@pytest.mark.parametrize("kind", vision.TYPES)
@pytest.mark.parametrize("name", LOOKS)
def test_tokens_and_patches_fit_each_other(kind: str, name: str) -> None:
    config = vision.config(kind).to_dict()
    try:
        fed = looks.fed(name, config, 0)
    except CannotRun as reason:
        assert "picture" in str(reason)
        return
    usual = vision.inputs(config, 0)
    image = config.get("image_token_id") or config.get("image_token_index") or vision.IMAGE
    count = lambda held: int((held["input_ids"] == image).sum())  # noqa: E731
    # Patches that are no padding.
    size = lambda held: int(held.get("pixel_attention_mask", np.ones(held["pixel_values"].size)).sum())  # noqa: E731
    assert set(fed) == set(usual) and size(fed) / count(fed) == size(usual) / count(usual)
    assert fed["pixel_values"].shape != usual["pixel_values"].shape or name == "two-images"


def test_two_pictures_stand_side_by_side() -> None:
    config = vision.config("qwen2_vl").to_dict()
    ids = looks.fed("two-images", config, 0)["input_ids"][0]
    ends = np.flatnonzero(ids == vision.END)
    assert len(ends) == 2 and ids[ends[0] + 1] == vision.START


def test_a_model_without_pictures_is_told() -> None:
    with pytest.raises(CannotRun, match="no pictures"):
        looks.fed("tiles", {"model_type": "llama"}, 0)
