"""Usual causes, as computations: what a port would have made with another setting, to be held against what it did make."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from mlxport.align import Pair
from mlxport.heard import Call, relative_rms

EXPLAINED = 2e-5
# What a norm in float32 is off by on values that bfloat16 holds, several times over.
NOISE = 2e-6
_BASES = (1e4, 1e5, 5e5, 1e6, 5e6, 1e7, 1.5e5, 2.5e5)
_EPSILONS = (1e-5, 1e-6, 1e-8, 1e-12, 1e-3)


def config_value(config: dict[str, Any], name: str) -> Any:
    """A field at the top or in the text's part."""
    return config.get(name, (config.get("text_config") or {}).get(name))


def rotations(call: Call, config: dict[str, Any], tables: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """The same operand turned with other settings, each with what that would mean."""
    own = settings(call)
    dims, base = own["dims"], own["base"]
    wanted = config_value(config, "rope_theta")
    local = config_value(config, "rope_local_base_freq")
    if own["freqs"] is None:
        for other in dict.fromkeys(float(b) for b in (wanted, local, *_BASES) if b):
            if base is None or other != float(base):
                yield (
                    f"rope_theta: the port turns with base {base:g}, PyTorch with {other:g}"
                    if base
                    else f"rope_theta is {other:g}",
                    turned(call, {**own, "base": other}),
                )
    width = call.given[0].shape[-1]
    for fraction in (0.25, 0.4, 0.5, 0.75, 1.0):
        other_dims = int(width * fraction)
        if other_dims != dims and other_dims % 2 == 0 and own["freqs"] is None:
            for pairs in (own["traditional"], not own["traditional"]):
                said = "" if pairs == own["traditional"] else ", pairs interleaved" if pairs else ", pairs by halves"
                yield (
                    f"partial_rotary_factor: the port turns {dims} of a head's {width} dimensions, PyTorch {other_dims}{said}",
                    turned(call, {**own, "dims": other_dims, "traditional": pairs}),
                )
    yield (
        "rope pairing: the port turns "
        + (
            "neighbouring dimensions, PyTorch the two halves"
            if own["traditional"]
            else "the two halves, PyTorch neighbouring dimensions"
        ),
        turned(call, {**own, "traditional": not own["traditional"]}),
    )
    for step in (1, -1):
        yield f"positions are off by one: PyTorch's are {step:+d}", turned(call, {**own, "offset": step})
    if own["scale"] != 1.0:
        yield f"rope scale: the port divides positions by {1 / own['scale']:g}", turned(call, {**own, "scale": 1.0})
    for table in tables:
        frequencies = {**own, "dims": 2 * len(table), "base": None, "scale": 1.0, "freqs": 1.0 / table}
        if (
            own["freqs"] is None
            or len(own["freqs"]) != len(table)
            or relative_rms(own["freqs"], 1.0 / table) > EXPLAINED
        ):
            kind = (config_value(config, "rope_scaling") or {}).get("rope_type", "default")
            yield (
                f"rope frequencies (rope_theta, or rope_scaling of type {kind}) are not PyTorch's",
                turned(call, frequencies),
            )


def settings(call: Call) -> dict[str, Any]:
    """How a recorded rotation turned, but for its offset."""
    meta = call.meta
    return {
        "dims": int(meta.get("dims", call.given[0].shape[-1])),
        "traditional": bool(meta.get("traditional", False)),
        "base": meta.get("base"),
        "scale": float(meta.get("scale", 1.0)),
        "offset": 0,
        "freqs": meta.get("freqs"),
    }


def turned(call: Call, s: dict[str, Any]) -> np.ndarray:
    """What a recorded rotation was given, turned with these settings."""
    freqs = None if s["freqs"] is None else mx.array(np.asarray(s["freqs"], np.float32))
    x = mx.array(call.given[0].astype(np.float32))
    if s["offset"] < 0:
        # MLX takes no negative offset: a turn back by one is a turn of the reversed frequencies.
        return np.full(call.given[0].shape, np.inf)
    return np.array(
        mx.fast.rope(
            x,
            s["dims"],
            traditional=s["traditional"],
            base=None if freqs is not None else s["base"],
            scale=s["scale"],
            offset=s["offset"],
            freqs=freqs,
        )
    )


def attentions(given: list[np.ndarray], meta: dict[str, Any], pair: Pair) -> Iterator[tuple[str, float, float]]:
    """Attention of PyTorch's operands with another mask, scale or softcap: its words, how far PyTorch's own settings are from
    PyTorch's result, and how far the other ones are from the port's."""
    q, k, v = given[:3]
    k, v = (np.repeat(part, q.shape[1] // part.shape[1], 1) for part in (k, v))
    window = meta.get("sliding_window") or config_value(meta["config"], "sliding_window")
    own = {
        "scale": float(meta.get("scaling") or 1 / math.sqrt(q.shape[-1])),
        "cap": meta.get("softcap"),
        "window": None,
        "shift": 0,
    }
    if given[3:]:
        seen = given[3] > -1e30
        own["mask"] = seen[..., : k.shape[2]]
    right = relative_rms(_laid(_attention(q, k, v, own), pair), pair.truth)
    others: list[tuple[str, dict[str, Any]]] = []
    if window:
        others.append((f"sliding_window of {window} is ignored: the port attends to everything before", {"mask": None}))
        for step in (1, -1):
            others.append(
                (
                    f"sliding_window: the port's window is {step:+d} of PyTorch's {window}",
                    {"mask": None, "window": window + step},
                )
            )
        others.append(
            (
                f"sliding_window: the port has a window of {window} where PyTorch has none",
                {"mask": None, "window": window},
            )
        )
    others.append(("the mask is off by one: the port attends to the next token", {"mask": None, "shift": 1}))
    others.append(("the mask is off by one: the port does not attend to the token itself", {"mask": None, "shift": -1}))
    others.append(("no causal mask: the port attends to what comes after", {"mask": None, "shift": q.shape[2]}))
    if own["cap"]:
        others.append((f"the softcap of {own['cap']:g} on attention scores is lost", {"cap": None}))
    for name, scale in _scales(q, meta["config"]):
        others.append(
            (f"attention scale: the port takes {scale:.6g} ({name}), PyTorch {own['scale']:.6g}", {"scale": scale})
        )
    for what, change in others:
        yield what, right, relative_rms(_laid(_attention(q, k, v, {**own, **change}), pair), pair.theirs)


def _scales(q: np.ndarray, config: dict[str, Any]) -> list[tuple[str, float]]:
    hidden, heads = config_value(config, "hidden_size"), config_value(config, "num_attention_heads")
    found = [("one over the root of the head's width", 1 / math.sqrt(q.shape[-1])), ("no scale", 1.0)]
    found.append(("twice the usual", 2 / math.sqrt(q.shape[-1])))
    if hidden and heads:
        found.append(("one over the root of hidden_size / heads", 1 / math.sqrt(hidden / heads)))
        found.append(("one over the root of hidden_size", 1 / math.sqrt(hidden)))
    return found


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, s: dict[str, Any]) -> np.ndarray:
    scores = (q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2)) * s["scale"]
    if s["cap"]:
        scores = np.tanh(scores / s["cap"]) * s["cap"]
    rows, columns = np.arange(q.shape[2])[:, None] + k.shape[2] - q.shape[2], np.arange(k.shape[2])[None]
    mask = s.get("mask")
    if mask is None:
        mask = columns <= rows + s["shift"]
        if s["window"]:
            mask = mask & (columns > rows - s["window"])
    scores = np.where(mask, scores, -np.inf)
    with np.errstate(invalid="ignore"):
        raised = np.exp(scores - scores.max(-1, keepdims=True))
        return np.nan_to_num(raised / raised.sum(-1, keepdims=True)) @ v.astype(np.float64)


def _laid(out: np.ndarray, pair: Pair) -> np.ndarray:
    return (
        out.swapaxes(1, 2).reshape(pair.truth.shape)
        if out.size == pair.truth.size
        else np.full(pair.truth.shape, np.inf)
    )


ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "silu": torch.nn.functional.silu,
    "gelu (exact)": torch.nn.functional.gelu,
    "gelu's tanh form": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "relu": torch.relu,
    "relu squared": lambda x: torch.relu(x).square(),
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "no activation": lambda x: x,
}


