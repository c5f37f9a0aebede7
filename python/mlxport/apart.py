"""Work in processes of its own: what breaks takes nothing else with it, and each may see another copy of a port.

Processes are forks of one that has imported what every one needs; importing that anew costs more than a small check.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Hashable, Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)
Said = dict[str, Any]


def warm() -> None:
    """Imports once what every check needs. Nothing is computed here (threads do not fork), and no port is imported."""
    import torch  # noqa: F401
    import transformers  # noqa: F401

    # CUDA that has begun in a process is lost in its forks; MLX's begins at the import.
    if backend() != "CUDA":
        import mlx.core  # noqa: F401

        import mlxport.check.run  # noqa: F401


def backend() -> str:
    """What MLX computes with here: CUDA, Metal or the CPU. MLX is not imported for it."""
    if any(str(package.name).startswith("mlx-cuda") for package in distributions()):
        return "CUDA"
    return "Metal" if sys.platform == "darwin" else "the CPU"


def side_by_side(
    wanted: Iterable[K],
    *,
    jobs: int,
    timeout: float,
    held: Callable[[K], Said | None],
    start: Callable[[K], Any],
    ended: Callable[[K, Any, str | None], Said],
) -> list[Said]:
    """Runs all of them, so many at a time; what they came to, in order.

    `held`: what is there already, or nothing where it is to be run. `start`: its process. `ended`: what an ended process came to; given
    the reason where it was stopped.
    """
    waiting = list(wanted)
    order, results = list(waiting), {}
    running: dict[K, tuple[Any, float]] = {}
    while waiting or running:
        while waiting and len(running) < max(1, jobs):
            one = waiting.pop(0)
            there = held(one)
            if there is not None:
                results[one] = there
            else:
                running[one] = (start(one), time.monotonic())
        for one, (process, began) in list(running.items()):
            process.join(0.1)
            late = process.is_alive()
            if late and time.monotonic() - began < timeout:
                continue
            if late:
                process.kill()
                process.join()
            results[one] = ended(one, process, f"not done in {timeout:.0f} s" if late else None)
            del running[one]
    return [results[one] for one in order]


def fork(folder: Path, work: Callable[[Path], None]) -> Any:
    """Starts `work` in a process; it is given a temporary directory. What it prints, and the error that ends it, is in log.txt of `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    process = multiprocessing.get_context("fork").Process(target=_alone, args=(folder, work))
    process.start()
    return process


def _alone(folder: Path, work: Callable[[Path], None]) -> None:
    log = open(folder / "log.txt", "w")  # noqa: SIM115 the process ends with it
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    with tempfile.TemporaryDirectory(prefix="mlxport-apart-") as place:
        # MLX compiles kernels into the temporary directory. Processes side by side would read each other's half-written files.
        os.environ["TMPDIR"] = place
        tempfile.tempdir = None
        try:
            work(Path(place))
        except Exception:  # noqa: BLE001 whatever went wrong is told
            traceback.print_exc(file=log)
            log.flush()
            sys.exit(1)


def why(folder: Path, process: Any) -> str:
    """Why a process left nothing: how it ended, and the last that it said."""
    log = folder / "log.txt"
    lines = [text for text in log.read_text(errors="replace").splitlines() if text.strip()] if log.is_file() else []
    return f"the process ended with {process.exitcode}: {lines[-1][:300] if lines else 'it said nothing'}"


def wanted(**given: Any) -> argparse.Namespace:
    """The arguments of `python -m mlxport.check`, those that are not given as they are by default."""
    defaults = {
        "model": None,
        "model_type": None,
        "port": None,
        "scenarios": "all",
        "seed": 0,
        "dtype": "f32",
        "config": "hub",
        "set": [],
        "reference": None,
        "quantized": None,
        "trust_remote_code": False,
    }
    return argparse.Namespace(**{**defaults, **given})


def start(asked: argparse.Namespace, binary: str, folder: Path, first: Path | None = None) -> Any:
    """Starts a check; the process. `first`: a folder whose packages go before the installed ones."""
    return fork(folder, lambda place: _check(asked, binary, folder, first, place))


def _check(asked: argparse.Namespace, binary: str, folder: Path, first: Path | None, place: Path) -> None:
    """In the child: records, judges, and leaves report/check.json, or reason.txt, or only log.txt."""
    if first is not None:
        sys.path.insert(0, str(first))
    from mlxport.check.run import InputError, run

    asked.out = place / "recorded"
    try:
        said = run(asked, place / "work")
    except InputError as error:
        (folder / "reason.txt").write_text(str(error))
        return
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "check.json").write_text(json.dumps(said))
    command = [binary, "check", "--recorded", str(asked.out), "--report", str(folder / "report"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (folder / "judge.txt").write_text(done.stderr)
    if done.returncode not in (0, 1):
        (folder / "reason.txt").write_text(done.stderr.strip())


def told(folder: Path, process: Any) -> Said:
    """What a check that has ended came to: what `check --json` says, or `reason` alone."""
    if (folder / "report" / "check.json").is_file():
        return json.loads((folder / "report" / "check.json").read_text())
    if (folder / "reason.txt").is_file():
        return {"reason": (folder / "reason.txt").read_text()}
    return {"reason": why(folder, process)}
