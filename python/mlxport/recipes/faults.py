"""Faults planted in a right conversion, each with the kind and the keys that `mlxport audit` must name.

A fault is a function of the right directory that changes it in place and says which keys it touched; None where the model has
nothing of the sort. Bytes are moved or edited; nothing is computed with a framework.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from mlxport.recipes.tensors import Directory, Tensor, elements

Plant = Callable[[Directory], "list[str] | None"]


@dataclass(frozen=True)
class Fault:
    """One fault: its name, the kinds that an audit may call it, how it is planted, and into which conversion.

    `minor`: it is listed and passes; with `--strict` it fails.
    """

    name: str
    kinds: tuple[str, ...]
    plant: Plant
    form: str = "bf16"
    minor: bool = False


def _keys(made: Directory, pattern: str) -> list[str]:
    """Keys of this form; layers in the order of their numbers."""
    found = [key for key in made.tensors if re.search(pattern, key)]
    return sorted(found, key=lambda key: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", key)])


def _bf16(made: Directory, pattern: str) -> list[tuple[str, Tensor]]:
    """The bfloat16 tensors among them."""
    return [(key, made.tensors[key]) for key in _keys(made, pattern) if made.tensors[key].dtype == "BF16"]


def stem(key: str) -> str:
    """A key without the part of a packed module it is, and a config field without its place."""
    return re.sub(r"\.(weight|scales|biases)$", "", key)


def _exchange(made: Directory, one: str, other: str) -> list[str] | None:
    a, b = made.tensors.get(one), made.tensors.get(other)
    if a is None or b is None or a.shape != b.shape or a.data == b.data:
        return None
    a.data, b.data = b.data, a.data
    return [one, other]


def _swapped(first: str, second: str) -> Plant:
    """Exchanges two modules of one layer, where their shapes agree."""

    def plant(made: Directory) -> list[str] | None:
        for key in _keys(made, rf"{first}\.weight$"):
            done = _exchange(made, key, key.replace(first, second))
            if done:
                return done
        return None

    return plant


def _layers(made: Directory) -> list[str] | None:
    """Exchanges a matrix of two layers."""
    for pattern in (r"down_proj\.weight$", r"(c_proj|dense_4h_to_h|fc2|fc_out|w2|output_linear|out_proj)\.weight$"):
        keys = _keys(made, pattern)
        if len(keys) > 1:
            return _exchange(made, keys[0], keys[-1])
    return None


def _bank(made: Directory) -> str | None:
    return next(iter(_keys(made, r"(switch_mlp|\.experts)\.up_proj\.weight$")), None)


def _array(tensor: Tensor) -> np.ndarray:
    """The bits of a bfloat16 or float32 tensor, in its shape; a copy."""
    kind = {"BF16": np.uint16, "F16": np.uint16, "F32": np.uint32, "U32": np.uint32}[tensor.dtype]
    return np.frombuffer(tensor.data, kind).reshape(tensor.shape).copy()


def _put(tensor: Tensor, array: np.ndarray) -> None:
    tensor.data = np.ascontiguousarray(array).tobytes()
    tensor.shape = list(array.shape)


def _experts(order: Callable[[int], list[int]]) -> Plant:
    """Experts in another order within one bank."""

    def plant(made: Directory) -> list[str] | None:
        key = _bank(made)
        if key is None:
            return None
        bits = _array(made.tensors[key])
        new = order(bits.shape[0])
        if new == sorted(new):
            return None
        _put(made.tensors[key], bits[new])
        return [key]

    return plant


def _two_exchanged(count: int) -> list[int]:
    return [1, 0, *range(2, count)]


def _as_text(count: int) -> list[int]:
    return sorted(range(count), key=str)


def _values(tensor: Tensor) -> np.ndarray:
    """The numbers of a bfloat16 tensor, as float32."""
    return (_array(tensor).astype(np.uint32) << 16).view(np.float32)


def _rounded(values: np.ndarray) -> np.ndarray:
    """bfloat16's bits of float32 numbers, to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _computed(pattern: str, change: Callable[[np.ndarray], np.ndarray], which: int = 0) -> Plant:
    """Other numbers in one tensor of this form."""

    def plant(made: Directory) -> list[str] | None:
        keys = [key for key, _ in _bf16(made, pattern)]
        if not keys:
            return None
        tensor = made.tensors[keys[which]]
        _put(tensor, _rounded(change(_values(tensor))))
        return [keys[which]]

    return plant


def _transposed(made: Directory) -> list[str] | None:
    """A square matrix the wrong way round: no shape shows it."""
    for key in _keys(made, r"\.weight$"):
        tensor = made.tensors[key]
        if len(tensor.shape) == 2 and tensor.shape[0] == tensor.shape[1] and tensor.dtype == "BF16":
            _put(tensor, _array(tensor).T)
            return [key]
    return None


