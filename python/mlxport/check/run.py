"""One check from end to end: reference, port, scenarios, recordings."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1" if os.environ.get("HF_HUB_OFFLINE") else "0")

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402

from mlxport import align, alone, hints, invariants, scenarios, session, vision, write  # noqa: E402
from mlxport import port as ports  # noqa: E402
from mlxport.causes import config_value  # noqa: E402
from mlxport.reference import Passes, alone_paths, isolated, passes  # noqa: E402

# A prime: no axis of a model has this size, so none can be taken for the length.
LENGTH = 61


class InputError(Exception):
    """Nothing can be compared: what was given is unusable."""


def say(text: str) -> None:
    """Progress, for people."""
    print(text, file=sys.stderr, flush=True)


def run(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs the check; what check.json says. Recordings go below `args.out`."""
    began = time.monotonic()
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        torch.set_num_threads(max(1, min(4, cores)))
    torch.manual_seed(0)
    names = wanted(args.scenarios)
    port = args.port or default_port(args)
    base = {"schema": 1, "model": args.model or args.model_type, "port": port, "made_by": made_by(port)}
    made = _prepare(args, port, work)
    if isinstance(made, ports.PortError):
        return {
            **base,
            "refused": str(made),
            "scenarios": {},
            "leaves": [],
            "unmapped": [],
            "findings": [],
            "hints": [],
        }
    say(f"prepared in {time.monotonic() - began:.1f} s: {len(made.mapping.port_of)} modules found by content")
    checked = Checked(made, args.out, fed_to(made, args))
    for name in names:
        started = time.monotonic()
        checked.scenario(name)
        say(f"{name}: {checked.said[name]['status']} ({time.monotonic() - started:.1f} s)")
    return {**base, **checked.summary()}


def default_port(args: argparse.Namespace) -> str:
    """mlx-vlm for models with pictures, else mlx-lm."""
    if args.model_type:
        return "mlx-vlm" if args.model_type in vision.TYPES else "mlx-lm"
    file = Path(args.model) / "config.json"
    held = json.loads(file.read_text()) if file.is_file() else {}
    return "mlx-vlm" if vision.has_pictures(held) else "mlx-lm"


def _prepare(args: argparse.Namespace, port: str, work: Path) -> session.Session | ports.PortError:
    as_saved = args.config == "as-saved"
    try:
        if args.model_type:
            return session.prepare_random(args.model_type, port, work, args.seed, as_saved=as_saved)
        place = Path(args.model)
        if not place.exists():
            from huggingface_hub import snapshot_download

            place = Path(snapshot_download(args.model))
        return session.prepare_directory(place, port, work, as_saved=as_saved, trust=args.trust_remote_code)
    except ports.PortError as error:
        return error
    except (ValueError, OSError, KeyError, ImportError, AttributeError) as error:
        raise InputError(f"the reference could not be made: {type(error).__name__}: {error}") from error


def wanted(text: str) -> list[str]:
    """The scenarios of a list, in order; an unknown one is an InputError."""
    names: list[str] = (
        list(scenarios.ALL) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]
    )
    unknown = [name for name in names if name not in scenarios.ALL]
    if unknown or not names:
        raise InputError(
            f"--scenarios: {', '.join(unknown) or 'none given'}; known: {', '.join(scenarios.ALL)}, or all"
        )
    return names


def made_by(port: str) -> str:
    """Which versions ran."""
    packages = ["mlx", *([port] if port in ("mlx-lm", "mlx-vlm") else [])]
    return ", ".join(f"{'MLX' if name == 'mlx' else name} {version(name)}" for name in packages)


def fed_to(made: session.Session, args: argparse.Namespace) -> dict[str, np.ndarray]:
    """The PyTorch model's arguments: LENGTH tokens that are drawn, or pictures among text."""
    if vision.has_pictures(made.config):
        return vision.inputs(made.config, args.seed)
    size = int(made.config.get("vocab_size") or 199)
    generator = np.random.default_rng(args.seed + 1)
    ids = generator.integers(3, max(4, min(size, 1 << 16)), size=(1, LENGTH), dtype=np.int64)
    return {"input_ids": ids}


