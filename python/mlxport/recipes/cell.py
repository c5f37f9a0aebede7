"""One type in one size: a release is made, converted by the peer and by mlxport, compared, run, audited."""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch

from mlxport import hubform, pictures, scenarios, session, small, vision
from mlxport import port as ports
from mlxport.atlas.mends import FINDINGS
from mlxport.atlas.mends.finding import of_type
from mlxport.check.run import LENGTH
from mlxport.heard import Run, relative_rms
from mlxport.invariants import differences as changed
from mlxport.mutants import copied
from mlxport.recipes import faults, mended, peers, sizes, tensors
from mlxport.recipes.covered import Covered
from mlxport.reference import Reference, build, passes

# As `mlxport check` judges: so many times the largest floor.
TIMES = 4.0
# Types whose every release has transformers 5's `rope_parameters`.
_NEW = ("glm_ocr", "mellum", "ministral3", "mistral4")
# One unit in the last place of float32, relative.
ULP = float(np.finfo(np.float32).eps)


@dataclass
class Cell:
    """What was found of one type in one size. `wrong` is empty where everything holds."""

    port: str
    model_type: str
    size: int
    wrong: list[str] = field(default_factory=list)
    tensors: int = 0
    compared: list[str] = field(default_factory=list)
    error: float | None = None
    tolerance: float | None = None
    audits: int = 0
    faults: list[dict[str, Any]] = field(default_factory=list)
    unlike: str | None = None
    text_alone: str | None = None
    kept: str | None = None


@dataclass
class Bench:
    """Where a cell is made, and with which program."""

    binary: str
    place: Path
    covered: Covered
    size: int
    cell: Cell
    recipes: Path | None = None

    def convert(self, source: str, target: str, *flags: str) -> subprocess.CompletedProcess[str]:
        """Converts a directory by the recipe that the program finds, or by the file of that type."""
        own = self.covered.recipe_in(self.recipes) if self.recipes else None
        named = ["--recipe", str(own)] if own else []
        return self.mlxport("convert", str(self.place / source), str(self.place / target), *flags, *named)

    def mlxport(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs the program."""
        return subprocess.run([self.binary, *arguments], capture_output=True, text=True, check=False)


def run(covered: Covered, size: int, args: argparse.Namespace, place: Path) -> Cell:
    """The whole cell, as the command line asks for it."""
    cell = Cell(covered.port, covered.model_type, size, unlike=covered.unlike, text_alone=covered.text_alone)
    bench = Bench(args.binary, place, covered, size, cell, args.recipes)
    release = Release(bench)
    release.save()
    for form in peers.FORMS:
        _converted(bench, form)
    if args.record is not None and size == 1:
        _recorded(bench, args.record)
    if cell.wrong:
        return cell
    _hub_config(bench)
    _loaded(bench, release)
    for form in peers.FORMS:
        _audited(bench, form)
    if not args.no_faults and not cell.wrong:
        _planted(bench, release)
    return cell


class Release:
    """The PyTorch model and the directories that hold it."""

    def __init__(self, bench: Bench) -> None:
        name, self.bench = bench.covered.model_type, bench
        self.pictures = bench.covered.port != "mlx-lm" and name in vision.TYPES
        self.config = sizes.config(name, bench.size, pictures=self.pictures)
        small.require_small(name, session.maker(self.config))
        self.reference = self.filled(seed=bench.size)
        own = self.config.model_type
        self.hub_type = f"{own} with pictures" if own in small.TEXT_PARTS and self.pictures else own
        self.hub: dict[str, Any] = {}

    def filled(self, seed: int) -> Reference:
        """The model with other numbers for each seed; float32 values, so that a cast shows how it rounds."""
        return build(session.maker(self.config), lambda model: small.fill(model, seed, rounded=False))

    def save(self) -> None:
        """`release` as transformers writes it, `hub` with the config in the form of older releases."""
        release, hub = self.bench.place / "release", self.bench.place / "hub"
        session.save_as_hub(self.reference.model, release, self.hub_type)
        for other in ("generation_config.json",):
            (release / other).unlink(missing_ok=True)
        shutil.copytree(release, hub)
        form = vision.hub_form(hubform.hub_form(session.whole(self.reference.config)))
        if self.bench.covered.model_type not in _NEW:
            for part in (form, form.get("text_config") or {}):
                part.pop("rope_parameters", None)
        self.hub = form
        session.write_config(hub, form)


def _converted(bench: Bench, form: str) -> None:
    """Both converters on one release; keys, shapes, dtypes and bits must agree."""
    ours, theirs = bench.place / f"ours-{form}", bench.place / f"peer-{form}"
    done = bench.convert("release", ours.name, *peers.FORMS[form][0])
    if done.returncode != 0:
        bench.cell.wrong.append(f"{form}: mlxport convert: {_short(done.stderr)}")
        return
    try:
        peers.convert(bench.covered.port, bench.place / "hub", theirs, form)
    except peers.PeerError as error:
        if "expected keys for mixed" not in str(error):
            bench.cell.wrong.append(f"{form}: {error}")
        return
    mine = tensors.read(ours)
    if form == "mixed" and (not bench.covered.mixed or tensors.has_own(tensors.read(bench.place / "ours-4bit"))):
        # The peer's mixtures forget what the model itself says of its routers; ours do not.
        return
    peers_own = tensors.read(theirs)
    if bench.covered.kept and fnmatch.filter(tensors.packed(peers_own), bench.covered.kept):
        for side in (mine, peers_own):
            side.leave_out(bench.covered.kept)
        bench.cell.kept = bench.covered.kept
    found = tensors.differences(mine, peers_own)
    bench.cell.wrong += [f"{form}: {text}" for text in found[: tensors.TOLD]]
    bench.cell.tensors = max(bench.cell.tensors, len(mine.tensors))
    bench.cell.compared.append(form)


def _recorded(bench: Bench, record: Path) -> None:
    """The release's config and shapes, and the shapes that the peer makes of them."""
    release, theirs = tensors.read(bench.place / "release"), tensors.read(bench.place / "peer-f32")
    shapes = {
        name: {key: held.tensors[key].shape for key in sorted(held.tensors)}
        for name, held in (("shapes", release), ("layout", theirs))
    }
    record.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"port": bench.covered.port, "config": release.config, **shapes}, separators=(",", ":"))
    (record / f"{bench.covered.model_type}.json").write_text(text + "\n")