def _lost(made: Directory) -> list[str] | None:
    """A bias or a norm that is not there."""
    for pattern in (r"_proj\.bias$", r"q_norm\.weight$", r"norm\.weight$", r"ln_\d\.bias$"):
        keys = _keys(made, pattern)
        if keys:
            del made.tensors[keys[-1]]
            return [keys[-1]]
    return None


def _duplicated(made: Directory) -> list[str] | None:
    """One layer's matrix in another layer's place as well."""
    keys = _keys(made, r"(down_proj|c_proj|dense_4h_to_h|fc2|w2)\.weight$")
    keys = [key for key in keys if made.tensors[key].shape == made.tensors[keys[0]].shape]
    if len(keys) < 2:
        return None
    made.tensors[keys[1]].data = made.tensors[keys[0]].data
    return [keys[1]]


def _rolled_layers(made: Directory) -> list[str] | None:
    """Every layer's norm is the one of the layer before."""
    keys = _keys(made, r"layers\.\d+\.(input_layernorm|post_attention_layernorm|operator_norm)\.weight$")
    names = sorted({key.split(".", 3)[-1] for key in keys})
    keys = [key for key in keys if key.endswith(names[0])] if names else []
    if len(keys) < 2:
        return None
    data = [made.tensors[key].data for key in keys]
    for at, key in enumerate(keys):
        made.tensors[key].data = data[at - 1]
    return keys


