"""A quantized conversion against PyTorch in bfloat16, on real text: how far its distributions are, and how often it agrees.

Tolerances say nothing here: a quantized model is meant to differ. So there is no verdict, but a finding with figures.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from mlxport import port as ports
from mlxport.check.parts import InputError
from mlxport.reference import Reference, call
from mlxport.session import Session

TEXT = """A port of a model is right when it computes what the first one computes. That sounds plain, and is hard to see: a text reads well
long before the numbers agree. A norm with another epsilon, a rotation with another base, a mask that is one token too long: each
moves every later layer a little, and none of them makes a sentence look wrong. In the year 1843 Ada Lovelace wrote notes on a machine
that was never built, and worked out by hand what it would print. She found a mistake in the paper that she translated. Today we let
the machine work it out twice, in two ways, and lay the results beside each other. Where they part, there is something to read.
The weather in Lisbon was mild that week. Ships came up the river in the morning, and by noon the market smelled of oranges and
bread. "How much for the small one?" asked the girl. "Two coins," said the man, "or one, if you carry it home yourself." """


def found(made: Session, model: str | None, directory: Path) -> dict[str, Any]:
    """The finding of a check; what cannot be measured is an InputError."""
    place = Path(model or made.directory)
    gguf = {"gguf_file": place.name} if place.is_file() else {}
    try:
        return finding(made.reference, place.parent if gguf else place, made.port.name, directory, gguf)
    except (ValueError, ports.PortError) as error:
        raise InputError(str(error)) from error


def finding(reference: Reference, place: Path, port: str, directory: Path, gguf: dict[str, str]) -> dict[str, Any]:
    """The figures of the conversion in `directory`, as a finding."""
    ids = tokens(place, gguf)
    wide = logits(reference.model, ids)
    narrow = logits(copy.deepcopy(reference.model).bfloat16(), ids)
    loaded = ports.load(port, directory)
    theirs = ports.array_of(ports.logits_of(loaded.model(mx.array(ids)))).reshape(wide.shape).astype(np.float64)
    divergence, agreed = compared(narrow, theirs)
    own, own_agreed = compared(wide, narrow)
    return {
        "kind": "quantized",
        "field": None,
        "kl": divergence,
        "top_1": agreed,
        "tokens": int(ids.shape[1]),
        "what": f"{directory.name}: KL {divergence:.4f} nats and top-1 {100 * agreed:.1f} % over {ids.shape[1]} tokens of text, against "
        f"PyTorch in bfloat16 (bfloat16 itself against float32: {own:.5f} and {100 * own_agreed:.1f} %)",
    }


def tokens(place: Path, gguf: dict[str, str]) -> np.ndarray:
    """The text as the model's own tokenizer cuts it; a ValueError where there is none."""
    import transformers

    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place, **gguf)
    except (OSError, ValueError) as error:
        raise ValueError(f"--quantized needs the model's tokenizer: {error}") from error
    return np.array([tokenizer(TEXT)["input_ids"]], np.int64)


def logits(model: torch.nn.Module, ids: np.ndarray) -> np.ndarray:
    """[tokens, vocabulary], float64."""
    return call(model, {"input_ids": torch.from_numpy(ids)}).double().numpy()[0]


def compared(right: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """The mean Kullback-Leibler divergence from `right` in nats, and the share of tokens whose likeliest successor is the same."""
    p, q = _log_softmax(right), _log_softmax(other.reshape(right.shape))
    divergence = float((np.exp(p) * (p - q)).sum(-1).mean())
    return divergence, float((p.argmax(-1) == q.argmax(-1)).mean())


def _log_softmax(values: np.ndarray) -> np.ndarray:
    moved = values - values.max(-1, keepdims=True)
    return moved - np.log(np.exp(moved).sum(-1, keepdims=True))
