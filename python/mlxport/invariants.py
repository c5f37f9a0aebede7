"""What must hold of a port by itself, whatever PyTorch says."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import mlx.core as mx

from mlxport import extras
from mlxport import port as ports
from mlxport.session import Session

# So many are told.
TOLD = 20


def broken(made: Session) -> list[str]:
    """Every invariant that does not hold, in words.

    What the port loaded is saved as its conversions are, and loaded by a new model: `sanitize` meets what it has made
    itself, and must leave it as it is.
    """
    before = ports.parameters(made.port.model)
    found = _again(made, before, {})
    beside = {name: mx.ones((16,)) for name in extras.beside(made.reference.model)}
    # A converted release may hold what transformers passes over. A port that refuses it is right, too.
    if beside and not found:
        kept = f"{', '.join(beside)} beside them: "
        found = [f"with {kept}{what}" for what in _again(made, before, beside) if "refused" not in what]
    return found[:TOLD]


def _again(made: Session, before: dict[str, mx.array], more: dict[str, mx.array]) -> list[str]:
    with tempfile.TemporaryDirectory(prefix="mlxport-again-") as place:
        directory = Path(place)
        shutil.copy(made.directory / "config.json", directory / "config.json")
        mx.save_safetensors(str(directory / "model.safetensors"), {**before, **more}, {"format": "mlx"})
        try:
            again = ports.parameters(ports.load(made.port.name, directory).model)
        except ports.PortError as error:
            return [f"converted weights, saved and loaded again, are refused: {error}"]
        return differences(before, again)


def differences(before: dict[str, mx.array], again: dict[str, mx.array]) -> list[str]:
    """Which parameters are not what they were."""
    found = [f"converted weights, loaded again, lack {name}" for name in sorted(before.keys() - again.keys())]
    for name in sorted(before.keys() & again.keys()):
        one, other = before[name], again[name]
        if one.shape != other.shape or not bool(mx.array_equal(one, other)):
            found.append(f"sanitize changes converted weights once more: {name}")
    return found
