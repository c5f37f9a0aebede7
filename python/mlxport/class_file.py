"""A class of a person's own Python file, named as `FILE.py:Class` on the command line."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


class NoSuchClass(ValueError):
    """The file, or the class in it, is not there: what was expected and found."""


def load(flag: str, name: str, expected: str = "FILE.py:Class", prefix: str = "") -> tuple[ModuleType, type]:
    """Runs the file as the module `prefix` + its stem; returns it and the class. `flag` and `expected` are for the error."""
    file, _, kind = name.rpartition(":")
    path = Path(file)
    if not file or not path.is_file():
        raise NoSuchClass(f"{flag} {name}: expected {expected}, found no such file")
    spec = importlib.util.spec_from_file_location(prefix + path.stem, path)
    if spec is None or spec.loader is None:
        raise NoSuchClass(f"{flag} {name}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if not hasattr(module, kind):
        raise NoSuchClass(f"{flag} {name}: {path} has no class {kind}")
    return module, getattr(module, kind)