class Checked:
    """The scenarios of one session, and what each left."""

    def __init__(self, made: session.Session, out: Path, fed: dict[str, np.ndarray]) -> None:
        self.made, self.out, self.fed, self.ids = made, out, fed, fed["input_ids"]
        self.said: dict[str, dict[str, Any]] = {}
        self._passes: Passes | None = None
        self._sides: align.Sides | None = None
        self._first: align.Aligned | None = None
        self._alone: align.Aligned | None = None
        self._hints: list[dict[str, Any]] = []
        self._broken: list[str] = []

    def scenario(self, name: str) -> None:
        """Runs one; a port that cannot is told, not failed."""
        try:
            self.said[name] = {"status": "ran", **_RUN[name](self)}
        except scenarios.CannotRun as error:
            self.said[name] = {"status": "not_run", "reason": str(error)}
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001 a port may fail in any way
            if name == "prefill":
                raise InputError(f"the whole pass could not be run: {type(error).__name__}: {error}") from error
            self.said[name] = {"status": "broke", "reason": f"{type(error).__name__}: {error}"}

    def sides(self) -> align.Sides:
        """PyTorch's passes over the sequence, once."""
        if self._sides is None:
            self._sides = self.sides_of(self.fed, keep_args=True)
        return self._sides

    def sides_of(self, fed: dict[str, np.ndarray], *, keep_args: bool = False) -> align.Sides:
        """PyTorch's passes over a sequence."""
        made = self.made
        done = passes(made.reference, {n: torch.from_numpy(a) for n, a in fed.items()}, keep_args=keep_args)
        kinds = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
        require_choices(done, experts_of(made.config))
        convolutions = {path for path, module in made.reference.paths().items() if isinstance(module, kinds)}
        return align.Sides(
            done.run,
            done.truth,
            done.runtime,
            made.mapping,
            made.reference.leaves(),
            convolutions,
            experts_of(made.config),
        )

    def first(self) -> align.Aligned:
        """The points of the whole pass, which other scenarios are laid beside."""
        if self._first is None:
            self.prefill()
        assert self._first is not None
        return self._first

    def prefill(self) -> dict[str, Any]:
        """The whole sequence at once, and each module alone."""
        sides = self.sides()
        instead = alone.Instead(sides.run, self.made.mapping.port_of, alone_paths(self.made.reference))
        fed = scenarios.prefill(
            self.made.port, self.ids, instead, vision.for_port(self.fed, str(self.made.config.get("model_type")))
        )
        self._first = align.aligned(sides, fed.run, fed.lengths)
        results = isolated(self.made.reference, sides.run)
        self._alone = alone.aligned(sides, fed.alone or fed.run, results, self._first, fed.failed or {})
        inputs = self.fed
        write.reference(self.out / "reference", self._first, inputs, self._said("torch"))
        write.candidate(self.out / "prefill", self._first, inputs, self._said("mlx"))
        write.reference(self.out / "reference-isolated", self._alone, inputs, self._said("torch"))
        write.candidate(self.out / "prefill-isolated", self._alone, inputs, self._said("mlx"))
        self._hints.extend(hints.found(self.made, sides, fed.run, self._first, self._alone))
        return {
            "reference": "reference",
            "candidate": "prefill",
            "isolated": ["reference-isolated", "prefill-isolated"],
            "missing": self._first.missing,
            "missing_isolated": self._alone.missing,
            "boundaries": self._first.boundaries,
            "layouts": layouts(self._first),
        }

    def over_cache(self, name: str, feed: Callable[[ports.Port, np.ndarray], scenarios.Fed]) -> dict[str, Any]:
        """A scenario that feeds the same sequence in pieces."""
        self._same_whole()
        first = self.first()
        fed = feed(self.made.port, self.ids)
        found = align.aligned(self.sides(), fed.run, fed.lengths)
        known = {pair.name for pair in first.pairs}
        found.pairs = [pair for pair in found.pairs if pair.name in known]
        if found.find("logits#0.out") is None:
            raise ValueError("the logits of the pieces cannot be laid beside those of the whole")
        write.candidate(self.out / name, found, {"input_ids": self.ids}, self._said("mlx"))
        return {"reference": "reference", "candidate": name, "missing": found.missing, "boundaries": found.boundaries}

    def _same_whole(self) -> None:
        if len(self.fed) > 1:
            raise scenarios.CannotRun("pictures over a cache are not run yet")
        kind = str((config_value(self.made.config, "rope_scaling") or {}).get("type", ""))
        if kind in ("dynamic", "longrope"):
            raise scenarios.CannotRun(f"with {kind} rope PyTorch's own result depends on how it is fed")

    def batch(self) -> dict[str, Any]:
        """Two sequences of unequal lengths, each judged by PyTorch's of it alone."""
        self._same_whole()
        other = self.ids[:, ::-1][:, : self.ids.shape[1] - 24].copy()
        rows = [self.ids, other]
        logits = scenarios.batch(self.made.port, rows)
        return self._logits_only("batch", rows, logits)

    def long(self) -> dict[str, Any]:
        """Past the window and past the original rope length."""
        if len(self.fed) > 1:
            raise scenarios.CannotRun("long sequences with pictures are not run yet")
        limit = int(config_value(self.made.config, "max_position_embeddings") or 128)
        length = 2 * limit + 1 if limit <= 256 else 521
        if not config_value(self.made.config, "rope_parameters") and limit <= 256:
            length = min(length, limit)
        generator = np.random.default_rng(7)
        ids = generator.integers(3, max(4, int(self.ids.max())), size=(1, length), dtype=np.int64)
        fed = scenarios.prefill(self.made.port, ids)
        logits = fed.run.find("logits")
        assert logits is not None
        return self._logits_only("long", [ids], [logits.returned[0]])

    def _logits_only(self, name: str, rows: list[np.ndarray], logits: list[np.ndarray]) -> dict[str, Any]:
        found = align.Aligned()
        for nth, (row, theirs) in enumerate(zip(rows, logits, strict=True)):
            sides = self.sides_of({"input_ids": row})
            three = [side.find("logits") for side in (sides.run, sides.truth, sides.runtime)]
            ours, truth, runtime = (call.returned[0] for call in three if call is not None)
            found.pairs.append(align.Pair("logits", nth, "out", ours, truth, runtime, theirs.reshape(ours.shape)))
        inputs = {f"input_ids_{nth}": row for nth, row in enumerate(rows)}
        write.reference(self.out / f"{name}-reference", found, inputs, self._said("torch"))
        write.candidate(self.out / name, found, inputs, self._said("mlx"))
        return {
            "reference": f"{name}-reference",
            "candidate": name,
            "missing": {},
            "boundaries": [],
            "logits_only": True,
        }

    def invariants(self) -> dict[str, Any]:
        """What must hold of the port alone."""
        self._broken = invariants.broken(self.made)
        return {"broken": self._broken}

    def _said(self, side: str) -> dict[str, Any]:
        where = {
            "os": platform.system().lower(),
            "arch": platform.machine(),
            "dtype": "f32",
            "threads": torch.get_num_threads(),
        }
        if side == "torch":
            import transformers

            return {
                "torch": torch.__version__,
                "made_by": f"PyTorch {torch.__version__}, transformers {transformers.__version__}",
                "environment": {**where, "device": "cpu"},
                "truth_dtype": "float64",
            }
        device = "gpu" if mx.default_device().type == mx.DeviceType.gpu else "cpu"
        return {
            "made_by": made_by(self.made.port.name),
            "environment": {
                **where,
                "mlx": version("mlx"),
                "device": device,
                "tf32": os.environ.get("MLX_ENABLE_TF32", "unset"),
            },
        }

    def summary(self) -> dict[str, Any]:
        """The rest of check.json."""
        mapping = self.made.mapping
        unmapped = [{"side": "pytorch", "name": path, "reason": why} for path, why in mapping.left.items()]
        unmapped += [
            {"side": "pytorch", "name": name, "reason": "the port dropped this parameter"} for name in mapping.dropped
        ]
        unmapped += [
            {"side": "port", "name": name, "reason": "made of nothing that was loaded"} for name in mapping.made_up
        ]
        findings = list(self.made.findings)
        findings += [{"kind": "dropped", "field": name, "what": f"the port dropped {name}"} for name in mapping.dropped]
        return {
            "scenarios": self.said,
            "leaves": leaves(self),
            "unmapped": unmapped,
            "findings": findings,
            "config": self.made.told,
            "hints": self._hints,
        }


def require_choices(done: Passes, experts: int) -> None:
    """An InputError where a router's choice hangs on rounding: such an input says nothing about a port."""
    for call in done.run.calls:
        exact = done.truth.find(call.path, call.number)
        ours, right = align.dense(call.returned, experts), align.dense(exact.returned, experts) if exact else None
        if ours is not None and right is not None and ((ours != 0) != (right != 0)).any():
            raise InputError(f"{call.path}: float32 and float64 PyTorch choose other experts; take another --seed")


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
    """Every output of a leaf module: compared itself, or judged at the next point that both sides have, or neither."""
    sides = checked.sides()
    first = checked.first()
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


_RUN: dict[str, Callable[[Checked], dict[str, Any]]] = {
    "prefill": Checked.prefill,
    "decode": lambda c: c.over_cache("decode", scenarios.decode),
    "chunked": lambda c: c.over_cache("chunked", scenarios.chunked),
    "resume": lambda c: c.over_cache("resume", scenarios.resume),
    "batch": Checked.batch,
    "long": Checked.long,
    "invariants": Checked.invariants,
}
