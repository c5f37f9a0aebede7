"""The peers: mlx-lm's and mlx-vlm's own converters, on a model that has no tokenizer."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

# What is asked of both converters: (name, mlxport's flags, the peer's arguments).
FORMS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "f32": (["--dtype", "f32"], {"dtype": "float32"}),
    "bf16": (["--dtype", "bf16"], {"dtype": "bfloat16"}),
    "4bit": (
        ["--dtype", "bf16", "--quantize", "affine"],
        {"dtype": "bfloat16", "quantize": True, "q_bits": 4, "q_group_size": 64},
    ),
    "mixed": (
        ["--dtype", "bf16", "--quantize", "affine", "--quantize-rules", "mixed_3_6"],
        {"dtype": "bfloat16", "quantize": True, "q_bits": 4, "q_group_size": 64, "quant_predicate": "mixed_3_6"},
    ),
}


class PeerError(Exception):
    """The peer could not convert: what it said."""


class _NoTokenizer:
    """Stands where a converter expects a tokenizer or a processor."""

    def save_pretrained(self, _directory: Any) -> None:
        """Nothing to save."""


def convert(port: str, source: Path, target: Path, form: str) -> None:
    """The peer's conversion of a release in one of FORMS."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), _without_tokenizer(port) as module:
            module.convert(str(source), str(target), **FORMS[form][1])
    except (Exception, SystemExit) as error:
        raise PeerError(f"{port}: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _without_tokenizer(port: str) -> Iterator[Any]:
    name = port.replace("-", "_")
    module = importlib.import_module(f"{name}.convert")
    utils = importlib.import_module(f"{name}.utils")

    def loaded(path: Any, *_: Any, **__: Any) -> tuple[Any, Any, Any]:
        if port == "mlx-vlm":
            model = utils.load_model(Path(path), lazy=True, strict=True)
            return model, utils.load_config(Path(path)), _NoTokenizer()
        model, config = utils.load_model(Path(path), lazy=True)
        return model, _NoTokenizer(), config

    instead = "fetch_from_hub" if port == "mlx-vlm" else "load"
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(module, instead, loaded))
        for owner in (module, utils):
            if hasattr(owner, "create_model_card"):
                stack.enter_context(mock.patch.object(owner, "create_model_card", lambda *_, **__: None))
        yield module
