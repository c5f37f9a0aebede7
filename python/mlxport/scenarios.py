"""Ways to feed a port one sequence. Each must give what PyTorch gives of the whole sequence at once."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxport.alone import Instead
from mlxport.heard import Call, Run
from mlxport.port import Listener, Port, array_of, caches, logits_of

STEPS = 32
ALL = ("prefill", "decode", "chunked", "batch", "long", "resume", "invariants")


class CannotRun(Exception):
    """The port cannot be run in this way, or was not; the reason. It is told, and is no failure."""


@dataclass
class Fed:
    """What one scenario left: the port's calls, and how many positions each pass had."""

    run: Run
    lengths: list[int]
    alone: Run | None = None
    failed: dict[str, str] | None = None


def prefill(port: Port, ids: np.ndarray, instead: Instead | None = None, extra: dict[str, Any] | None = None) -> Fed:
    """The whole sequence in one pass, without a cache. With `instead`, each module is also run by itself."""
    more = {name: mx.array(array) for name, array in (extra or {}).items()}
    with Listener(port, instead) as listener:
        logits = logits_of(port.model(mx.array(ids), **more))
        mx.eval(logits)
    _note(listener.run, logits)
    return Fed(listener.run, [ids.shape[1]], listener.alone, listener.failed)


def decode(port: Port, ids: np.ndarray) -> Fed:
    """A prompt, then one token at a time over the cache."""
    prompt = ids.shape[1] - STEPS
    return pieces(port, ids, [prompt] + [1] * STEPS)


def chunked(port: Port, ids: np.ndarray) -> Fed:
    """The prompt in pieces over the cache; the last piece is shorter."""
    size = max(2, ids.shape[1] // 4 + 1)
    lengths = [min(size, ids.shape[1] - at) for at in range(0, ids.shape[1], size)]
    return pieces(port, ids, lengths)


def resume(port: Port, ids: np.ndarray) -> Fed:
    """The cache is saved after the prompt and read again before the steps."""
    prompt = ids.shape[1] - STEPS
    return pieces(port, ids, [prompt] + [1] * STEPS, after_first=_saved_and_read)


def pieces(port: Port, ids: np.ndarray, lengths: list[int], after_first: Callable[[list], list] | None = None) -> Fed:
    """Pieces of these lengths, one after the other, over one cache."""
    cache, at = caches(port), 0
    with Listener(port) as listener:
        for nth, length in enumerate(lengths):
            logits = logits_of(port.model(mx.array(ids[:, at : at + length]), cache=cache))
            mx.eval(logits)
            _note(listener.run, logits)
            at += length
            if nth == 0 and after_first is not None:
                cache = after_first(cache)
    return Fed(listener.run, lengths)


def _saved_and_read(cache: list) -> list:
    from mlx_lm.models.cache import load_prompt_cache, save_prompt_cache

    foreign = [type(part) for part in cache if not type(part).__module__.startswith("mlx_lm.")]
    if foreign:
        raise CannotRun(f"nothing saves the port's caches ({foreign[0].__module__}.{foreign[0].__name__})")
    with tempfile.TemporaryDirectory() as place:
        file = str(Path(place) / "cache.safetensors")
        save_prompt_cache(file, cache)
        read: list[Any] = list(load_prompt_cache(file))
        mx.eval([part.state for part in read])
    return read


def batch(port: Port, rows: list[np.ndarray]) -> list[np.ndarray]:
    """Rows of unequal lengths, padded at the left, over the batched form of the port's own caches; the logits of each without
    its padding. A port whose cache has no batched form is CannotRun.
    """
    longest = max(row.shape[1] for row in rows)
    pads = [longest - row.shape[1] for row in rows]
    ids = np.concatenate([np.pad(row, ((0, 0), (pad, 0))) for row, pad in zip(rows, pads, strict=True)])
    cache = [_batched(part, pads) for part in caches(port)]
    logits = array_of(logits_of(port.model(mx.array(ids), cache=cache)))
    return [logits[nth : nth + 1, pad:] for nth, pad in enumerate(pads)]


def _batched(part: Any, pads: list[int]) -> Any:
    """The batched form of one of the port's caches: mlx-lm's and mlx-vlm's own have one beside them."""
    kind, kinds = type(part).__name__, sys.modules[type(part).__module__]
    if kind == "KVCache" and hasattr(kinds, "BatchKVCache"):
        return kinds.BatchKVCache(pads)
    if kind == "RotatingKVCache" and hasattr(kinds, "BatchRotatingKVCache"):
        if part.keep:
            raise CannotRun("a rotating cache that keeps its first tokens has no batched form")
        return kinds.BatchRotatingKVCache(part.max_size, pads)
    if kind == "ArraysCache":
        return type(part)(len(part.cache), left_padding=pads)
    if kind == "CacheList":
        return type(part)(*(_batched(inner, pads) for inner in part.caches))
    raise CannotRun(f"the port's cache ({kind}) has no batched form")


def _note(run: Run, logits: mx.array) -> None:
    run.add(Call("logits", run.number("logits"), [], [array_of(logits)]))