def _hub_config(bench: Bench) -> None:
    """A config in the form of older releases gives the same tensors."""
    ours = bench.place / "ours-hub"
    done = bench.convert("hub", ours.name, "--dtype", "f32")
    if done.returncode != 0:
        bench.cell.wrong.append(f"hub config: mlxport convert: {_short(done.stderr)}")
        return
    found = tensors.differences(tensors.read(ours), tensors.read(bench.place / "ours-f32"))
    bench.cell.wrong += [f"hub config: {text}" for text in found[: tensors.TOLD]]


def _loaded(bench: Bench, release: Release) -> None:
    """The port loads ours strictly, changes nothing, and computes what PyTorch computes."""
    ours = bench.place / "ours-f32"
    try:
        port = ports.load(bench.covered.port, ours)
        hub = ports.load(bench.covered.port, bench.place / "ours-hub")
    except ports.PortError as error:
        bench.cell.wrong.append(f"the port refuses ours: {error}")
        return
    held: dict[str, mx.array] = {}
    for shard in sorted(ours.glob("model*.safetensors")):
        held.update(mx.load(str(shard)))  # type: ignore[arg-type]
    bench.cell.wrong += changed(held, ports.parameters(port.model))[: tensors.TOLD]
    bench.cell.wrong += unlike(port.arguments, hub.arguments)
    if bench.covered.mend:
        port = _mended(bench, ours) if bench.covered.port == "mlx-lm" else mended.mend(port, bench.covered.model_type)
    _logits(bench, release, port)


def unlike(saved: dict[str, Any], hub: dict[str, Any]) -> list[str]:
    """What a port reads otherwise of the config as transformers saves it than of that of older releases."""
    found = []
    for name, value in saved.items():
        other, leaf = hub.get(name), name.rpartition(".")[2]
        # A head's width that is left out is worked out alike; a rotation in sections has two names, and so has a part.
        derived = leaf == "head_dim" and None in (value, other) or leaf == "model_type" and _bare(value) == _bare(other)
        if leaf == "rope_scaling" and isinstance(value, dict) and isinstance(other, dict) and "mrope_section" in value:
            value, other = ({k: v for k, v in one.items() if k not in ("type", "rope_type")} for one in (value, other))
        if not derived and not session._same(value, other) and value != other:
            found.append(f"the config as saved gives {name} = {value!r}, the hub's {other!r}")
    return found


def _bare(model_type: Any) -> str:
    """The type of a whole of which this may be the part: transformers 5 says which part it is, ports do not."""
    return re.sub(r"_(text|vision)$", "", str(model_type))


def _mended(bench: Bench, ours: Path) -> ports.Port:
    """A copy of the port whose known fault is mended."""
    kind, found = bench.covered.model_type, of_type(FINDINGS, "mlx-lm", bench.covered.model_type)
    edits = [piece for one in found for piece in one.edits[f"models/{kind}.py"]]
    file = copied(kind, bench.place, "mended", edits)
    return ports.load(f"{file}:Model", ours)


