"""A helper for pytest: a port that is not right fails the test with the report's text."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path


def binary() -> str:
    """The `mlxport` program: $MLXPORT_BIN, else on PATH, else a build in the project's target folder."""
    given = os.environ.get("MLXPORT_BIN") or shutil.which("mlxport")
    if given:
        return given
    root = Path(__file__).resolve().parents[2]
    for profile in ("release", "debug"):
        built = root / "target" / profile / "mlxport"
        if built.is_file():
            return str(built)
    raise FileNotFoundError("no mlxport program: set MLXPORT_BIN, or put it on PATH")


def check(*arguments: str, timeout: float = 600) -> tuple[dict, str]:
    """Runs `mlxport check ARGUMENTS --json`; its object, and the report's text."""
    command = [binary(), "check", *arguments, "--python", sys.executable, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    try:
        return json.loads(done.stdout), done.stderr
    except json.JSONDecodeError:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr}") from None


def assert_port(*arguments: str, timeout: float = 600) -> dict:
    """Fails with the report's text unless `mlxport check ARGUMENTS` passes: `assert_port("--model-type", "llama")`."""
    said, text = check(*arguments, timeout=timeout)
    assert said.get("verdict") == "pass", f"\n{text}"
    return said
