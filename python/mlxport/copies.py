"""Copies of a port with pieces of its source exchanged: what plants a fault, and what mends one."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

Pieces = Sequence[tuple[str, str]]


def exchanged(text: str, pieces: Pieces, what: str) -> str:
    """`text` with each piece exchanged for another. One that is not there any more is an error, not a fault that does nothing."""
    for old, new in pieces:
        if old not in text:
            raise SystemExit(f"{what}: the source no longer holds {old!r}: look what it has now")
        text = text.replace(old, new)
    return text


def package(name: str, place: Path, edits: Sequence[Mapping[str, Pieces]], what: str) -> Path:
    """A copy of an installed package, its files edited one list of edits after the other; the folder to put before the installed ones."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{name} is not installed")
    copy = place / name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(next(iter(spec.submodule_search_locations)), copy, ignore=shutil.ignore_patterns("__pycache__"))
    for files in edits:
        for file, pieces in files.items():
            path = copy / file
            path.write_text(exchanged(path.read_text(), pieces, f"{what}, {file}"))
    return place
