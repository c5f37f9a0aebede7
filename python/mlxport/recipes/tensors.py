"""A converted directory as names, shapes, dtypes and bytes; and how two of them differ."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# So many differences are told.
TOLD = 6
_WIDTHS = {"BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "BF16": 2, "F16": 2, "I16": 2, "U16": 2}


@dataclass
class Tensor:
    """One tensor as a safetensors file holds it."""

    dtype: str
    shape: list[int]
    data: bytes


@dataclass
class Directory:
    """Every tensor of a directory's `model*.safetensors`, and its config.

    `exact` and `other`: the same tensors in float32, and those of another release; faults are made of them.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    exact: dict[str, Tensor] = field(default_factory=dict)
    other: dict[str, Tensor] = field(default_factory=dict)

    def leave_out(self, modules: str) -> None:
        """Takes away all that the modules of a pattern hold."""
        self.tensors = {
            name: held for name, held in self.tensors.items() if not fnmatch.fnmatch(name.rpartition(".")[0], modules)
        }


def read(path: Path) -> Directory:
    """A directory."""
    found = Directory(config=json.loads((path / "config.json").read_text()))
    for shard in sorted(path.glob("model*.safetensors")):
        found.tensors.update(read_file(shard))
    return found


def read_file(path: Path) -> dict[str, Tensor]:
    """A safetensors file, byte for byte."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    body = raw[8 + size :]
    return {
        name: Tensor(said["dtype"], said["shape"], body[said["data_offsets"][0] : said["data_offsets"][1]])
        for name, said in header.items()
        if name != "__metadata__"
    }


def write_file(path: Path, tensors: dict[str, Tensor]) -> None:
    """A safetensors file of these tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    at = 0
    for name, tensor in tensors.items():
        header[name] = {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [at, at + len(tensor.data)],
        }
        at += len(tensor.data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(tensor.data for tensor in tensors.values()))


def differences(ours: Directory, theirs: Directory) -> list[str]:
    """Where our tensors are not the peer's: keys, shapes, dtypes, bits, and what the configs say of the quantization."""
    found = [f"{name}: only the peer has it" for name in sorted(theirs.tensors.keys() - ours.tensors.keys())]
    found += [f"{name}: the peer has none" for name in sorted(ours.tensors.keys() - theirs.tensors.keys())]
    for name in sorted(ours.tensors.keys() & theirs.tensors.keys()):
        one, other = ours.tensors[name], theirs.tensors[name]
        if (one.dtype, one.shape) != (other.dtype, other.shape):
            found.append(f"{name}: {one.dtype} {one.shape}, the peer's is {other.dtype} {other.shape}")
        elif one.data != other.data:
            found.append(f"{name}: {unequal(one, other)} of {elements(one)} values are others than the peer's")
    mine, peers = packed(ours), packed(theirs)
    found += [
        f"config.json: {module} is quantized as {mine.get(module)}, the peer says {peers.get(module)}"
        for module in sorted(mine.keys() | peers.keys())
        if mine.get(module) != peers.get(module)
    ]
    return found


def elements(tensor: Tensor) -> int:
    """How many values it has."""
    count = 1
    for size in tensor.shape:
        count *= size
    return count


def unequal(one: Tensor, other: Tensor) -> int:
    """How many of their values differ, bit by bit."""
    width = _WIDTHS.get(one.dtype, 4)
    pairs = zip(range(0, len(one.data), width), range(0, len(other.data), width), strict=True)
    return sum(one.data[a : a + width] != other.data[b : b + width] for a, b in pairs)


def packed(made: Directory) -> dict[str, dict[str, Any]]:
    """What the config says of each packed module, its mode written out."""
    said = made.config.get("quantization") or {}
    whole = {name: value for name, value in said.items() if not isinstance(value, dict)}
    modules = [name.removesuffix(".scales") for name in made.tensors if name.endswith(".scales")]
    return {module: {"mode": "affine", **(said.get(module) or whole)} for module in modules}


def has_own(made: Directory) -> bool:
    """Whether some modules are packed otherwise than most."""
    return any(isinstance(value, dict) for value in (made.config.get("quantization") or {}).values())
