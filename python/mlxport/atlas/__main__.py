"""`python -m mlxport.atlas`: checks every model type that transformers and a port both have, and writes one table.

    python -m mlxport.atlas [TYPE…] --out DIR [--ports mlx-lm,mlx-vlm] [--seeds 0,1] [--shard K/N] [--jobs N] [--before FILE]
    python -m mlxport.atlas --join DIR… --out DIR [--before FILE]

A cell is one type of one port. It is checked in a process of its own, so that one that breaks takes no other with it. A cell that
DIR holds already, made by the same versions and the same mlxport, is not run again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlxport.atlas import cells, pages


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.atlas", description=__doc__)
    parser.add_argument("types", nargs="*", metavar="TYPE", help="only these model types")
    parser.add_argument(
        "--out", required=True, type=Path, help="where cells and tables lie; a second run goes on there"
    )
    parser.add_argument("--ports", default="mlx-lm,mlx-vlm")
    parser.add_argument("--scenarios", default="all")
    parser.add_argument("--seeds", default="0", help="a comma-separated list; every cell is run with each")
    parser.add_argument("--shard", default="1/1", metavar="K/N", help="only every N-th cell, from the K-th on")
    parser.add_argument("--jobs", type=int, default=1, help="so many cells side by side")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds that a cell may take")
    parser.add_argument("--binary", default="mlxport", help="the mlxport that judges")
    parser.add_argument("--before", type=Path, help="the atlas.json of another run: what changed since is told")
    parser.add_argument(
        "--join",
        type=Path,
        nargs="*",
        default=[],
        help="directories of shards: their cells are put together, and nothing is run",
    )
    return parser.parse_args()


def main() -> int:
    """Runs it; 0 where every cell has a verdict or a reason."""
    args = arguments()
    shard, _, count = args.shard.partition("/")
    if not (shard.isdigit() and count.isdigit() and 1 <= int(shard) <= int(count)):
        print(f"error: --shard {args.shard}: expected K/N with K from 1 to N", file=sys.stderr)
        return 2
    if args.join:
        results = [result for one in args.join for result in cells.read_all(one)]
        if not results:
            print(f"error: --join: no cells in {', '.join(map(str, args.join))}", file=sys.stderr)
            return 2
        cells.take(args.join, args.out)
    else:
        wanted = cells.listed(args.ports.split(","), args.types, [int(seed) for seed in args.seeds.split(",")])
        if not wanted:
            print("error: no model type is in both transformers and the port under these names", file=sys.stderr)
            return 2
        results = cells.run_all(wanted[int(shard) - 1 :: int(count)], args)
    pages.write(args.out, results, args.before)
    return 0


if __name__ == "__main__":
    sys.exit(main())