def activation(pair: Pair, sisters: list[Pair]) -> tuple[str, float] | None:
    """Which activation each side took, where both are known ones of the same operands, and not the same."""
    made: dict[str, dict[str, float]] = {"theirs": {}, "ours": {}}
    for gate, up in _operands(pair, sisters):
        for name, function in ACTIVATIONS.items():
            out = function(torch.from_numpy(gate)).numpy() * (1.0 if up is None else up)
            for side, target in (("theirs", pair.theirs), ("ours", pair.truth)):
                left = relative_rms(out, target)
                if left < EXPLAINED:
                    made[side][name] = left
    if made["theirs"] and made["ours"] and set(made["theirs"]) != set(made["ours"]):
        port, right = (
            min(made["theirs"], key=made["theirs"].__getitem__),
            min(made["ours"], key=made["ours"].__getitem__),
        )
        return f"activation: the port computes {port}, PyTorch {right}", made["theirs"][port]
    return None


def _operands(pair: Pair, sisters: list[Pair]) -> Iterator[tuple[np.ndarray, np.ndarray | None]]:
    shape = pair.truth.shape
    for sister in sisters:
        wide = sister.truth.astype(np.float64)
        if wide.shape == shape:
            yield wide, None
            for other in sisters:
                if other is not sister and other.truth.shape == shape:
                    yield wide, other.truth.astype(np.float64)
        elif wide.shape[:-1] == shape[:-1] and wide.shape[-1] == 2 * shape[-1]:
            first, second = np.split(wide, 2, -1)
            yield first, second
            yield second, first


