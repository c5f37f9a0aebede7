"""The reference: PyTorch's own model, run in float32, in float64, and in float32 on MLX's bare operations.

Every module's inputs and outputs are recorded. Each module is also run by itself, on what the float32 run gave it: in float64 (the
truth of the isolated mode), and on MLX's bare operations (the floor of the candidate's runtime).
"""

from __future__ import annotations

import contextlib
import copy
import gc
import sys
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from mlxport import kernels, tasks
from mlxport.heard import Call, Run
from mlxport.precise import Float64, share

# The models' own plain code. Another name would have them leave out what they do for it alone (sparse masks).
ATTENTION = "eager"
ATTENTION_FUNCTION = "eager_attention_forward"
# Linear attention norms its queries and keys by a function of the model's file.
L2_FUNCTION = "l2norm"
# Modules that only pass on what they are given.
_PASSES_ON = (torch.nn.Dropout, torch.nn.Identity, torch.nn.ModuleList, torch.nn.ModuleDict)


def tensors_in(value: Any) -> list[torch.Tensor]:
    """Every real tensor in what a module was given or returned, in order; caches and the like are gone past."""
    if isinstance(value, torch.Tensor):
        return [] if value.is_complex() or value.is_quantized else [value]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        return [tensor for part in value for tensor in tensors_in(part)]
    return []


