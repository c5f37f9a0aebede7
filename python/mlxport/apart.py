"""A check in a process of its own: what breaks takes nothing else with it, and each may see another copy of a port.

Processes are forks of one that has imported what every check needs; importing that anew costs more than a small check.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def warm() -> None:
    """Imports once what every check needs. Nothing is computed here (threads do not fork), and no port is imported."""
    import mlx.core  # noqa: F401
    import torch  # noqa: F401
    import transformers  # noqa: F401

    import mlxport.check.run  # noqa: F401


def wanted(**given: Any) -> argparse.Namespace:
    """The arguments of `python -m mlxport.check`, those that are not given as they are by default."""
    defaults = {
        "model": None,
        "model_type": None,
        "port": None,
        "scenarios": "all",
        "seed": 0,
        "config": "hub",
        "set": [],
        "reference": None,
        "quantized": None,
        "trust_remote_code": False,
    }
    return argparse.Namespace(**{**defaults, **given})


def start(asked: argparse.Namespace, binary: str, folder: Path, first: Path | None = None) -> Any:
    """Starts a check; the process. `first`: a folder whose packages go before the installed ones."""
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_run, args=(asked, binary, folder, first))
    process.start()
    return process


def _run(asked: argparse.Namespace, binary: str, folder: Path, first: Path | None) -> None:
    """In the child: records, judges, and leaves report/check.json, or reason.txt, or only log.txt."""
    log = open(folder / "log.txt", "w")  # noqa: SIM115 the process ends with it
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    if first is not None:
        sys.path.insert(0, str(first))
    from mlxport.check.run import InputError, run

    with tempfile.TemporaryDirectory(prefix="mlxport-apart-") as place:
        # MLX compiles kernels into the temporary directory. Processes side by side would read each other's half-written files.
        os.environ["TMPDIR"] = place
        tempfile.tempdir = None
        asked.out = Path(place) / "recorded"
        try:
            said = run(asked, Path(place) / "work")
        except InputError as error:
            (folder / "reason.txt").write_text(str(error))
            sys.exit(0)
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "check.json").write_text(json.dumps(said))
        command = [binary, "check", "--recorded", str(asked.out), "--report", str(folder / "report"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (folder / "judge.txt").write_text(done.stderr)
        if done.returncode not in (0, 1):
            (folder / "reason.txt").write_text(done.stderr.strip())


def told(folder: Path, process: Any) -> dict[str, Any]:
    """What a check that has ended came to: what `check --json` says, or `reason` alone."""
    if (folder / "report" / "check.json").is_file():
        return json.loads((folder / "report" / "check.json").read_text())
    if (folder / "reason.txt").is_file():
        return {"reason": (folder / "reason.txt").read_text()}
    return {"reason": f"the process ended with {process.exitcode}: {_last(folder / 'log.txt')}"}


def _last(log: Path) -> str:
    lines = [text for text in log.read_text(errors="replace").splitlines() if text.strip()] if log.is_file() else []
    return lines[-1][:300] if lines else "it said nothing"
