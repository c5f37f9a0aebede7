"""The cells of the atlas: which there are, and how each is run in a process of its own."""

from __future__ import annotations

import argparse
import ast
import contextlib
import json
import pkgutil
import platform
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlxport import apart
from mlxport.atlas.mends.finding import root

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
    place = root(port.replace("-", "_"))
    if place is None:
        return []
    names = [module.name for module in pkgutil.iter_modules([str(place / "models")])]
    # A type that the port loads by another type's file (`mistral` by `llama`) is one of its types, too. The table is read, not
    # imported: MLX's CUDA, once begun in a process, is lost in its forks.
    for node in ast.parse((place / "utils.py").read_text()).body:
        if isinstance(node, ast.Assign) and any(getattr(one, "id", "") == "MODEL_REMAPPING" for one in node.targets):
            names += list(ast.literal_eval(node.value))
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
    apart.warm()
    made_by = {**versions(), "binary": _told_by(args.binary), "scenarios": args.scenarios, **_where()}

    def ended(cell: Cell, process: Any, stopped: str | None) -> dict[str, Any]:
        result = _ended(cell, process, stopped, args, made_by)
        print(line(result), flush=True)
        return result

    return apart.side_by_side(
        cells,
        jobs=args.jobs,
        timeout=args.timeout,
        held=lambda cell: _held(args.out / cell.folder, made_by),
        start=lambda cell: _start(cell, args),
        ended=ended,
    )


def _where() -> dict[str, str]:
    return {"device": apart.backend(), "system": f"{platform.system().lower()}/{platform.machine()}"}


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


def take(shards: list[Path], out: Path) -> None:
    """Copies the cells of shards, their reports with them, to where the links of the joined page lead."""
    for shard in shards:
        for cell in sorted(shard.glob("*/*/*/cell.json")):
            place = out / cell.parent.relative_to(shard)
            if cell.parent.resolve() != place.resolve():
                shutil.copytree(cell.parent, place, dirs_exist_ok=True)


def _start(cell: Cell, args: argparse.Namespace) -> Any:
    folder = args.out / cell.folder
    shutil.rmtree(folder, ignore_errors=True)
    asked = apart.wanted(model_type=cell.model_type, port=cell.port, scenarios=args.scenarios, seed=cell.seed)
    return apart.start(asked, args.binary, folder)


def _ended(
    cell: Cell, process: Any, stopped: str | None, args: argparse.Namespace, made_by: dict[str, str]
) -> dict[str, Any]:
    folder = args.out / cell.folder
    result: dict[str, Any] = {"port": cell.port, "model_type": cell.model_type, "seed": cell.seed, "made_by": made_by}
    said = {"reason": stopped} if stopped else apart.told(folder, process)
    keys = ("reason", "verdict", "coverage", "first", "scenarios", "findings", "unmapped", "config", "hints")
    result.update({key: said[key] for key in keys if key in said})
    (folder / "cell.json").write_text(json.dumps(result, indent=1))
    return result


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
