"""The cells of the atlas: which there are, and how each is run in a process of its own."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import pkgutil
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "transformers", "mlx", "mlx-lm", "mlx-vlm", "mlxport")


@dataclass(frozen=True)
class Cell:
    """One model type of one port, with one seed."""

    port: str
    model_type: str
    seed: int

    @property
    def folder(self) -> str:
        """Where it lies below the atlas's directory."""
        return f"{self.port}/{self.model_type}/{self.seed}"


def listed(ports: list[str], only: list[str], seeds: list[int]) -> list[Cell]:
    """Every type that transformers knows and a port has a file for, in order; all of a type's seeds beside each other."""
    import transformers

    known = set(transformers.CONFIG_MAPPING.keys())
    found = []
    for port in ports:
        names = {name for name in _modules(port) if name in known}
        found += [Cell(port, name, seed) for name in sorted(names) if not only or name in only for seed in seeds]
    return found


def _modules(port: str) -> list[str]:
    spec = importlib.util.find_spec(f"{port.replace('-', '_')}.models")
    if spec is None or not spec.submodule_search_locations:
        return []
    # A type that the port loads by another type's file (`mistral` by `llama`) is one of its types, too.
    names = [module.name for module in pkgutil.iter_modules(spec.submodule_search_locations)]
    with contextlib.suppress(ImportError, AttributeError):
        names += list(importlib.import_module(f"{port.replace('-', '_')}.utils").MODEL_REMAPPING)
    return names


def versions() -> dict[str, str]:
    """What is installed here."""
    found = {}
    for name in PACKAGES:
        with contextlib.suppress(Exception):
            found[name] = version(name)
    return found


def run_all(cells: list[Cell], args: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs what is not there yet; one line for each as it ends. What all of them came to, in order."""
    _warm()
    made_by = {**versions(), "binary": _told_by(args.binary), "scenarios": args.scenarios}
    results: dict[Cell, dict[str, Any]] = {}
    running: dict[Cell, tuple[Any, float]] = {}
    waiting = list(cells)
    while waiting or running:
        while waiting and len(running) < max(1, args.jobs):
            cell = waiting.pop(0)
            held = _held(args.out / cell.folder, made_by)
            if held is not None:
                results[cell] = held
                continue
            running[cell] = (_start(cell, args, made_by), time.monotonic())
        for cell, (process, began) in list(running.items()):
            process.join(0.2)
            if process.is_alive() and time.monotonic() - began < args.timeout:
                continue
            results[cell] = _ended(cell, process, args, made_by)
            del running[cell]
            print(line(results[cell]), flush=True)
    return [results[cell] for cell in cells]


def _warm() -> None:
    """Imports once what every cell needs; each cell is a fork of this process. Nothing is computed here: threads do not fork."""
    import mlx.core  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import mlxport.check.run  # noqa: F401


def _told_by(binary: str) -> str:
    return subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def _held(folder: Path, made_by: dict[str, str]) -> dict[str, Any] | None:
    file = folder / "cell.json"
    if not file.is_file():
        return None
    held = json.loads(file.read_text())
    return held if held.get("made_by") == made_by else None


def read_all(out: Path) -> list[dict[str, Any]]:
    """Every cell of a directory."""
    return [json.loads(file.read_text()) for file in sorted(out.glob("*/*/*/cell.json"))]


def _start(cell: Cell, args: argparse.Namespace, made_by: dict[str, str]) -> Any:
    folder = args.out / cell.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(cell, args, folder))
    process.start()
    return process


def _run(cell: Cell, args: argparse.Namespace, folder: Path) -> None:
    """In the child: records, judges, and leaves check.json or the reason why there is none."""
    import sys

    log = open(folder / "log.txt", "w")  # noqa: SIM115 the process ends with it
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    from mlxport.check.run import InputError, run

    with tempfile.TemporaryDirectory(prefix="mlxport-atlas-") as place:
        # MLX compiles kernels into the temporary directory. Processes side by side would read each other's half-written files.
        os.environ["TMPDIR"] = place
        tempfile.tempdir = None
        recorded = Path(place) / "recorded"
        wanted = argparse.Namespace(
            model=None,
            model_type=cell.model_type,
            port=cell.port,
            scenarios=args.scenarios,
            seed=cell.seed,
            config="hub",
            trust_remote_code=False,
            out=recorded,
        )
        try:
            said = run(wanted, Path(place) / "work")
        except InputError as error:
            (folder / "reason.txt").write_text(str(error))
            sys.exit(0)
        recorded.mkdir(parents=True, exist_ok=True)
        (recorded / "check.json").write_text(json.dumps(said))
        command = [args.binary, "check", "--recorded", str(recorded), "--report", str(folder / "report"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (folder / "judge.txt").write_text(done.stderr)
        if done.returncode not in (0, 1):
            (folder / "reason.txt").write_text(done.stderr.strip())


def _ended(cell: Cell, process: Any, args: argparse.Namespace, made_by: dict[str, str]) -> dict[str, Any]:
    folder = args.out / cell.folder
    process.join(0)
    result: dict[str, Any] = {"port": cell.port, "model_type": cell.model_type, "seed": cell.seed, "made_by": made_by}
    if process.is_alive():
        process.kill()
        process.join()
        result["reason"] = f"not done in {args.timeout:.0f} s"
    elif (folder / "report" / "check.json").is_file():
        said = json.loads((folder / "report" / "check.json").read_text())
        keys = ("verdict", "coverage", "first", "scenarios", "findings", "unmapped", "config", "hints")
        result.update({key: said.get(key) for key in keys})
    elif (folder / "reason.txt").is_file():
        result["reason"] = (folder / "reason.txt").read_text()
    else:
        result["reason"] = f"the process ended with {process.exitcode}: {_last(folder / 'log.txt')}"
    (folder / "cell.json").write_text(json.dumps(result, indent=1))
    return result


def _last(log: Path) -> str:
    lines = [text for text in log.read_text(errors="replace").splitlines() if text.strip()] if log.is_file() else []
    return lines[-1][:300] if lines else "it said nothing"


def line(result: dict[str, Any]) -> str:
    """One cell in one line."""
    name = f"{result['port']:8} {result['model_type']:22} seed {result['seed']}"
    if "verdict" not in result:
        return f"{name}  no verdict: {result['reason'].splitlines()[0][:160] if result['reason'] else ''}"
    held = result["coverage"]
    first = result["first"] or {}
    failed = [scenario for scenario, verdict in result["scenarios"].items() if verdict not in ("pass", "not_run")]
    why = first.get("cause") or "no cause found"
    tail = f"{', '.join(failed)}; first {first['point']}: {why}" if first.get("point") else ", ".join(failed)
    return f"{name}  {result['verdict']:10} {held['compared']}/{held['recorded']}  {' '.join(tail.split())[:300]}"
