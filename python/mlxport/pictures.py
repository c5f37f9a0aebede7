"""Pictures over a cache, as mlx-vlm's own generation feeds them: embeddings of the whole prompt once, then pieces of them."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np

from mlxport.port import Port, logits_of
from mlxport.scenarios import CannotRun, Feeder


def feeder(port: Port, ids: np.ndarray, given: dict[str, np.ndarray], prompt: int) -> Feeder:
    """Feeds a prompt of `prompt` tokens that holds all pictures, then tokens. A port that cannot is CannotRun."""
    model: Any = port.model
    if not hasattr(model, "get_input_embeddings") or not hasattr(model, "language_model"):
        raise CannotRun("the port has no get_input_embeddings: nothing feeds it pictures over a cache")
    _forget(model.language_model)
    more = {name: mx.array(array) for name, array in given.items()}
    pixels = more.pop("pixel_values", None)
    more.pop("mask", None)
    whole = mx.array(ids[:, :prompt])
    made = model.get_input_embeddings(whole, pixels, mask=mx.ones_like(whole), **more)
    embedded = made if isinstance(made, mx.array) else made.inputs_embeds
    if not isinstance(made, mx.array):
        more.update({n: v for n, v in made.to_dict().items() if n != "inputs_embeds" and v is not None})

    def give(at: int, length: int, cache: list) -> mx.array:
        part = mx.array(ids[:, at : at + length])
        if at >= prompt:
            return logits_of(model.language_model(part, cache=cache))
        pieces = {"n_to_process": length} if at + length < prompt else {}
        if pieces and not read_in_pieces(model, more):
            raise CannotRun("the port's own generation reads a prompt with pictures at once")
        embeds = embedded[:, at : at + length]
        return logits_of(model.language_model(part, inputs_embeds=embeds, cache=cache, **pieces, **more))

    return give


def read_in_pieces(model: Any, given: dict[str, Any]) -> bool:
    """Whether the port's own generation cuts this prompt into pieces: it asks the model, then the text's part."""
    parts = (model, model.language_model)
    policy = next((one for part in parts if callable(one := getattr(part, "chunked_prefill_policy", None))), None)
    if policy is not None:
        nothing = dict.fromkeys(("input_ids", "inputs_embeds", "prompt_cache", "draft_model", "draft_kind"))
        answer = policy(**nothing, prefill_kwargs=given)
        return bool(getattr(answer, "enabled", answer))
    return not any(getattr(part, "no_chunked_prefill", False) for part in parts)


def _forget(language: Any) -> None:
    """What a sequence before this one left: generation forgets it, too."""
    for name in ("_position_ids", "_rope_deltas", "_precomputed_position_ids"):
        if hasattr(language, name):
            setattr(language, name, None)
