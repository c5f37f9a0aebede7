"""Parts of a check that need no model: what was asked, what counts, what is left out."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import torch

from mlxport import align, battery, class_file, compiler, scenarios, session, tasks, vision
from mlxport import port as ports
from mlxport.causes import config_value
from mlxport.check.inputs import InputError
from mlxport.reference import Passes

if TYPE_CHECKING:
    from mlxport.check.run import Checked

# A prime: no axis of a model has this size, so none can be taken for the length.
LENGTH = 61
# No sequence is longer. MLX multiplies matrices at a few GFLOP/s on a CPU: a thousand tokens of a trained model take minutes.
LONGEST = 521


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def fields_of(given: list[str]) -> dict[str, Any]:
    """`NAME=VALUE` each: fields of a small model's config; VALUE is JSON, or else text."""
    fields: dict[str, Any] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not name or not equals:
            raise InputError(f"--set {one}: expected NAME=VALUE, the value as JSON: rope_theta=5e5")
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields


def wanted(text: str, dtype: str = "f32") -> list[str]:
    """The scenarios of a list, in order, and that of the dtype; an unknown one is an InputError."""
    given = [name.strip() for name in text.split(",") if name.strip()]
    names = [name for one in given for name in (battery.ALL if one == "all" else (one,))]
    unknown = [name for name in names if name not in (*battery.ALL, *battery.ASKED)]
    if unknown or not names:
        raise InputError(
            f"--scenarios: {', '.join(unknown) or 'none given'}; known: {', '.join((*battery.ALL, *battery.ASKED))}, or all"
        )
    return names + [dtype] if dtype in battery.ASKED and dtype not in names else names


def require_choices(done: Passes, experts: int) -> None:
    """An InputError where a router's choice hangs on rounding: such an input says nothing about a port."""
    for call in done.run.calls:
        exact = done.truth.find(call.path, call.number)
        ours, right = align.dense(call.returned, experts), align.dense(exact.returned, experts) if exact else None
        if ours is not None and right is not None and ((ours != 0) != (right != 0)).any():
            raise InputError(f"{call.path}: float32 and float64 PyTorch choose other experts; take another --seed")


def require_same_whole(config: dict[str, Any]) -> None:
    """CannotRun where PyTorch's own result of a sequence depends on the pieces that it is fed in."""
    scaling = config_value(config, "rope_scaling") or {}
    kind = str(scaling.get("type", ""))
    alike = kind == "longrope" and scaling.get("short_factor") == scaling.get("long_factor")
    if kind in ("dynamic", "longrope") and not alike:
        raise scenarios.CannotRun(f"with {kind} rope PyTorch's own result depends on how it is fed")


def layouts(found: align.Aligned) -> dict[str, list[str]]:
    """Which rule was needed where."""
    by_rule: dict[str, list[str]] = {}
    for name, rule in found.rules.items():
        by_rule.setdefault(rule, []).append(name)
    return by_rule


def experts_of(config: dict[str, Any]) -> int:
    """How many routed experts a layer has; 0 without."""
    held = config.get("text_config") or config
    return next((int(held[n]) for n in ("n_routed_experts", "num_experts", "num_local_experts") if held.get(n)), 0)


def leaves(checked: Checked) -> list[dict[str, Any]]:
    """Every output of a leaf module: compared itself, or judged at the next point that both sides have, or neither.

    Nothing where the port broke in the whole pass, which is a failure of its own.
    """
    sides = checked.sides()
    try:
        first = checked.first()
    except scenarios.Broke:
        return []
    compared = {pair.name for pair in first.pairs}
    wanted = set(sides.leaves)
    found = []
    for call in sides.run.calls:
        if call.path not in wanted:
            continue
        name = f"{call.path}#{call.number}.out"
        entry: dict[str, Any] = {"point": call.path, "call": call.number}
        if name not in compared:
            entry["reason"] = first.missing.get(f"{call.path}#{call.number}") or checked.made.mapping.left.get(
                call.path, "not recorded"
            )
            judge = judged_at(call.path, compared)
            if judge and "dropped" not in entry["reason"]:
                entry["judged_at"] = judge
        found.append(entry)
    return found


def judged_at(path: str, compared: set[str]) -> str | None:
    """The nearest enclosing module whose output is compared, else the logits: what a leaf computes goes through there."""
    owner = path.rpartition(".")[0]
    while owner:
        if f"{owner}#0.out" in compared:
            return f"{owner}#0.out"
        owner = owner.rpartition(".")[0]
    return "logits#0.out" if "logits#0.out" in compared else None


def unmapped_of(checked: Checked) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What of either side the other has not, and the findings that some of it is.

    A task runs one part of PyTorch's model; what lies beside it is none of the port's. Nor is, of a port that reads text alone, what
    only pictures go through.
    """
    made, mapping = checked.made, checked.made.mapping
    heard: set[str] | None = None
    if not made.sees() and vision.has_pictures(made.config):
        heard = {path[:end] for path in (c.path for c in checked.sides().run.calls) for end in _ends(path)}
    task = tasks.of(made.config.get("model_type"))
    part = f"{task.part}." if task is not None and task.part else ""
    asked = lambda path: path.startswith(part) and (heard is None or path in heard)  # noqa: E731
    dropped = [name for name in mapping.dropped if asked(name.rpartition(".")[0] or name)]
    unmapped = [{"side": "pytorch", "name": path, "reason": why} for path, why in mapping.left.items() if asked(path)]
    unmapped += [{"side": "pytorch", "name": name, "reason": "the port dropped this parameter"} for name in dropped]
    unmapped += [
        {"side": "port", "name": name, "reason": "made of nothing that was loaded"} for name in mapping.made_up
    ]
    return unmapped, [{"kind": "dropped", "field": name, "what": f"the port dropped {name}"} for name in dropped]


def _ends(path: str) -> list[int]:
    """Where the path and those of the modules around it end."""
    return [at for at, letter in enumerate(path) if letter == "."] + [len(path)]


def of_pytorch(error: BaseException) -> bool:
    """Whether an error was raised while PyTorch's side was run: it says nothing about the port."""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__", "").split(".")[0] in ("torch", "transformers"):
            return True
        trace = trace.tb_next
    return False


