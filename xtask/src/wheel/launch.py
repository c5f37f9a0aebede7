"""The command `mlxport`: becomes the program that this wheel carries."""

import os
import sys
from pathlib import Path

PROGRAM = Path(__file__).parent / "_native" / "bin" / "mlxport"


def main() -> None:
    """Replaces this process by the program; `mlxport check` then runs its Python side with this interpreter, unless told otherwise."""
    os.environ.setdefault("MLXPORT_PYTHON", sys.executable)
    os.execv(PROGRAM, [str(PROGRAM), *sys.argv[1:]])
