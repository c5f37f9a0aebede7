"""The port: loaded by its own loader, strictly; recorded; and each module also run by itself on what PyTorch's was given."""

from __future__ import annotations

import importlib.util
import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map

from mlxport import class_file, compiler, port_file
from mlxport.heard import Call, Run

# Packages that are ports, by pip's names.
PACKAGES = ("mlx-lm", "mlx-vlm", "mlx-audio")


class PortError(Exception):
    """The port could not be loaded, or could not run: what it said."""


class Unusable(PortError):
    """The port's file or class cannot be used, so there is nothing to judge: what was expected and found."""


class NoCaches(Exception):
    """Nothing says which caches the port's model takes."""


@dataclass
class Port:
    """A loaded port. `arguments` are the settings it made of the config."""

    name: str
    model: nn.Module
    arguments: dict[str, Any] = field(default_factory=dict)

    def modules(self) -> dict[str, nn.Module]:
        """Every module by its path; one that is found at two paths is the first's."""
        seen: dict[int, str] = {}
        for path, module in self.model.named_modules():
            if path and id(module) not in seen:
                seen[id(module)] = path
        return {path: module for path, module in self.model.named_modules() if seen.get(id(module)) == path}


def load(name: str, directory: Path) -> Port:
    """Loads the model in `directory` with `mlx-lm`, `mlx-vlm`, `mlx-audio`, or the class of `FILE.py:Class`; strictly, in float32.

    Everything that a loader refuses (a missing or unknown tensor, a config it cannot read) is a PortError; a file or class that cannot
    be used is Unusable.
    """
    loaders: dict[str, Callable[[Path], nn.Module]] = {
        "mlx-lm": _mlx_lm,
        "mlx-vlm": _mlx_vlm,
        "mlx-audio": _mlx_audio,
    }
    loader = loaders.get(name) or (lambda d: port_file.load(name, d))
    try:
        model = loader(directory)
    except (ImportError, PortError):
        raise
    except class_file.NoSuchClass as error:
        raise Unusable(str(error)) from error
    except port_file.Misfit as error:
        raise PortError(str(error)) from error
    except (Exception, SystemExit) as error:  # a port may fail in any way; all of them are findings
        compiler.require(error)
        raise PortError(f"{type(error).__name__}: {error}") from error
    model.eval()
    model.update(tree_map(_single, model.parameters()))
    return Port(name, model, settings_of(model))


def _single(array: mx.array) -> mx.array:
    return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array


def _mlx_lm(directory: Path) -> nn.Module:
    from mlx_lm.utils import load_model

    return load_model(directory, lazy=True, strict=True)[0]


def _mlx_vlm(directory: Path) -> nn.Module:
    # mlx-vlm is an extra: where it is not installed, the type checker cannot resolve a plain import.
    return importlib.import_module("mlx_vlm.utils").load_model(directory, lazy=True, strict=True)


def _mlx_audio(directory: Path) -> nn.Module:
    # Models load tokenizers at the end; a checkpoint that was made here has none, and none is used.
    transformers: Any = importlib.import_module("transformers")
    own = transformers.AutoTokenizer.from_pretrained

    def tokenizer(*args: Any, **kwargs: Any) -> Any:
        try:
            return own(*args, **kwargs)
        except (OSError, ValueError, KeyError, AttributeError, TypeError):
            return None

    transformers.AutoTokenizer.from_pretrained = tokenizer
    try:
        return _audio_loader(json.loads((directory / "config.json").read_text()))(directory, lazy=True, strict=True)
    finally:
        transformers.AutoTokenizer.from_pretrained = own