def norm(module: torch.nn.Module, x: np.ndarray, pair: Pair) -> tuple[str, float] | None:
    """Epsilon, weight + 1, a mean that is or is not taken off."""
    weight, bias = (getattr(module, name, None) for name in ("weight", "bias"))
    w = np.ones(x.shape[-1]) if weight is None else weight.detach().double().numpy()
    b = 0.0 if bias is None else bias.detach().double().numpy()
    if w.shape != x.shape[-1:]:
        # A norm over other axes (of groups of channels, say) is computed otherwise.
        return None
    own = next((float(getattr(module, n)) for n in ("variance_epsilon", "eps", "epsilon") if hasattr(module, n)), 1e-6)
    rooted = "rms" in type(module).__name__.lower()
    settings = [
        (eps, plus, rms, lost)
        for eps in dict.fromkeys((own, *_EPSILONS))
        for plus in (0.0, 1.0, -1.0)
        for rms in (rooted, not rooted)
        for lost in (False, True)
    ]
    off = {s: [relative_rms(_normed(x, w, b, s), side) for side in (pair.theirs, pair.truth)] for s in settings}
    # Settings that come to the same (a bias that is not there, lost; an epsilon that rounding hides) tie: those two that differ least are told.
    alike = [s for s in settings if off[s][0] <= max(NOISE, min(o[0] for o in off.values()))]
    tied = [s for s in settings if off[s][1] <= 1.01 * min(o[1] for o in off.values())]
    differing = lambda s, t: sum(a != b for a, b in zip(s, t, strict=True))  # noqa: E731
    both = [(s, t) for s in alike for t in tied if s != t]
    if not both:
        return None
    port, right = min(both, key=lambda two: (differing(*two), off[two[0]][0]))
    told_apart = off[right][0] > 2.5 * off[port][0] and off[port][1] > 2.5 * off[right][1]
    if off[port][0] < EXPLAINED and off[right][1] < EXPLAINED and told_apart:
        return _norm_words(port, right), off[port][0]
    return None


def _normed(x: np.ndarray, w: np.ndarray, b: Any, setting: tuple[float, float, bool, bool]) -> np.ndarray:
    eps, plus, rms, lost = setting
    wide = x.astype(np.float64)
    centred = wide if rms else wide - wide.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps) * (w + plus) + (0.0 if lost else b)


def _norm_words(port: tuple, right: tuple) -> str:
    if port[0] != right[0]:
        return f"epsilon: the port takes {port[0]:g}, PyTorch {right[0]:g}"
    if port[1] != right[1]:
        return f"norm weight: the port takes weight {port[1]:+g}, PyTorch weight {right[1]:+g}"
    if port[2] != right[2]:
        return "norm: " + (
            "the port does not take off the mean" if port[2] else "the port takes off the mean, PyTorch does not"
        )
    return "lost bias: the port does not add the norm's bias"


def linear(module: torch.nn.Linear, x: np.ndarray, pair: Pair) -> tuple[str, float] | None:
    """A lost bias, a transposed square weight, rows in another order."""
    w = module.weight.detach().double().numpy()
    b = 0.0 if module.bias is None else module.bias.detach().double().numpy()
    tries: list[tuple[str, np.ndarray]] = []
    wide = x.astype(np.float64)
    if module.bias is not None:
        tries.append(("lost bias: the port adds none", wide @ w.T))
    if w.shape[0] == w.shape[1]:
        tries.append(("the weight is transposed", wide @ w + b))
    tries.append(("the weight's halves are exchanged", np.roll(wide @ w.T + b, w.shape[0] // 2, -1)))
    for what, out in tries:
        left = relative_rms(out.reshape(pair.theirs.shape), pair.theirs)
        if left < EXPLAINED:
            return what, left
    return None


def router(pair: Pair) -> tuple[str, float] | None:
    """Weights that are or are not made to sum to one, or are scaled."""
    ours, theirs = pair.truth.astype(np.float64), pair.theirs.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        renormalized = theirs / theirs.sum(-1, keepdims=True) * ours.sum(-1, keepdims=True)
    left = relative_rms(np.nan_to_num(renormalized), ours)
    if left < EXPLAINED:
        low, high = float(theirs.sum(-1).min()), float(theirs.sum(-1).max())
        return (
            f"router: the chosen weights sum to {low:.4g} to {high:.4g} in the port, to {ours.sum(-1).min():.4g} to "
            f"{ours.sum(-1).max():.4g} in PyTorch (renormalization, or a scale)"
        ), left
    if ((ours != 0) != (theirs != 0)).any():
        rows = int(((ours != 0) != (theirs != 0)).any(-1).sum())
        return f"router: other experts are chosen for {rows} tokens (scores, groups or bias)", 1.0
    return None
