"""One check from end to end: reference, port, scenarios, recordings."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1" if os.environ.get("HF_HUB_OFFLINE") else "0")

import mlx.core as mx  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from mlxport import (
    align,
    alone,
    battery,
    cache_causes,
    compiler,
    hints,
    invariants,
    looks,
    pictures,
    quantized,
    scenarios,
    session,
    tasks,
    vision,
    write,
)  # noqa: E402
from mlxport import port as ports  # noqa: E402
from mlxport.check import half  # noqa: E402
from mlxport.check.inputs import InputError, require_model  # noqa: E402
from mlxport.check.parts import (  # noqa: E402
    LENGTH,
    default_port,
    experts_of,
    fed_to,
    known,
    layouts,
    leaves,
    long_length,
    made_by,
    of_pytorch,
    prepare,
    require_choices,
    require_same_whole,
    say,
    texts,
    told_of,
    unequal,
    unmapped_of,
    wanted,
)
from mlxport.heard import Fed  # noqa: E402
from mlxport.reference import Reference, alone_paths, is_large, isolated, passes  # noqa: E402

# Longer than the pieces that ports cut state-space layers' sequences into (256).
CARRIED = 307


def run(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Runs the check; what check.json says. Recordings go below `args.out`. Where nothing can be said of the port: InputError."""
    try:
        return session.tagged(_run(args, work))
    except compiler.NoCompiler as error:
        raise InputError(str(error)) from error