def _audio_loader(config: dict[str, Any]) -> Callable[..., nn.Module]:
    """The loader of the kind of model that has this type: recognition, speech, sounds, activity, language."""
    kind = str(config.get("model_type"))
    for category in ("stt", "tts", "sts", "vad", "lid"):
        utils: Any = importlib.import_module(f"mlx_audio.{category}.utils")
        name = getattr(utils, "MODEL_REMAPPING", {}).get(kind, kind)
        if importlib.util.find_spec(f"mlx_audio.{category}.models.{name}") is not None:
            return utils.load_model
    raise PortError(f"mlx-audio has no model type {kind!r}")


def settings_of(model: nn.Module) -> dict[str, Any]:
    """The settings that a port made of its config: the fields of its `args` or `config`, nested ones by dotted names."""
    held = getattr(model, "args", None) or getattr(model, "config", None)
    return _fields(held)


def _fields(held: Any, prefix: str = "") -> dict[str, Any]:
    names = getattr(held, "__dataclass_fields__", None)
    if names is None:
        return {}
    found: dict[str, Any] = {}
    for name in names:
        value = getattr(held, name, None)
        if hasattr(value, "__dataclass_fields__"):
            found.update(_fields(value, f"{prefix}{name}."))
        else:
            found[f"{prefix}{name}"] = value
    return found


def array_of(array: mx.array) -> np.ndarray:
    """An array's own values; half floats as float32, integers as int64."""
    if mx.issubdtype(array.dtype, mx.integer):
        array = array.astype(mx.int64)
    elif array.dtype in (mx.bfloat16, mx.float16):
        array = array.astype(mx.float32)
    return np.array(array)


def arrays_in(value: Any) -> list[mx.array]:
    """Every array in what a module was given or returned, in order; caches and the like are gone past."""
    if isinstance(value, mx.array):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    elif hasattr(value, "__dataclass_fields__"):
        value = [getattr(value, name) for name in value.__dataclass_fields__]
    if isinstance(value, (tuple, list)):
        return [array for part in value for array in arrays_in(part)]
    return []


def traced(arrays: list[mx.array]) -> bool:
    """Whether these only stand for numbers: within a function that MLX compiles there is nothing to hear."""
    try:
        mx.eval(arrays)
    except ValueError as error:
        if "function transformations" in str(error):
            return True
        raise
    return False


# Given a module's path, the number of the call and its arguments: other arguments to run it with once more, or nothing.
Instead = Callable[[str, int, tuple, dict], "tuple[tuple, dict] | None"]


