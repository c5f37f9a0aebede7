"""Writes recordings in the fixture format (`fixtures/README.md`): one tensor after the other, memory does not grow with their number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

DTYPES = {
    "float32": ("F32", "torch.float32"),
    "float64": ("F64", "torch.float64"),
    "int64": ("I64", "torch.int64"),
    "bool": ("BOOL", "torch.bool"),
}


class Tensors:
    """A safetensors file that grows at its end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = open(path.with_suffix(".data"), "w+b")  # noqa: SIM115 closed by close()
        self._header: dict[str, Any] = {}
        self._end = 0

    def add(self, name: str, array: np.ndarray) -> None:
        """Writes one tensor."""
        array = np.ascontiguousarray(array)
        self._data.write(array.data if array.size else b"")
        offsets = [self._end, self._end + array.nbytes]
        self._header[name] = {"dtype": DTYPES[array.dtype.name][0], "shape": list(array.shape), "data_offsets": offsets}
        self._end += array.nbytes

    def close(self) -> None:
        """Puts the header before the data."""
        header = json.dumps(self._header, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)
        with open(self._path, "wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            self._data.seek(0)
            shutil.copyfileobj(self._data, file, 1 << 20)
        self._data.close()
        self._path.with_suffix(".data").unlink()


class Fixture:
    """One recording. `truth`: whether it holds a float64 run, so that it can judge."""

    def __init__(self, directory: Path, inputs: dict[str, np.ndarray], said: dict[str, Any], *, truth: bool) -> None:
        directory.mkdir(parents=True)
        self.directory, self._said, self._order = directory, said, []
        self._tensors = Tensors(directory / "activations.safetensors")
        self._truth = Tensors(directory / "truth.safetensors") if truth else None
        given = Tensors(directory / "inputs.safetensors")
        for name, array in sorted(inputs.items()):
            given.add(name, array)
        given.close()
        self._inputs = sorted(inputs)

    def __enter__(self) -> Fixture:
        return self

    def add(self, point: str, call: int, kind: str, array: np.ndarray, truth: np.ndarray | None = None) -> str:
        """Writes one tensor, with its truth where this recording judges; the point's full name."""
        name = f"{point}#{call}.{kind}"
        if array.dtype not in (np.float32, np.float64, np.int64, np.bool_):
            array = array.astype(np.float32)
        entry: dict[str, Any] = {
            "point": point,
            "call": call,
            "kind": kind,
            "tensor": name,
            "shape": list(array.shape),
            "dtype": DTYPES[array.dtype.name][1],
        }
        self._tensors.add(name, array)
        if self._truth is not None:
            exact = array if truth is None else truth
            self._truth.add(name, exact)
            entry["truth"] = name
            entry["noise_floor"] = noise_floor(array, exact)
        self._order.append(entry)
        return name

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._tensors.close()
        if self._truth is not None:
            self._truth.close()
        manifest = {"schema": 1, **self._said, "inputs": self._inputs, "order": self._order}
        (self.directory / "manifest.json").write_text(json.dumps(manifest))


def noise_floor(values: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """How far one run's values are from another's."""
    exact = truth.astype(np.float64)
    difference = values.astype(np.float64) - exact
    rms = lambda a: float(np.sqrt(np.mean(np.square(a)))) if a.size else 0.0  # noqa: E731
    return {"max_abs": float(np.abs(difference).max(initial=0.0)), "rms": rms(difference), "ref_rms": rms(exact)}