def _logits(bench: Bench, release: Release, port: ports.Port) -> None:
    """The error against float64 PyTorch, and the largest of three floors."""
    fed = _fed(release)
    done = passes(release.reference, {n: torch.from_numpy(a) for n, a in fed.items()}, keep_args=False)
    heard = _heard(bench, release, port, fed).find("logits")
    run, truth, runtime = (side.find("logits") for side in (done.run, done.truth, done.runtime))
    assert heard is not None and run is not None and truth is not None and runtime is not None
    exact = truth.returned[0]
    floors = [relative_rms(side.returned[0], exact) for side in (run, runtime)]
    cell = bench.cell
    cell.tolerance = TIMES * max(*floors, ULP)
    cell.error = relative_rms(heard.returned[0].reshape(exact.shape), exact)
    if not cell.error <= cell.tolerance and not cell.unlike:
        cell.wrong.append(f"logits are {cell.error:.2e} off PyTorch's, {cell.tolerance:.2e} is allowed")


def _heard(bench: Bench, release: Release, port: ports.Port, fed: dict[str, np.ndarray]) -> Run:
    """What the port gives, fed as the port's own generation feeds it."""
    ids = fed["input_ids"]
    if not release.pictures:
        return scenarios.prefill(port, ids).run
    theirs, length = vision.for_port(fed, bench.covered.model_type), ids.shape[1]
    return scenarios.pieces(port, [length], lambda: pictures.feeder(port, ids, theirs, length), deaf=True).run


def _fed(release: Release) -> dict[str, np.ndarray]:
    if release.pictures:
        config = json.loads(json.dumps(session.whole(release.config), default=str))
        if release.bench.covered.text_alone:
            return {"input_ids": vision.text(config, LENGTH)}
        return vision.inputs(config, release.bench.size)
    size = int(release.config.vocab_size)
    generator = np.random.default_rng(release.bench.size + 1)
    return {"input_ids": generator.integers(3, size, size=(1, LENGTH), dtype=np.int64)}


def _audited(bench: Bench, form: str) -> None:
    """A right conversion passes, and nothing in it is alarming."""
    said = audit(bench, bench.place / f"ours-{form}")
    bench.cell.audits += 1
    alarms = [f for f in said.get("findings", []) if f["severity"] != "note"]
    if said.get("verdict") != "pass" or alarms:
        told = "; ".join(f"{f['kind']}: {f['detail']} ({', '.join(f['keys'][:3])})" for f in alarms[:3])
        bench.cell.wrong.append(f"audit of {form}: {told or said.get('error')}")


def audit(bench: Bench, directory: Path, *flags: str) -> dict[str, Any]:
    """What `mlxport audit --json` says of a directory; `exit` is how it ended."""
    done = bench.mlxport("audit", str(directory), str(bench.place / "release"), "--json", *flags)
    return {**json.loads(done.stdout or "{}"), "exit": done.returncode}


def _planted(bench: Bench, release: Release) -> None:
    """Every fault that the model has a place for; each must be named by key and kind."""
    other = bench.place / "other"
    session.save_as_hub(release.filled(seed=bench.size + 100).model, other, release.hub_type)
    done = bench.convert(other.name, "ours-other", "--dtype", "bf16")
    assert done.returncode == 0, done.stderr
    exact, others = (tensors.read(bench.place / name).tensors for name in ("ours-f32", "ours-other"))
    comes_from = sources(bench)
    for fault in faults.FAULTS:
        made = tensors.read(bench.place / f"ours-{fault.form}")
        made.exact, made.other = exact, others
        keys = fault.plant(made)
        if keys is None:
            continue
        # The directory's name says nothing of what is wrong.
        place = bench.place / "candidate"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        tensors.write_file(place / "model.safetensors", made.tensors)
        (place / "config.json").write_text(json.dumps(made.config, indent=1))
        said = audit(bench, place, *(["--strict"] if fault.minor else []))
        # What is missing has a name in the release alone.
        named = _names(said, fault, [*keys, *(source for key in keys for source in comes_from.get(key, []))])
        bench.cell.faults.append({"fault": fault.name, "keys": keys[:3], "named": named})
        if not named:
            told = [(f["kind"], f["keys"][:3]) for f in said.get("findings", [])[:4]]
            bench.cell.wrong.append(f"{fault.name} ({keys[0]}): exit {said['exit']}, the audit says {told}")


def sources(bench: Bench) -> dict[str, list[str]]:
    """The release's keys that each tensor of the right conversion is made of, as the audit says."""
    return {one["name"]: one["sources"] for one in audit(bench, bench.place / "ours-bf16")["matches"]}


def _names(said: dict[str, Any], fault: faults.Fault, keys: list[str]) -> bool:
    """Exit 1, every finding about the touched keys alone, and one of the fault's kinds among them."""
    found = said.get("findings", [])
    wanted = {faults.stem(key) for key in keys}
    kinds = {f["kind"] for f in found if wanted & {faults.stem(key) for key in f["keys"]}}
    strays = [f for f in found if f["severity"] != "note" and not wanted & {faults.stem(key) for key in f["keys"]}]
    return said["exit"] == 1 and bool(kinds & set(fault.kinds)) and not strays


def _short(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return " | ".join(lines[:4])[:600]