class Listener:
    """Wraps `__call__` of every class of the model's modules: Python looks it up on the class, never on the module."""

    def __init__(self, port: Port, instead: Instead | None = None, *, deaf: bool = False) -> None:
        self.run, self.alone = Run(), Run()
        self.failed: dict[str, str] = {}
        # The innermost module whose call raised an error.
        self.broke_in: str | None = None
        self._instead = instead
        self._names = {id(module): path for path, module in port.modules().items()}
        # One that hears nothing: of large models' long sequences only the logits are kept.
        self._kinds = set() if deaf else {type(module) for module in port.modules().values()}
        self._running: set[int] = set()
        self._wrapped: list[tuple[type, Any]] = []
        self._fast: list[tuple[str, Any]] = []
        self._path: list[str] = []
        self._quiet = False

    def __enter__(self) -> Listener:
        for kind in self._kinds:
            owner = next((base for base in kind.__mro__ if "__call__" in vars(base)), None)
            if owner is None or any(owner is wrapped for wrapped, _ in self._wrapped):
                continue
            self._wrap(owner)
        for name in ("scaled_dot_product_attention", "rope"):
            self._wrap_fast(name)
        return self

    def __exit__(self, *_: Any) -> None:
        for owner, call in self._wrapped:
            owner.__call__ = call
        for name, function in self._fast:
            setattr(mx.fast, name, function)

    def _wrap(self, owner: type) -> None:
        call = owner.__call__
        listener = self

        def listened(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
            # What a class's call passes on to its parent class is the same call.
            quiet = listener._quiet or id(module) not in listener._names or id(module) in listener._running
            return call(module, *args, **kwargs) if quiet else listener._heard(module, call, args, kwargs)

        owner.__call__ = listened
        self._wrapped.append((owner, call))

    def _wrap_fast(self, name: str) -> None:
        function = getattr(mx.fast, name)
        listener = self

        def listened(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if not listener._quiet and listener._path and not traced([result]):
                listener._note_fast(name, args, kwargs, result)
            return result

        setattr(mx.fast, name, listened)
        self._fast.append((name, function))

    def _note_fast(self, name: str, args: tuple, kwargs: dict, result: mx.array) -> None:
        """The bare attention or rotation, as a call of `<the module that did it>.attention` or `.rope`."""
        path = self._path[-1] + (".bare_attention" if name.startswith("scaled") else ".rotation")
        names = [n for n in ("x", "dims") if name == "rope"]
        meta = {**dict(zip(names[1:], args[1:2], strict=False)), **{k: v for k, v in kwargs.items()}}
        meta = {k: array_of(v) if isinstance(v, mx.array) else v for k, v in meta.items()}
        given = [array_of(a) for a in args if isinstance(a, mx.array)]
        self.run.add(Call(path, self.run.number(path), given, [array_of(result)], None, meta))

    def _heard(self, module: nn.Module, call: Any, args: tuple, kwargs: dict) -> Any:
        arrays = arrays_in([*args, *kwargs.values()])
        if traced(arrays):
            return call(module, *args, **kwargs)
        path = self._names[id(module)]
        number = self.run.number(path)
        given = [array_of(array) for array in arrays]
        self._running.add(id(module))
        self._path.append(path)
        try:
            self._once_more(path, number, module, call, args, kwargs)
            returned = call(module, *args, **kwargs)
        except Exception:
            self.broke_in = self.broke_in or path
            raise
        finally:
            self._path.pop()
            self._running.discard(id(module))
        self.run.add(Call(path, number, given, [array_of(array) for array in arrays_in(returned)]))
        return returned

    def _once_more(self, path: str, number: int, module: nn.Module, call: Any, args: tuple, kwargs: dict) -> None:
        other = self._instead(path, number, args, kwargs) if self._instead else None
        if other is None:
            return
        self._quiet = True
        try:
            returned = call(module, *other[0], **other[1])
            given = [array_of(array) for array in arrays_in([*other[0], *other[1].values()])]
            self.alone.add(Call(path, number, given, [array_of(array) for array in arrays_in(returned)]))
        except Exception as error:  # noqa: BLE001 whatever the port says is told
            compiler.require(error)
            self.failed[f"{path}#{number}"] = f"{type(error).__name__}: {error}"
        finally:
            self._quiet = False


def caches(port: Port) -> list[Any]:
    """The port's own caches for one sequence."""
    from mlx_lm.models.cache import make_prompt_cache

    own = getattr(port.model, "make_cache", None)
    text: Any = getattr(port.model, "language_model", port.model)
    if own is None and not hasattr(text, "make_cache") and not hasattr(text, "layers"):
        raise NoCaches(
            f"no caches can be made: {type(text).__name__} has neither layers (mlx-lm's make_prompt_cache makes one cache for each) nor "
            "make_cache(); give it one of them"
        )
    return own() if own is not None else make_prompt_cache(text)


def logits_of(result: Any) -> mx.array:
    """The logits in what a port returned."""
    return result.logits if hasattr(result, "logits") else arrays_in(result)[0]


def parameters(model: nn.Module) -> dict[str, mx.array]:
    """Every parameter by its path."""
    return {name: array for name, array in tree_flatten(model.parameters())}  # type: ignore[misc]


def takes(model: nn.Module, name: str) -> bool:
    """Whether the port's call has this argument."""
    known = inspect.signature(type(model).__call__).parameters
    return name in known or any(one.kind is inspect.Parameter.VAR_KEYWORD for one in known.values())