def _heads_apart(made: Directory) -> list[str] | None:
    """Query rows of a head in pairs instead of halves."""
    width = made.config.get("head_dim") or 0
    for key in _keys(made, r"q_proj\.weight$"):
        tensor = made.tensors[key]
        heads = made.config.get("num_attention_heads") or 0
        width = width or (tensor.shape[0] // heads if heads else 0)
        if tensor.dtype != "BF16" or not width or tensor.shape[0] % width:
            continue
        bits = _array(tensor).reshape(-1, 2, width // 2, tensor.shape[1])
        _put(tensor, bits.transpose(0, 2, 1, 3).reshape(tensor.shape))
        return [key]
    return None


def _zeroed(made: Directory) -> list[str] | None:
    """The last rows of a matrix are zeros, as a short read leaves them."""
    for key, tensor in _bf16(made, r"(up_proj|c_fc|fc1|dense_h_to_4h|gate_up_proj)\.weight$"):
        keep = len(tensor.data) // 4 * 3
        tensor.data = tensor.data[:keep] + bytes(len(tensor.data) - keep)
        return [key]
    return None


def _flipped_bit(made: Directory) -> list[str] | None:
    """One exponent bit of one value."""
    for key, tensor in _bf16(made, r"embed_tokens\.weight$|wte\.weight$|embed_in\.weight$|embeddings\.weight$"):
        bits = _array(tensor)
        bits.reshape(-1)[elements(tensor) // 2] ^= 1 << 10
        _put(tensor, bits)
        return [key]
    return None


def _scales(made: Directory) -> list[str] | None:
    """Two modules' scales exchanged."""
    for key in _keys(made, r"(k_proj|up_proj|c_fc)\.scales$"):
        for first, second in (("k_proj", "v_proj"), ("up_proj", "gate_proj")):
            done = _exchange(made, key, key.replace(first, second)) if first in key else None
            if done:
                return done
    return None


def _scaled_scales(made: Directory) -> list[str] | None:
    """The scales of one module twice as large."""
    for key, tensor in _bf16(made, r"\.scales$"):
        _put(tensor, _rounded(_values(tensor) * 2))
        return [key]
    return None


def _codes(made: Directory) -> list[str] | None:
    """Packed words of one module with their nibbles the other way round."""
    for key in _keys(made, r"\.scales$"):
        weight = made.tensors.get(key.replace(".scales", ".weight"))
        if weight is not None and weight.dtype == "U32":
            words = _array(weight)
            swapped = np.zeros_like(words)
            for at in range(8):
                swapped |= ((words >> (4 * at)) & 15) << (4 * (7 - at))
            _put(weight, swapped)
            return [key.replace(".scales", ".weight")]
    return None


def _config(name: str, change: Callable[[Any], Any]) -> Plant:
    """Another value of a field, or none."""

    def plant(made: Directory) -> list[str] | None:
        place = made.config
        if place.get(name) is None and isinstance(place.get("text_config"), dict):
            place = place["text_config"]
        if place.get(name) is None or isinstance(place[name], (dict, list)):
            return None
        place[name] = change(place[name])
        rope = place.get("rope_parameters")
        if isinstance(rope, dict) and name in rope:
            rope[name] = place[name]
        return [name]

    return plant


def _stale(made: Directory) -> list[str] | None:
    """The tensors of the last layer are another release's."""
    layers = _keys(made, r"\.(layers|h)\.\d+\.")
    if not layers:
        return None
    last = re.search(r"\.(layers|h)\.\d+\.", layers[-1])
    assert last is not None
    return _from(made, [key for key in layers if last.group() in key])


def _other(made: Directory) -> list[str] | None:
    """Every tensor is another release's."""
    return _from(made, list(made.tensors))


def _from(made: Directory, keys: list[str]) -> list[str] | None:
    if not made.other:
        return None
    for key in keys:
        made.tensors[key] = made.other[key]
    return [key for key in keys if len(made.tensors[key].shape) > 1]


def _truncated(made: Directory) -> list[str] | None:
    """Cast without rounding; the right values are those of the float32 conversion."""
    found = []
    for key, exact in made.exact.items():
        tensor = made.tensors.get(key)
        if tensor is not None and tensor.dtype == "BF16" and exact.dtype == "F32":
            cut = (_array(exact) >> 16).astype(np.uint16)
            if cut.tobytes() != tensor.data:
                _put(tensor, cut)
                found.append(key)
    return found or None


def _requantized(made: Directory) -> list[str] | None:
    """Packed codes one step too high in a whole module, as packing with another rounding leaves them."""
    for key in _keys(made, r"(down_proj|c_proj|fc2|dense_4h_to_h)\.scales$"):
        weight = made.tensors.get(key.replace(".scales", ".weight"))
        if weight is not None and weight.dtype == "U32":
            words = _array(weight)
            out = np.zeros_like(words)
            for at in range(8):
                code = np.minimum(((words >> (4 * at)) & 15) + 1, 15)
                out = out | (code << (4 * at))
            _put(weight, out)
            return [key.replace(".scales", ".weight")]
    return None


_NORMS = r"(input_layernorm|post_attention_layernorm|operator_norm|norm|ln_1|norm_f)\.weight$"
_MATRIX = r"(o_proj|c_proj|dense|out_proj)\.weight$"

FAULTS: tuple[Fault, ...] = (
    Fault("query and key exchanged", ("swapped",), _swapped("q_proj", "k_proj")),
    Fault("key and value exchanged", ("swapped",), _swapped("k_proj", "v_proj")),
    Fault("gate and up exchanged", ("swapped",), _swapped("gate_proj", "up_proj")),
    Fault("two layers exchanged", ("swapped",), _layers),
    Fault("two experts exchanged", ("swapped", "blocks-permuted"), _experts(_two_exchanged)),
    Fault("experts stacked as text", ("expert-order",), _experts(_as_text)),
    Fault("norm + 1", ("shifted",), _computed(_NORMS, lambda values: values + 1)),
    Fault("norm - 1", ("shifted",), _computed(_NORMS, lambda values: values - 1, -1)),
    Fault("scaled by 2", ("scaled",), _computed(_MATRIX, lambda values: values * 2)),
    Fault("a square transposed", ("transposed",), _transposed),
    Fault("a tensor lost", ("missing",), _lost),
    Fault("a tensor there twice", ("duplicated",), _duplicated),
    Fault("layers shifted by one", ("misplaced", "swapped"), _rolled_layers),
    Fault("rotary pairs for halves", ("rope-permuted",), _heads_apart),
    Fault("rows zeroed", ("rows-altered", "zeroed", "altered"), _zeroed),
    Fault("a flipped bit", ("altered", "rows-altered"), _flipped_bit),
    Fault("truncated instead of rounded", ("rounding",), _truncated, minor=True),
    Fault("scales of another module", ("scales", "swapped"), _scales, "4bit"),
    Fault("scales doubled", ("scales", "scaled", "quantization-error"), _scaled_scales, "4bit"),
    Fault("nibbles in another order", ("codes", "quantization-error"), _codes, "4bit"),
    Fault("codes one step high", ("codes", "quantization-error", "shifted"), _requantized, "4bit"),
    Fault("another release's shard", ("stale",), _stale),
    Fault("another release", ("stale", "not-from-release"), _other),
    Fault("rope_theta changed", ("config",), _config("rope_theta", lambda value: value * 10)),
    Fault("epsilon changed", ("config",), _config("rms_norm_eps", lambda value: value * 100)),
    Fault("window changed", ("config",), _config("sliding_window", lambda value: value * 2)),
    Fault("experts per token changed", ("config",), _config("num_experts_per_tok", lambda value: value + 1)),
    Fault("head's width changed", ("config",), _config("head_dim", lambda value: value * 2)),
)