def known(found: align.Aligned, first: align.Aligned) -> align.Aligned:
    """Only the points that the whole pass has: what could not be laid beside PyTorch's there cannot be here."""
    known = {pair.name for pair in first.pairs}
    found.pairs = [pair for pair in found.pairs if pair.name in known]
    return found


def default_port(args: argparse.Namespace) -> str:
    """mlx-vlm for models with pictures, else mlx-lm."""
    if args.reference:
        raise InputError("--reference is held against a port in a file: --port FILE.py:Class")
    task = tasks.of(args.model_type)
    if task is not None:
        return task.port_name
    if args.model_type:
        return "mlx-vlm" if args.model_type in vision.TYPES else "mlx-lm"
    file = Path(args.model) / "config.json"
    held = json.loads(file.read_text()) if file.is_file() else {}
    return "mlx-vlm" if vision.has_pictures(held) else "mlx-lm"


def made_by(port: str) -> str:
    """Which versions ran."""
    packages = ["mlx", *([port] if port in ports.PACKAGES else [])]
    return ", ".join(f"{'MLX' if name == 'mlx' else name} {version(name)}" for name in packages)


def told_of(side: str, port: str, dtype: str = "f32") -> dict[str, Any]:
    """What a recording says of how it was made: `torch`'s side, or the port's."""
    where = {
        "os": platform.system().lower(),
        "arch": platform.machine(),
        "dtype": dtype,
        "threads": torch.get_num_threads(),
    }
    if side == "torch":
        return {
            "torch": torch.__version__,
            "made_by": f"PyTorch {torch.__version__}, transformers {version('transformers')}",
            "environment": {**where, "device": "cpu"},
            "truth_dtype": "float64",
        }
    device = "gpu" if mx.default_device().type == mx.DeviceType.gpu else "cpu"
    tf32 = os.environ.get("MLX_ENABLE_TF32", "unset")
    return {
        "made_by": made_by(port),
        "environment": {**where, "mlx": version("mlx"), "device": device, "tf32": tf32},
    }


def long_length(config: dict[str, Any], *, large: bool) -> int:
    """Past the window and, where rope is used, past the original rope length; of a large model past the window, if that is near."""
    limit = int(config_value(config, "max_position_embeddings") or 128)
    if large:
        window = int(config_value(config, "sliding_window") or 0)
        length = window + LENGTH if 2 * LENGTH < window + LENGTH <= LONGEST else 2 * LENGTH + 9
        return length if config_value(config, "rope_parameters") else min(length, limit)
    length = 2 * limit + 1 if limit <= 256 else LONGEST
    return length if config_value(config, "rope_parameters") or limit > 256 else min(length, limit)


def unequal(ids: np.ndarray, length: int) -> list[np.ndarray]:
    """Two sequences of so many tokens and of fewer, made of one."""
    long = np.concatenate([ids] * (length // ids.shape[1] + 1), axis=1)[:, :length]
    return [long, long[:, ::-1][:, : length - 24].copy()]


def texts(rows: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Sequences of text as the PyTorch model is fed them."""
    return [{"input_ids": row} for row in rows]


def prepare(args: argparse.Namespace, port: str, work: Path) -> session.Session | ports.PortError:
    """Reference and port; what the port's loader refuses is a PortError, returned."""
    form = args.config
    try:
        if args.reference:
            return session.prepare_own(args.reference, port, work, args.seed)
        if args.model_type:
            return session.prepare_random(args.model_type, port, work, args.seed, form=form, fields=fields_of(args.set))
        place = Path(args.model)
        if not place.exists():
            place = _from_hub(args.model)
        return session.prepare_directory(place, port, work, form=form, trust=args.trust_remote_code)
    except (ports.Unusable, class_file.NoSuchClass) as error:
        raise InputError(str(error)) from error
    except ports.PortError as error:
        return error
    except (InputError, compiler.NoCompiler):
        raise
    except Exception as error:
        if not isinstance(error, (ValueError, OSError, KeyError, ImportError, AttributeError)) and not of_pytorch(
            error
        ):
            raise
        raise InputError(f"the reference could not be made: {type(error).__name__}: {error}") from error


def _from_hub(name: str) -> Path:
    """A release, downloaded into the hub's own cache."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name))
    except Exception as error:  # noqa: BLE001 the network, the hub and the name may all be at fault
        raise InputError(f"{name}: no such directory here, and the hub did not give it: {error}") from error


def fed_to(made: session.Session, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The PyTorch model's arguments: LENGTH tokens that are drawn, or pictures among text."""
    task = tasks.of(made.config.get("model_type"))
    if task is not None:
        return task.inputs(made.config, np.random.default_rng(args.seed + 1))
    if made.sees():
        return vision.inputs(made.config, args.seed)
    if vision.has_pictures(made.config):
        return {"input_ids": vision.text(made.config, LENGTH)}
    size = int(made.config.get("vocab_size") or 199)
    generator = np.random.default_rng(args.seed + 1)
    ids = generator.integers(3, max(4, min(size, 1 << 16)), size=(1, LENGTH), dtype=np.int64)
    return {"input_ids": ids}
