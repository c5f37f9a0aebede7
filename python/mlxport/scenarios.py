"""Ways to feed a port one sequence. Each must give what PyTorch gives of the whole sequence at once."""

from __future__ import annotations

import inspect
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from mlxport import compiler, rowwise
from mlxport.alone import Instead
from mlxport.heard import Call, Fed, Run
from mlxport.port import Listener, Port, array_of, caches, logits_of, takes

STEPS = 32


class CannotRun(Exception):
    """The port cannot be run in this way, or was not; the reason. It is told, and is no failure."""


class Broke(Exception):
    """The port raised an error while it ran: what it said, and in which module."""


def prefill(port: Port, ids: np.ndarray, instead: Instead | None = None, extra: dict[str, Any] | None = None) -> Fed:
    """The whole sequence in one pass, without a cache. With `instead`, each module is also run by itself."""
    more: dict[str, Any] = {name: mx.array(array) for name, array in (extra or {}).items()}
    # Nothing is padding: a port that must be told a mask is told none.
    more.update({name: None for name in required(port.model, ("mask",)) if name not in more})
    return once(port, lambda: logits_of(port.model(mx.array(ids), **more)), ids.shape[1], instead)


def required(model: Any, names: tuple[str, ...]) -> list[str]:
    """Which of these arguments a port's call must be given, whatever is in them."""
    known = inspect.signature(type(model).__call__).parameters
    return [name for name in names if name in known and known[name].default is inspect.Parameter.empty]


def once(
    port: Port, call: Callable[[], mx.array], length: int, instead: Instead | None = None, *, deaf: bool = False
) -> Fed:
    """One call of the port, whatever it is given. `deaf`: only the logits are kept."""
    with Listener(port, instead, deaf=deaf) as listener:
        logits = _ran(listener, call)
    _note(listener.run, logits)
    return Fed(listener.run, [length], listener.alone, listener.failed)


def _ran(listener: Listener, call: Callable[[], mx.array]) -> mx.array:
    """What a call of the port gives, computed. An error of the port's is Broke; one of how it is called here is not."""
    listener.broke_in = None
    try:
        made = call()
        mx.eval(made)
    except Exception as error:
        compiler.require(error)
        called_wrongly = error.__traceback__ is not None and _last_frame(error).startswith("mlxport.")
        if called_wrongly and listener.broke_in is None:
            raise
        where = f"{listener.broke_in} raised " if listener.broke_in else ""
        raise Broke(f"{where}{type(error).__name__}: {error}") from error
    return made


def _last_frame(error: BaseException) -> str:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_globals.get("__name__", "") if trace is not None else ""


# Given where a piece starts, its length and the cache: the logits of that piece.
Feeder = Callable[[int, int, list], mx.array]


def tokens(port: Port, ids: np.ndarray) -> Feeder:
    """Feeds a sequence of tokens piece by piece."""
    return lambda at, length, cache: logits_of(port.model(mx.array(ids[:, at : at + length]), cache=cache))


def pieces(
    port: Port,
    lengths: list[int],
    feed: Callable[[], Feeder],
    cache: list | None = None,
    after_first: Callable[[list], list] | None = None,
    deaf: bool = False,
) -> Fed:
    """Pieces of these lengths, one after the other, over one cache. `feed` is made while the port is listened to."""
    if not takes(port.model, "cache"):
        raise CannotRun(f"{type(port.model).__name__}.__call__ takes no argument named cache")
    cache, at = cache if cache is not None else caches(port), 0
    with Listener(port, deaf=deaf) as listener:
        give = feed()
        for nth, length in enumerate(lengths):
            start, held = at, cache
            logits = _ran(listener, lambda start=start, length=length, held=held: give(start, length, held))
            _note(listener.run, logits)
            at += length
            if nth == 0 and after_first is not None:
                cache = after_first(cache)
    return Fed(listener.run, lengths)


def steps(length: int, most: int = STEPS) -> list[int]:
    """A prompt, then one token at a time."""
    count = min(most, length - 1)
    return [length - count] + [1] * count


def chunks(length: int) -> list[int]:
    """Pieces of a prompt; the last one is shorter."""
    size = max(2, length // 4 + 1)
    return [min(size, length - at) for at in range(0, length, size)]


def turns(length: int) -> list[int]:
    """A conversation: a prompt and steps, again and again, over one cache."""
    found: list[int] = []
    while (left := length - sum(found)) > 1:
        prompt = min(left, length // 4 - 2)
        found += [prompt] + [1] * min(left - prompt, length // 12)
    return found + [1] * (length - sum(found))


def plain_caches(port: Port) -> list[Any]:
    """The port's caches with those that rotate exchanged for ones that keep everything: servers and drafts use such."""
    own = caches(port)
    if not any(type(part).__name__ == "RotatingKVCache" for part in own):
        raise CannotRun("the port's own caches keep everything already")
    return [
        sys.modules[type(part).__module__].KVCache() if type(part).__name__ == "RotatingKVCache" else part
        for part in own
    ]


def saved_and_read(cache: list) -> list:
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


def batch(port: Port, rows: list[np.ndarray], *, deaf: bool = False) -> list[Fed]:
    """Rows of unequal lengths, padded at the left, over the batched form of the port's own caches; each row's part of what the
    port's modules computed. A port whose cache has no batched form is CannotRun.
    """
    longest = max(row.shape[1] for row in rows)
    pads = [longest - row.shape[1] for row in rows]
    ids = np.concatenate([np.pad(row, ((0, 0), (pad, 0))) for row, pad in zip(rows, pads, strict=True)])
    cache = [_batched(part, pads) for part in caches(port)]
    fed = pieces(port, [longest], lambda: tokens(port, ids), cache, deaf=deaf)
    return [
        rowwise.of(fed, nth, [slice(pad, longest)], [row.shape[1]], len(rows))
        for nth, (pad, row) in enumerate(zip(pads, rows, strict=True))
    ]


def padded(port: Port, rows: list[np.ndarray], count: int, *, deaf: bool = False) -> list[Fed]:
    """Prompts of unequal lengths, padded at the right as mlx-lm's batched generation pads them, then `count` steps; each row's part."""
    prompts = [row.shape[1] - count for row in rows]
    longest = max(prompts)
    cache = [_batched(part, [0] * len(rows)) for part in caches(port)]
    for part in cache:
        if not (hasattr(part, "prepare") and hasattr(part, "finalize")):
            raise CannotRun(f"the port's cache ({type(part).__name__}) takes no padding at the right")
        part.prepare(lengths=prompts, right_padding=[longest - n for n in prompts])
    first = np.concatenate(
        [np.pad(row[:, :n], ((0, 0), (0, longest - n))) for row, n in zip(rows, prompts, strict=True)]
    )
    rest = np.concatenate([row[:, n:] for row, n in zip(rows, prompts, strict=True)])
    ids = np.concatenate([first, rest], axis=1)
    fed = pieces(port, [longest] + [1] * count, lambda: tokens(port, ids), cache, after_first=_finalized, deaf=deaf)
    return [
        rowwise.of(fed, nth, [slice(0, n)] + [slice(0, 1)] * count, [n] + [1] * count, len(rows))
        for nth, n in enumerate(prompts)
    ]


def _finalized(cache: list) -> list:
    for part in cache:
        part.finalize()
    return cache


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
