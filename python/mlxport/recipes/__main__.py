"""`python -m mlxport.recipes`: every covered type, made small, converted by the peer and by mlxport, compared, run and audited.

    python -m mlxport.recipes [TYPE…] --out DIR [--binary PATH] [--sizes 1,2] [--jobs N] [--no-faults]

A cell is one type in one size, in a process of its own. A cell that DIR holds already, made by the same versions, program and recipe,
is not run again. Exit code 1 where anything differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlxport.recipes import covered, running, table


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.recipes", description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="only these (qwen2, or mlx-vlm/qwen2_vl)")
    parser.add_argument("--out", required=True, type=Path, help="where results lie; a second run goes on there")
    parser.add_argument("--binary", default="mlxport", help="the mlxport that converts and audits")
    parser.add_argument("--sizes", default="1,2")
    parser.add_argument("--jobs", type=int, default=1, help="so many cells side by side")
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds that a cell may take")
    parser.add_argument("--no-faults", action="store_true", help="plant no faults")
    parser.add_argument("--recipes", type=Path, help="recipe files to take in the place of the built-in ones")
    parser.add_argument("--record", type=Path, help="leave the first size's shapes there (convert/testdata/library)")
    parser.add_argument("--keep", action="store_true", help="keep what a cell made, below DIR")
    return parser.parse_args(given)


def main() -> int:
    """Runs it; 0 where everything agrees."""
    args = arguments()
    try:
        wanted = covered.chosen(args.types)
        sizes = [int(size) for size in args.sizes.split(",")]
        if not set(sizes) <= {1, 2}:
            raise ValueError(f"--sizes {args.sizes}: expected 1, 2 or 1,2")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    cells = running.run_all([(one, size) for one in wanted for size in sizes], args)
    text = table.markdown(cells)
    (args.out / "recipes.md").write_text(text)
    print(text, table.summary(cells), sep="\n")
    return 1 if any(cell["wrong"] for cell in cells) else 0


if __name__ == "__main__":
    sys.exit(main())