def changed(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    """The same structure with every tensor changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, MutableMapping):
        made = copy.copy(value)
        for name, part in value.items():
            made[name] = changed(part, change)
        return made
    if type(value) in (tuple, list):
        parts = [changed(part, change) for part in value]
        return tuple(parts) if type(value) is tuple else parts
    return value


def wide(tensor: torch.Tensor) -> torch.Tensor:
    """A float tensor in float64, masks' most negative numbers included; others as they are."""
    return tensor.double() if tensor.is_floating_point() else tensor


def array_of(tensor: torch.Tensor) -> np.ndarray:
    """A tensor's own values; half floats as float32, integers as int64."""
    tensor = tensor.detach()
    if tensor.dtype in (torch.bfloat16, torch.float16):
        tensor = tensor.float()
    elif not tensor.is_floating_point() and tensor.dtype != torch.bool:
        tensor = tensor.long()
    return tensor.cpu().contiguous().numpy().copy()


@dataclass
class Reference:
    """A PyTorch model in float32, and the same for float64: they share parameters, which `Float64` widens where they are used."""

    model: torch.nn.Module
    exact: torch.nn.Module
    config: Any

    def paths(self) -> dict[str, torch.nn.Module]:
        """Every module that is recorded, by its path."""
        return {p: m for p, m in self.model.named_modules() if p and not isinstance(m, _PASSES_ON)}

    def leaves(self) -> list[str]:
        """Modules without children, and those with parameters of their own: what coverage counts."""
        return [p for p, m in self.paths().items() if not list(m.children())]


class Listener:
    """Wraps `forward` of every module: what is called as `module.forward(…)` is seen, too, which no hook sees."""

    def __init__(
        self,
        model: torch.nn.Module,
        *,
        keep_args: bool = False,
        mlx: bool = False,
        lean: bool = False,
        deaf: bool = False,
    ) -> None:
        self.run = Run()
        self._deaf = deaf
        self._keep, self._mlx, self._lean = keep_args, mlx, lean
        self._names = {id(m): p for p, m in model.named_modules()}
        self._functions: list[tuple[Any, Any]] = []
        self._on_mlx = contextlib.ExitStack()
        self._modules = [(p, m) for p, m in model.named_modules() if p and not isinstance(m, _PASSES_ON)]

    def __enter__(self) -> Run:
        for path, module in self._modules:
            self._wrap(path, module)
        # Attention is a function: each file of models has its own.
        for file in {type(module).__module__ for _path, module in self._modules}:
            if hasattr(sys.modules[file], ATTENTION_FUNCTION):
                self._wrap_attention(sys.modules[file])
        if self._mlx:
            self._on_mlx.enter_context(_l2_norms_on_mlx(module for _path, module in self._modules))
        return self.run

    def __exit__(self, *_: Any) -> None:
        for _path, module in self._modules:
            module.__dict__.pop("forward", None)
        for file, function in self._functions:
            setattr(file, ATTENTION_FUNCTION, function)
        self._functions.clear()
        self._on_mlx.close()

    def _wrap_attention(self, file: Any) -> None:
        function = getattr(file, ATTENTION_FUNCTION)

        def listened(
            module: torch.nn.Module, query: Any, key: Any, value: Any, attention_mask: Any = None, **kwargs: Any
        ) -> Any:
            result = function(module, query, key, value, attention_mask, **kwargs)
            self.note_attention(module, (query, key, value, attention_mask), result[0], kwargs)
            return result

        setattr(file, ATTENTION_FUNCTION, listened)
        self._functions.append((file, function))

    def _wrap(self, path: str, module: torch.nn.Module) -> None:
        forward = module.forward

        # What a module that holds others was given is what its parts were: kept only where it is run once more.
        wanted = self._keep or not self._lean or not list(module.children())

        def listened(*args: Any, **kwargs: Any) -> Any:
            if self._deaf:
                made = forward(*args, **kwargs)
                return on_mlx(module, (*args, *kwargs.values()), made) if self._mlx else made
            number = self.run.number(path)
            given = [array_of(t) for t in tensors_in([*args, *kwargs.values()])] if wanted else []
            kept = (changed(args, torch.clone), changed(kwargs, torch.clone)) if self._keep else None
            result = forward(*args, **kwargs)
            if self._mlx:
                result = on_mlx(module, (*args, *kwargs.values()), result)
            returned = [array_of(t) for t in tensors_in(result)]
            self.run.add(Call(path, number, given, returned, kept))
            return result

        module.forward = listened  # type: ignore[method-assign]

    def note_attention(self, module: torch.nn.Module, operands: tuple, out: torch.Tensor, kwargs: dict) -> None:
        """Notes the bare attention of a module as a call of `<its path>.bare_attention`."""
        if self._deaf:
            return
        path = f"{self._names.get(id(module), '?')}.bare_attention"
        known = {k: v for k, v in kwargs.items() if isinstance(v, (int, float)) and not isinstance(v, bool)}
        given = [array_of(t) for t in operands if isinstance(t, torch.Tensor)]
        self.run.add(Call(path, self.run.number(path), given, [array_of(out)], None, known))


def on_mlx(module: torch.nn.Module, args: tuple, result: Any) -> Any:
    """Norms and rotary tables as MLX's fused operations compute them; the rest as it is."""
    kind = type(module).__name__.lower()
    if "rmsnorm" in kind:
        return kernels.rms_norm(module, args, result)
    if "rotary" in kind:
        return kernels.rotary(module, args, result)
    return result


def call(model: torch.nn.Module, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """One pass without a cache; the logits."""
    task = tasks.of(getattr(getattr(model, "config", None), "model_type", None))
    with torch.no_grad():
        if task is not None:
            return task.torch(model, inputs)
        output = model(**inputs, use_cache=False)
    return output.logits if hasattr(output, "logits") else output[0]


def _as_held(model: torch.nn.Module, tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of floats in the dtype of the model's parameters."""
    held = next((parameter.dtype for parameter in model.parameters()), torch.float32)
    return tensor.to(held) if tensor.is_floating_point() else tensor


@dataclass
class Passes:
    """All that PyTorch computed of one input."""

    run: Run
    truth: Run
    runtime: Run
    refused: dict[str, int]


def passes(
    reference: Reference, inputs: dict[str, torch.Tensor], *, keep_args: bool = True, logits_alone: bool = False
) -> Passes:
    """The three whole passes: float32, float64, and float32 on MLX's bare operations. `logits` is a call of its own.

    `logits_alone`: nothing else is kept, which would be gigabytes of a long sequence in a large model.
    """
    mode = kernels.RuntimeKernels()
    runs = []
    plan: list[tuple[torch.nn.Module, Any, bool, bool]] = [
        (reference.model, contextlib.nullcontext(), keep_args, False),
        (reference.exact, Float64(), False, False),
        (reference.model, mode, False, True),
    ]
    for model, context, keep, mlx in plan:
        with Listener(model, keep_args=keep, mlx=mlx, lean=True, deaf=logits_alone) as run, context:
            fed = {n: wide(v) if model is reference.exact else _as_held(model, v) for n, v in inputs.items()}
            logits = call(model, fed)
        run.add(Call("logits", run.number("logits"), [], [array_of(logits)]))
        runs.append(run)
    run, truth, runtime = runs
    return Passes(run, truth, runtime, mode.refused)


# Parameters beyond which modules that hold modules that hold modules are not run by themselves: their parts are.
LARGE = 20_000_000


def is_large(reference: Reference) -> bool:
    """Whether a model is of the size of trained ones."""
    return sum(parameter.numel() for parameter in reference.model.parameters()) > LARGE


def alone_paths(reference: Reference) -> set[str]:
    """The modules that are run by themselves: all, or of a large model those that lie at most one level above the leaves."""
    paths = reference.paths()
    if not is_large(reference):
        return set(paths)
    low = {path for path, module in paths.items() if not any(list(child.children()) for child in module.children())}
    return {path for path in low if not isinstance(paths[path], torch.nn.ModuleList)}


def isolated(reference: Reference, run: Run) -> Iterator[tuple[Call, list[np.ndarray], list[np.ndarray]]]:
    """Each call again by itself, on what the float32 run gave it: its truth, and what MLX's bare operations make of it."""
    narrow, exact = dict(reference.model.named_modules()), dict(reference.exact.named_modules())
    wanted = alone_paths(reference)
    for heard in run.calls:
        if heard.args is None or heard.path not in wanted:
            continue
        args, kwargs = heard.args
        with torch.no_grad():
            with Float64():
                truth = exact[heard.path](*changed(args, wide), **changed(kwargs, wide))
            with kernels.RuntimeKernels():
                module = narrow[heard.path]
                with _norms_on_mlx(module):
                    made = module(*changed(args, torch.clone), **changed(kwargs, torch.clone))
        heard.args = None
        yield heard, [array_of(t) for t in tensors_in(truth)], [array_of(t) for t in tensors_in(made)]


@contextlib.contextmanager
def _norms_on_mlx(module: torch.nn.Module) -> Iterator[None]:
    """The fused operations of every module within, for one call."""
    wrapped = []
    for part in module.modules():
        if "rmsnorm" in type(part).__name__.lower() or "rotary" in type(part).__name__.lower():
            part.forward = _fused(part)  # type: ignore[method-assign]
            wrapped.append(part)
    try:
        with _l2_norms_on_mlx(module.modules()):
            yield
    finally:
        for part in wrapped:
            part.__dict__.pop("forward", None)


@contextlib.contextmanager
def _l2_norms_on_mlx(modules: Iterable[torch.nn.Module]) -> Iterator[None]:
    """The files of these modules norm by MLX's fused operation."""
    files = [sys.modules[name] for name in {type(module).__module__ for module in modules}]
    held = [(file, getattr(file, L2_FUNCTION)) for file in files if hasattr(file, L2_FUNCTION)]
    for file, function in held:
        setattr(file, L2_FUNCTION, kernels.l2_norm(function))
    try:
        yield
    finally:
        for file, function in held:
            setattr(file, L2_FUNCTION, function)


def _fused(part: torch.nn.Module) -> Callable:
    forward = part.forward
    return lambda *args, **kwargs: on_mlx(part, (*args, *kwargs.values()), forward(*args, **kwargs))


def build(make: Callable[[], torch.nn.Module], fill: Callable[[torch.nn.Module], None]) -> Reference:
    """The float32 model, filled, and the one of the same weights for float64, whose own tables are made in float64."""
    model = make().float().eval()
    fill(model)
    _eager_experts(model)
    gc.collect()
    with Float64():
        exact = make().eval()
    share(exact, model)
    _eager_experts(exact)
    return Reference(model, exact, model.config)


def _eager_experts(model: torch.nn.Module) -> None:
    """Grouped experts take no float64; the plain loop does, and is the same sum."""
    choose: Any = getattr(model, "set_experts_implementation", None)
    if choose is not None:
        with contextlib.suppress(ValueError, AttributeError):
            choose("eager")
