"""A class of a person's own Python file, named as `FILE.py:Class` on the command line."""

from __future__ import annotations

import contextlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType


class NoSuchClass(ValueError):
    """The file, or the class in it, cannot be used: what was expected and found, and in which line."""


def load(flag: str, name: str, expected: str = "FILE.py:Class", prefix: str = "") -> tuple[ModuleType, type]:
    """Runs the file as the module `prefix` + its stem; returns it and the class. `flag` and `expected` are for the error."""
    file, _, kind = name.rpartition(":")
    path = Path(file)
    if not file:
        raise NoSuchClass(f"{flag} {name}: expected {expected}")
    if not path.is_file():
        raise NoSuchClass(f"{flag} {name}: expected {expected}, found no file {path}")
    spec = importlib.util.spec_from_file_location(prefix + path.stem, path)
    if spec is None or spec.loader is None:
        raise NoSuchClass(f"{flag} {name}: {path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with told(flag, name, "the file cannot be run"):
        spec.loader.exec_module(module)
    if not hasattr(module, kind):
        classes = [n for n, value in vars(module).items() if isinstance(value, type) and value.__module__ == spec.name]
        raise NoSuchClass(f"{flag} {name}: {path} has no class {kind}; it has {', '.join(classes) or 'none'}")
    return module, getattr(module, kind)


@contextlib.contextmanager
def told(flag: str, name: str, what: str) -> Iterator[None]:
    """What the person's own code raises, as NoSuchClass that names the line of their file."""
    try:
        yield
    except (Exception, SystemExit) as error:
        file = Path(name.rpartition(":")[0])
        line = _line(error, file)
        where = f" ({file}, line {line})" if line else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        raise NoSuchClass(f"{flag} {name}: {what}: {type(error).__name__}: {said}{where}") from error


def _line(error: BaseException, file: Path) -> int | None:
    """The innermost line of that file which led to the error."""
    same = lambda other: other is not None and Path(other).resolve() == file.resolve()  # noqa: E731
    if isinstance(error, SyntaxError) and same(error.filename):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if same(frame.filename)]
    return lines[-1] if lines else None
