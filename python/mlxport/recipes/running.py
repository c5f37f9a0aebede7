"""Runs cells, each in a process of its own; what is there already is not run again."""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlxport import apart
from mlxport.atlas.cells import versions
from mlxport.recipes import table
from mlxport.recipes.covered import Covered

Wanted = tuple[Covered, int]


def run_all(wanted: list[Wanted], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every cell, one line for each as it ends; what all of them came to, in order."""
    program = {**versions(), "binary": hashed(Path(shutil.which(args.binary) or args.binary))}
    args.out.mkdir(parents=True, exist_ok=True)
    _warm()

    def ended(one: Wanted, process: Any, stopped: str | None) -> dict[str, Any]:
        result = _ended(one, process, stopped, args, _made_by(program, one, args))
        print(table.line(result), flush=True)
        return result

    return apart.side_by_side(
        wanted,
        jobs=args.jobs,
        timeout=args.timeout,
        held=lambda one: read(folder(args.out, one), _made_by(program, one, args), faults=not args.no_faults),
        start=lambda one: _start(one, args),
        ended=ended,
    )


def _made_by(program: dict[str, str], one: Wanted, args: argparse.Namespace) -> dict[str, str]:
    """What a cell follows from: versions and program, what is known of the type, and its recipe where that is a file of its own."""
    made_by = {**program, "covered": repr(one[0])}
    if args.recipes is not None:
        made_by["recipe"] = hashed(one[0].recipe_in(args.recipes))
    return made_by


def _warm() -> None:
    """Imports once what every cell needs; each cell is a fork of this process. Nothing is computed here: threads do not fork."""
    import mlx_lm.convert  # noqa: F401

    import mlxport.recipes.cell  # noqa: F401


def hashed(program: Path) -> str:
    """The program by its content: recipes are part of it."""
    return hashlib.blake2b(program.read_bytes(), digest_size=16).hexdigest() if program.is_file() else str(program)


def folder(out: Path, one: Wanted) -> Path:
    """Where a cell lies."""
    covered, size = one
    return out / covered.port / covered.model_type / str(size)


def read(place: Path, made_by: dict[str, str], *, faults: bool) -> dict[str, Any] | None:
    """A cell that was made by the same things, with faults where they are wanted; one that broke is run again."""
    file = place / "cell.json"
    held = json.loads(file.read_text()) if file.is_file() else {}
    right = held.get("made_by") == made_by and not held.get("broke") and (held.get("planted") or not faults)
    return held if right else None


def _start(one: Wanted, args: argparse.Namespace) -> Any:
    place = folder(args.out, one)
    shutil.rmtree(place, ignore_errors=True)
    return apart.fork(place, lambda temporary: _run(one, args, place, temporary))


def _run(one: Wanted, args: argparse.Namespace, place: Path, temporary: Path) -> None:
    """In the child: leaves found.json, or the reason in log.txt."""
    from mlxport.recipes.cell import run

    work = place / "made" if args.keep else temporary / "made"
    work.mkdir()
    (place / "found.json").write_text(json.dumps(asdict(run(*one, args, work))))


def _ended(
    one: Wanted, process: Any, stopped: str | None, args: argparse.Namespace, made_by: dict[str, str]
) -> dict[str, Any]:
    covered, size = one
    place = folder(args.out, one)
    found: dict[str, Any] = {"port": covered.port, "model_type": covered.model_type, "size": size}
    if stopped is None and (place / "found.json").is_file():
        found = json.loads((place / "found.json").read_text())
    else:
        found.update(broke=True, wrong=[stopped or apart.why(place, process)])
    found.update(made_by=made_by, planted=not args.no_faults)
    (place / "cell.json").write_text(json.dumps(found, indent=1))
    return found
