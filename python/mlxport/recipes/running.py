"""Runs cells, each in a process of its own; what is there already is not run again."""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlxport.atlas.cells import versions
from mlxport.recipes import table
from mlxport.recipes.covered import Covered

Wanted = tuple[Covered, int]


def run_all(wanted: list[Wanted], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every cell, one line for each as it ends; what all of them came to, in order."""
    made_by = {**versions(), "binary": hashed(Path(shutil.which(args.binary) or args.binary))}
    args.out.mkdir(parents=True, exist_ok=True)
    _warm()
    results: dict[Wanted, dict[str, Any]] = {}
    running: dict[Wanted, tuple[Any, float]] = {}
    waiting = list(wanted)
    while waiting or running:
        while waiting and len(running) < max(1, args.jobs):
            one = waiting.pop(0)
            held = read(folder(args.out, one), made_by, faults=not args.no_faults)
            if held is not None:
                results[one] = held
            else:
                running[one] = (_start(one, args), time.monotonic())
        for one, (process, began) in list(running.items()):
            process.join(0.1)
            if process.is_alive() and time.monotonic() - began < args.timeout:
                continue
            results[one] = _ended(one, process, args, made_by)
            del running[one]
            print(table.line(results[one]), flush=True)
    return [results[one] for one in wanted]


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
    place.mkdir(parents=True)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(one, args, place))
    process.start()
    return process


def _run(one: Wanted, args: argparse.Namespace, place: Path) -> None:
    """In the child: leaves found.json, or the reason in log.txt."""
    log = open(place / "log.txt", "w")  # noqa: SIM115 the process ends with it
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    with tempfile.TemporaryDirectory(prefix="mlxport-recipes-") as temporary:
        # MLX compiles kernels into the temporary directory. Processes side by side would read each other's half-written files.
        os.environ["TMPDIR"] = temporary
        tempfile.tempdir = None
        work = place / "made" if args.keep else Path(temporary) / "made"
        work.mkdir()
        try:
            from mlxport.recipes.cell import run

            found = run(*one, args, work)
            (place / "found.json").write_text(json.dumps(asdict(found)))
        except Exception:  # noqa: BLE001 whatever went wrong is told
            traceback.print_exc()
            sys.exit(1)


def _ended(one: Wanted, process: Any, args: argparse.Namespace, made_by: dict[str, str]) -> dict[str, Any]:
    covered, size = one
    place = folder(args.out, one)
    process.join(0)
    found: dict[str, Any] = {"port": covered.port, "model_type": covered.model_type, "size": size}
    if process.is_alive():
        process.kill()
        process.join()
        found.update(broke=True, wrong=[f"not done in {args.timeout:.0f} s"])
    elif (place / "found.json").is_file():
        found = json.loads((place / "found.json").read_text())
    else:
        found.update(broke=True, wrong=[f"the process ended with {process.exitcode}: {_last(place / 'log.txt')}"])
    found.update(made_by=made_by, planted=not args.no_faults)
    (place / "cell.json").write_text(json.dumps(found, indent=1))
    return found


def _last(log: Path) -> str:
    lines = [text for text in log.read_text(errors="replace").splitlines() if text.strip()] if log.is_file() else []
    return lines[-1][:300] if lines else "it said nothing"
