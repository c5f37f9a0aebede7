"""The port in bfloat16, judged by what PyTorch itself in bfloat16 is off by from float64.

The floors are of that precision: per cents, not parts in a million. Points are those that the float32 pass compared as they are, for a
boundary that differs is verified in float32 alone.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import torch
from mlx.utils import tree_flatten, tree_unflatten

from mlxport import align, alone, scenarios, tasks, vision, write
from mlxport.check.parts import experts_of, known, told_of
from mlxport.port import Port
from mlxport.reference import Reference, alone_paths, isolated

if TYPE_CHECKING:
    from mlxport.check.run import Checked

# What `mlxport check` believes at most; PyTorch's own floor may be larger, and then it is the one that counts.
LARGEST = 1e-2


def run(checked: Checked) -> dict[str, Any]:
    """The whole sequence at once, and each module alone."""
    made, first = checked.made, checked.first()
    if tasks.of(made.config.get("model_type")) is not None:
        raise scenarios.CannotRun("in bfloat16 only models that read text are run")
    if experts_of(made.config):
        raise scenarios.CannotRun("the model routes tokens to experts: in bfloat16 a choice hangs on rounding")
    reference = Reference(narrowed(made.reference.model), made.reference.exact, made.reference.config)
    sides = checked.sides_of(checked.fed, keep_args=True, reference=reference)
    instead = alone.Instead(sides.run, made.mapping.port_of, alone_paths(reference))
    extra = vision.for_port(checked.fed, str(made.config.get("model_type")))
    with in_bfloat16(made.port):
        fed = scenarios.prefill(made.port, checked.ids, instead, extra)
    whole = as_they_are(align.aligned(sides, fed.run, fed.lengths), first)
    results = isolated(reference, sides.run)
    by_itself = alone.aligned(sides, fed.alone or fed.run, results, whole, fed.failed or {})
    if whole.find("logits#0.out") is None:
        raise scenarios.CannotRun(
            "a boundary around the logits differs: what stands there is verified in float32 alone"
        )
    for name, found in (("bf16", whole), ("bf16-isolated", as_they_are(by_itself, first))):
        torch_said, port_said = (told_of(side, made.port.name, dtype="bf16") for side in ("torch", "mlx"))
        write.reference(checked.out / f"{name}-reference", found, checked.fed, torch_said, largest=LARGEST)
        write.candidate(checked.out / name, found, checked.fed, port_said)
    return {
        "reference": "bf16-reference",
        "candidate": "bf16",
        "isolated": ["bf16-isolated-reference", "bf16-isolated"],
        "missing": whole.missing,
        "boundaries": whole.boundaries,
        "logits_only": True,
    }


def as_they_are(found: align.Aligned, first: align.Aligned) -> align.Aligned:
    """Only the points that the float32 pass has, without those where a boundary was undone."""
    moved = {boundary["point"] for boundary in first.boundaries}
    found = known(found, first)
    found.pairs = [pair for pair in found.pairs if pair.name not in moved]
    return found


def narrowed(model: torch.nn.Module) -> torch.nn.Module:
    """The model with its parameters and what it saves in bfloat16; tables that it works out itself stay as they are."""
    made = copy.deepcopy(model)
    saved = set(made.state_dict())
    with torch.no_grad():
        for _, parameter in made.named_parameters():
            parameter.data = parameter.data.bfloat16()
        for path, module in made.named_modules():
            for name, buffer in module._buffers.items():
                if buffer is not None and buffer.is_floating_point() and f"{path}.{name}".strip(".") in saved:
                    module._buffers[name] = buffer.bfloat16()
    return made


@contextlib.contextmanager
def in_bfloat16(port: Port) -> Iterator[None]:
    """The port's parameters in bfloat16 for a while, but for those that it keeps wide itself."""
    kept: Any = tree_flatten(port.model.parameters())
    cast = getattr(port.model, "cast_predicate", lambda _name: True)
    narrow = [
        (name, array.astype(mx.bfloat16) if mx.issubdtype(array.dtype, mx.floating) and cast(name) else array)
        for name, array in kept
    ]
    port.model.update(tree_unflatten(narrow))
    try:
        yield
    finally:
        port.model.update(tree_unflatten(kept))
