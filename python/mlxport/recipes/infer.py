"""`python -m mlxport.recipes.infer`: recipes learned from examples, held against the converter they were learned from.

    python -m mlxport.recipes.infer [TYPE…] --out DIR [--binary PATH] [--jobs N] [--timeout SECONDS] [--keep]

Of every type that transformers and mlx-lm both have: small random models in two sizes, each converted by mlx-lm in float32.
`mlxport recipe infer` learns from the first pair alone, and from both. What it says is not believed: each recipe is used by `mlxport
convert` and what comes out is compared with mlx-lm's conversion, keys, shapes, dtypes and bits. A recipe that converts otherwise is wrong;
that one cannot be written is an answer. Exit code 1 where any is wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mlxport.atlas.cells import listed

# What is told of a type that makes no example: so many characters.
TOLD = 160


@dataclass
class Learned:
    """What came of one type.

    `both` and `first`: `identical`, `cannot` (with `why`), or `none` where no example could be made. `carried`: what the recipe of the first
    pair alone makes of the second size: `identical`, `refused` by the converter's checks, or `differs` (a guess that was wrong).
    """

    model_type: str
    both: str = "none"
    first: str = "none"
    carried: str = ""
    tensors: int = 0
    rows: int = 0
    why: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ambiguous: int = 0
    constants: list[str] = field(default_factory=list)


def learn(model_type: str, binary: str, place: Path) -> Learned:
    """One type: examples, recipes, conversions, comparisons."""
    found = Learned(model_type)
    sizes = []
    for size in (1, 2):
        try:
            sizes.append(_example(model_type, size, place / str(size)))
        except Exception as error:  # noqa: BLE001 a type that makes no example is told, whatever it was
            found.why.append(f"size {size}: {type(error).__name__}: {error}"[:TOLD])
    if not sizes:
        return found
    found.first, first = _infer(found, binary, sizes[:1], place / "first.toml")
    if len(sizes) == 2:
        found.both, recipe = _infer(found, binary, sizes, place / "both.toml")
        for at, example in enumerate(sizes):
            _held(found, binary, recipe, example, f"both, size {at + 1}")
        if first is not None:
            found.carried = _carried(binary, first, sizes[1])
    else:
        found.both = found.first
    _held(found, binary, first, sizes[0], "first")
    return found


def _example(model_type: str, size: int, place: Path) -> tuple[Path, Path]:
    """A release and mlx-lm's conversion of it."""
    from mlxport import hubform, session, small, vision
    from mlxport.recipes import peers, sizes

    release, mlx = place / "release", place / "mlx"
    if (place / "done").is_file():
        return release, mlx
    config = sizes.config(model_type, size, pictures=False)
    small.require_small(model_type, session.maker(config))
    model = session.maker(config)()
    small.fill(model, size, rounded=False)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    whole_type = model_type if config.model_type != model_type else None
    session.save_as_hub(model, release, whole_type or config.model_type)
    (release / "generation_config.json").unlink(missing_ok=True)
    form = vision.hub_form(hubform.hub_form(session.whole(config)))
    if whole_type:
        form = hubform.around_text(whole_type, form)
    session.write_config(release, form)
    peers.convert("mlx-lm", release, mlx, "f32")
    (place / "done").touch()
    return release, mlx


def _infer(found: Learned, binary: str, examples: list[tuple[Path, Path]], out: Path) -> tuple[str, Path | None]:
    """What `recipe infer` says of these pairs, and the recipe it wrote."""
    paths = [str(path) for pair in examples for path in pair]
    done = subprocess.run(
        [binary, "recipe", "infer", *paths, "--out", str(out), "--json"], capture_output=True, text=True, check=False
    )
    said: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    expected = {"identical": 0, "cannot": 1}.get(said.get("verdict", ""), 2)
    if done.returncode != expected or out.is_file() != (expected == 0) or expected == 2:
        found.wrong.append(f"infer ended with {done.returncode}: {(said.get('error') or done.stderr)[:TOLD]}")
        return "none", None
    if expected == 1:
        for unsaid in said["unsaid"]:
            line = f"{unsaid['key']} ({unsaid['count']}): {unsaid['why']}"
            if line not in found.why:
                found.why.append(line)
        return "cannot", None
    found.tensors, found.rows = said["identical"] // len(examples), said["rows"]
    found.ambiguous, found.constants = len(said["ambiguous"]), said["constants"]
    return "identical", out