def _run(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    began = time.monotonic()
    if "OMP_NUM_THREADS" not in os.environ:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2
        torch.set_num_threads(max(1, min(4, cores)))
    torch.manual_seed(0)
    names = wanted(args.scenarios, args.dtype)
    if args.model:
        require_model(args.model, trust=args.trust_remote_code)
    transformers.utils.logging.disable_progress_bar()
    port = args.port or default_port(args)
    base = {
        "schema": 1,
        "model": args.model or args.model_type or args.reference,
        "port": port,
        "made_by": made_by(port),
    }
    made = prepare(args, port, work)
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
    checked = Checked(made, args.out, fed_to(made, args), args.seed)
    for name in names:
        started = time.monotonic()
        checked.scenario(name)
        say(f"{name}: {checked.said[name]['status']} ({time.monotonic() - started:.1f} s)")
    said = checked.summary()
    if args.quantized is not None:
        said["findings"].append(quantized.found(made, args.model, Path(args.quantized)))
    return {**base, **said}


class Checked:
    """The scenarios of one session, and what each left."""

    def __init__(self, made: session.Session, out: Path, fed: dict[str, np.ndarray], seed: int = 0) -> None:
        self.made, self.out, self.fed, self.seed = made, out, fed, seed
        # A model that reads no text has one position.
        self.ids = fed.get("input_ids", np.zeros((1, 1), np.int64))
        self.said: dict[str, dict[str, Any]] = {}
        self._logits: dict[bytes, align.Sides] = {}
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
        except (scenarios.Broke, ports.NoCaches) as error:
            self.said[name] = {"status": "broke", "reason": str(error)}
        except (InputError, compiler.NoCompiler):
            raise
        except Exception as error:  # noqa: BLE001 a port may fail in any way
            compiler.require(error)
            if name == "prefill" or of_pytorch(error):
                raise InputError(f"the whole pass could not be run: {type(error).__name__}: {error}") from error
            self.said[name] = {"status": "broke", "reason": f"{type(error).__name__}: {error}"}

    def sides(self) -> align.Sides:
        """PyTorch's passes over the sequence, once."""
        if self._sides is None:
            self._sides = self.sides_of(self.fed, keep_args=True)
        return self._sides

    def sides_of(self, fed: dict[str, np.ndarray], *, reference: Reference | None = None, **how: bool) -> align.Sides:
        """PyTorch's passes over a sequence; `how` as `passes` takes it."""
        made = self.made
        how = {"keep_args": False, **how}
        done = passes(reference or made.reference, {n: torch.from_numpy(a) for n, a in fed.items()}, **how)
        kinds = torch.nn.modules.conv._ConvNd
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
            vision.places(fed, made.config),
        )

    def _logits_of(self, fed: dict[str, np.ndarray]) -> align.Sides:
        """PyTorch's logits of a sequence, once: of a large model a pass takes long."""
        if fed.keys() == self.fed.keys() and all(np.array_equal(fed[name], self.fed[name]) for name in fed):
            return self.sides()
        key = b"".join(fed[name].tobytes() for name in sorted(fed))
        if key not in self._logits:
            self._logits[key] = self.sides_of(fed, logits_alone=True)
        return self._logits[key]

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
        kind, port = str(self.made.config.get("model_type")), self.made.port
        task = tasks.of(kind)
        if task is not None:
            fed = scenarios.once(port, lambda: task.port(port.model, self.fed), self.ids.shape[1], instead)
        else:
            fed = scenarios.prefill(port, self.ids, instead, vision.for_port(self.fed, kind))
        self._first = align.aligned(sides, fed.run, fed.lengths)
        results = isolated(self.made.reference, sides.run)
        self._alone = alone.aligned(sides, fed.alone or fed.run, results, self._first, fed.failed or {})
        if not self._alone.pairs:
            # A model without modules of its own: it was given PyTorch's inputs, and is what is alone.
            self._alone.pairs = [pair for pair in self._first.pairs if pair.point == "logits"]
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

    def over_cache(self, name: str, fed: Callable[[], Fed]) -> dict[str, Any]:
        """A scenario that feeds the same sequence in pieces."""
        self._same_whole()
        first = self.first()
        found = known(align.aligned(self.sides(), (done := fed()).run, done.lengths), first)
        if found.find("logits#0.out") is None:
            raise ValueError("the logits of the pieces cannot be laid beside those of the whole")
        write.candidate(self.out / name, found, self.fed, self._said("mlx"))
        return {
            "reference": "reference",
            "candidate": name,
            "missing": found.missing,
            "boundaries": found.boundaries,
            "hints": cache_causes.found(self.sides(), done, found, first),
        }

    def pieces(self, lengths: list[int], **how: Any) -> Fed:
        """The sequence in pieces; pictures are within the first of them, or the pieces are those of a prompt."""
        port = self.made.port
        if len(self.fed) == 1:
            return scenarios.pieces(port, lengths, lambda: scenarios.tokens(port, self.ids), **how)
        given = vision.for_port(self.fed, str(self.made.config.get("model_type")))
        prompt = sum(length for length in lengths if length > 1) or lengths[0]
        return scenarios.pieces(port, lengths, lambda: pictures.feeder(port, self.ids, given, prompt), **how)

    def steps(self) -> list[int]:
        """A prompt that holds all pictures, then one token at a time."""
        length = self.ids.shape[1]
        after = vision.text_after(self.fed, self.made.config) if len(self.fed) > 1 else scenarios.STEPS
        return scenarios.steps(length, min(scenarios.STEPS, after))

    def turns(self) -> dict[str, Any]:
        """Prompts and steps in turn over one cache."""
        self._text_only()
        return self.over_cache("turns", lambda: self.pieces(scenarios.turns(self.ids.shape[1])))

    def text(self) -> dict[str, Any]:
        """A model with pictures, fed text alone: a prompt, then steps."""
        if len(self.fed) == 1 or tasks.of(self.made.config.get("model_type")) is not None:
            raise scenarios.CannotRun("the model has no pictures beside text")
        ids = vision.text(self.made.config, LENGTH)
        port, lengths = self.made.port, scenarios.steps(LENGTH, 8)
        fed = scenarios.pieces(port, lengths, lambda: pictures.feeder(port, ids, {}, lengths[0]))
        return self._each("text", texts([ids]), [fed], filtered=False)

    def looks(self, name: str) -> dict[str, Any]:
        """Other pictures: PyTorch is given the same, and every point is compared."""
        if not self.made.sees() and vision.has_pictures(self.made.config):
            raise scenarios.CannotRun("the port reads no pictures")
        given = looks.fed(name, self.made.config, self.seed)
        try:
            sides = self.sides_of(given, logits_alone=self._large())
        except (ValueError, RuntimeError, IndexError, TypeError) as error:
            raise scenarios.CannotRun(f"PyTorch's model does not take such pictures: {error}") from error
        extra = vision.for_port(given, str(self.made.config.get("model_type")))
        fed = scenarios.prefill(self.made.port, given["input_ids"], None, extra)
        return self._each(name, [given], [fed], filtered=False, sides=[sides])

    def plain(self) -> dict[str, Any]:
        """Steps over caches that keep everything, where the port's own rotate."""
        self._same_whole()
        cache = scenarios.plain_caches(self.made.port)
        return self.over_cache("plain", lambda: self.pieces(self.steps(), cache=cache))

    def _same_whole(self) -> None:
        if tasks.of(self.made.config.get("model_type")) is not None:
            raise scenarios.CannotRun("the model is no language model: there is one way to feed it")
        require_same_whole(self.made.config)

    def _text_only(self) -> None:
        self._same_whole()
        if len(self.fed) > 1:
            raise scenarios.CannotRun("several sequences with pictures are not run yet")

    def batch(self) -> dict[str, Any]:
        """Two sequences of unequal lengths, each judged by PyTorch's of it alone."""
        self._text_only()
        rows = unequal(self.ids, self.ids.shape[1])
        return self._each("batch", texts(rows), scenarios.batch(self.made.port, rows, deaf=self._large()))

    def padded(self) -> dict[str, Any]:
        """Two prompts of unequal lengths, padded at the right, then steps; longer where states are carried in pieces."""
        self._text_only()
        carried = any(type(part).__name__ == "ArraysCache" for part in ports.caches(self.made.port))
        rows = unequal(self.ids, CARRIED if carried else self.ids.shape[1])
        return self._each("padded", texts(rows), scenarios.padded(self.made.port, rows, 4, deaf=self._large()))

    def long(self) -> dict[str, Any]:
        """Past the window and past the original rope length."""
        if tasks.of(self.made.config.get("model_type")) is not None or len(self.fed) > 1:
            raise scenarios.CannotRun("long sequences of anything but text are not run yet")
        length = long_length(self.made.config, large=self._large())
        generator = np.random.default_rng(7)
        ids = generator.integers(3, max(4, int(self.ids.max())), size=(1, length), dtype=np.int64)
        port = self.made.port
        call = lambda: ports.logits_of(port.model(mx.array(ids)))  # noqa: E731
        return self._each("long", texts([ids]), [scenarios.once(port, call, length, deaf=self._large())])

    def _large(self) -> bool:
        return is_large(self.made.reference)

    def _each(
        self,
        name: str,
        rows: list[dict[str, np.ndarray]],
        fed: list[Fed],
        *,
        filtered: bool = True,
        sides: list[align.Sides] | None = None,
    ) -> dict[str, Any]:
        """Each sequence judged by PyTorch's of it alone: at every point of a small model, at the logits of a large one.

        `filtered`: only at points that the whole pass has. `sides`: PyTorch's passes, where they were made already.
        """
        found = align.Aligned()
        large = self._large()
        first = self.first() if filtered and not large else None
        for nth, (row, theirs) in enumerate(zip(rows, fed, strict=True)):
            right = sides[nth] if sides else self._logits_of(row) if large else self.sides_of(row)
            one = align.aligned(right, theirs.run, theirs.lengths)
            one = one if first is None else known(one, first)
            if one.find("logits#0.out") is None:
                raise ValueError("the logits cannot be laid beside PyTorch's")
            for pair in one.pairs:
                pair.call = pair.call * len(rows) + nth
            found.pairs.extend(one.pairs)
            found.boundaries.extend(one.boundaries)
        inputs = {f"{what}_{nth}": array for nth, row in enumerate(rows) for what, array in row.items()}
        write.reference(self.out / f"{name}-reference", found, inputs, self._said("torch"))
        write.candidate(self.out / name, found, inputs, self._said("mlx"))
        return {
            "reference": f"{name}-reference",
            "candidate": name,
            "missing": {},
            "boundaries": found.boundaries,
            "logits_only": True,
        }

    def invariants(self) -> dict[str, Any]:
        """What must hold of the port alone."""
        self._broken = invariants.broken(self.made)
        return {"broken": self._broken}

    def _said(self, side: str) -> dict[str, Any]:
        return told_of(side, self.made.port.name)

    def summary(self) -> dict[str, Any]:
        """The rest of check.json."""
        unmapped, dropped = unmapped_of(self)
        findings = [*self.made.findings, *dropped]
        return {
            "scenarios": self.said,
            "leaves": leaves(self),
            "unmapped": unmapped,
            "findings": findings,
            "config": self.made.told,
            "hints": self._hints,
        }


_RUN: dict[str, Callable[[Checked], dict[str, Any]]] = {
    "prefill": Checked.prefill,
    "decode": lambda c: c.over_cache("decode", lambda: c.pieces(c.steps())),
    "chunked": lambda c: c.over_cache("chunked", lambda: c.pieces(scenarios.chunks(c.ids.shape[1]))),
    "turns": Checked.turns,
    "resume": lambda c: c.over_cache("resume", lambda: c.pieces(c.steps(), after_first=scenarios.saved_and_read)),
    "plain": Checked.plain,
    "text": Checked.text,
    "batch": Checked.batch,
    "padded": Checked.padded,
    "long": Checked.long,
    "bf16": half.run,
    **{name: lambda c, name=name: c.looks(name) for name in battery.LOOKS},
    "invariants": Checked.invariants,
}