def _converted(binary: str, recipe: Path, example: tuple[Path, Path]) -> tuple[list[str], str]:
    """What `convert` makes of the release by the recipe that mlx-lm does not; and what it said where it made nothing."""
    from mlxport.recipes import tensors

    release, mlx = example
    with tempfile.TemporaryDirectory() as temporary:
        ours = Path(temporary) / "ours"
        flags = ["--recipe", str(recipe), "--dtype", "f32"]
        done = subprocess.run(
            [binary, "convert", str(release), str(ours), *flags], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            return [], done.stderr or "nothing"
        return tensors.differences(tensors.read(ours), tensors.read(mlx)), ""


def _held(found: Learned, binary: str, recipe: Path | None, example: tuple[Path, Path], what: str) -> None:
    """A recipe that was called identical has to be."""
    if recipe is None:
        return
    differing, said = _converted(binary, recipe, example)
    found.wrong += [f"{what}: {line}" for line in ([said[:TOLD]] if said else differing[:3])]


def _carried(binary: str, recipe: Path, example: tuple[Path, Path]) -> str:
    """What a recipe learned from one size makes of another."""
    differing, said = _converted(binary, recipe, example)
    if said:
        return "refused"
    return "differs" if differing else "identical"


def _child(names: list[str], binary: str, out: Path, *, keep: bool) -> None:
    """One type after another: importing torch and transformers for each would take most of the time."""
    with tempfile.TemporaryDirectory(prefix="mlxport-infer-") as temporary:
        # MLX compiles kernels into the temporary directory. Processes side by side would read each other's half-written files.
        os.environ["TMPDIR"] = temporary
        tempfile.tempdir = None
        for name in names:
            place = out / name
            (place / "made").mkdir(parents=True, exist_ok=True)
            with open(place / "log.txt", "w") as log:
                os.dup2(log.fileno(), 1)
                os.dup2(log.fileno(), 2)
                try:
                    found = learn(name, binary, place / "made")
                except Exception as error:  # noqa: BLE001 whatever went wrong is told
                    traceback.print_exc()
                    found = Learned(name, wrong=[f"{type(error).__name__}: {error}"[:TOLD]])
            for recipe in (place / "made").glob("*.toml"):
                shutil.move(recipe, place / recipe.name)
            if not keep:
                shutil.rmtree(place / "made")
            (place / "found.new").write_text(json.dumps(asdict(found)))
            (place / "found.new").rename(place / "found.json")


def run_all(types: list[str], args: argparse.Namespace) -> list[Learned]:
    """Every type, in processes that are started again where one ends or hangs; one line for each as it is done."""
    for name in types:
        for old in ("found.json", "first.toml", "both.toml"):
            (args.out / name / old).unlink(missing_ok=True)
    shares = [types[at :: max(1, args.jobs)] for at in range(max(1, args.jobs))]
    workers = [_Worker(share, args) for share in shares if share]
    while any(worker.left for worker in workers):
        for worker in workers:
            worker.look()
        time.sleep(0.2)
    return [_read(args.out, name) for name in types]


class _Worker:
    """A process that works through some types."""

    def __init__(self, names: list[str], args: argparse.Namespace) -> None:
        self.left, self.args = list(names), args
        self.process: Any = None
        self.began = 0.0

    def look(self) -> None:
        """Goes on to the next type where one is done, and without it where it hangs or broke the process."""
        while self.left and (self.args.out / self.left[0] / "found.json").is_file():
            print(line(_read(self.args.out, self.left.pop(0))), flush=True)
            self.began = time.monotonic()
        if not self.left:
            return
        if self.process is None:
            self._start()
        elif not self.process.is_alive():
            self._give_up(f"the process ended with {self.process.exitcode}")
        elif time.monotonic() - self.began > self.args.timeout:
            self._give_up(f"not done in {self.args.timeout:.0f} s")

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        given = {"keep": self.args.keep}
        self.process = spawn.Process(target=_child, args=(self.left, self.args.binary, self.args.out), kwargs=given)
        self.process.start()
        self.began = time.monotonic()

    def _give_up(self, why: str) -> None:
        self.process.kill()
        self.process.join()
        self.process = None
        place = self.args.out / self.left[0]
        place.mkdir(parents=True, exist_ok=True)
        (place / "found.json").write_text(json.dumps(asdict(Learned(self.left[0], wrong=[why]))))


def _read(out: Path, name: str) -> Learned:
    return Learned(**json.loads((out / name / "found.json").read_text()))


def line(found: Learned) -> str:
    """One line of the table."""
    verdict = "WRONG" if found.wrong else found.both
    told = "; ".join(found.wrong or found.why)
    return f"| {found.model_type} | {verdict} | {found.first} | {found.carried} | {found.tensors} | {found.rows} | {told} |"


def table(results: list[Learned]) -> str:
    """The whole table, and what it comes to."""
    heads = "| type | two sizes | one size | on the other size | tensors | rows | why |\n| --- | --- | --- | --- | --- | --- | --- |"
    count = {kind: sum(not r.wrong and r.both == kind for r in results) for kind in ("identical", "cannot", "none")}
    wrong = sum(bool(result.wrong) for result in results)
    last = f"{count['identical']} identical, {count['cannot']} cannot be said, {wrong} wrong, {count['none']} without an example"
    return "\n".join([heads, *(line(result) for result in results), "", last, ""])


def main() -> int:
    """Runs it; 0 where no recipe is wrong."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.recipes.infer", description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE")
    parser.add_argument("--out", required=True, type=Path, help="results, logs and learned recipes go there")
    parser.add_argument("--binary", default="mlxport", help="the mlxport that learns and converts")
    parser.add_argument("--jobs", type=int, default=1, help="so many types side by side")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a type may take")
    parser.add_argument(
        "--keep", action="store_true", help="keep the examples, below DIR; those that are there are used"
    )
    args = parser.parse_args()
    types = [cell.model_type for cell in listed(["mlx-lm"], args.types, [0])]
    if not types:
        print("error: no model type is in both transformers and mlx-lm under these names", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    results = run_all(types, args)
    text = table(results)
    (args.out / "infer.md").write_text(text)
    print(text)
    return 1 if any(result.wrong for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
