"""`python -m mlxport.known_bugs`: plants known bugs again, and asks whether `mlxport check` finds each and leaves the mended port alone.

python -m mlxport.known_bugs [ID…] --binary PATH --out DIR [--jobs N]
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
from pathlib import Path

from mlxport.known_bugs import audio, lm, lm_more, pages, run, vlm

BUGS = [*lm.BUGS, *lm_more.BUGS, *vlm.BUGS, *audio.BUGS]
# What must be reached: found in the right scenario, and with the module named.
FOUND, NAMED = 48, 42


def main() -> int:
    """Runs them; 0 where enough are found and no mended port fails."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.known_bugs", description=__doc__)
    parser.add_argument("ids", nargs="*", metavar="ID", help="only these; globs are read")
    parser.add_argument("--binary", default="mlxport", help="the mlxport that judges")
    parser.add_argument("--out", required=True, type=Path, help="where copies, versions and results lie")
    parser.add_argument("--jobs", type=int, default=1, help="so many bugs side by side")
    parser.add_argument("--resume", action="store_true", help="go on where a run into --out was cut off")
    args = parser.parse_args()
    # In the order in which they are named.
    named = [bug for one in args.ids or ["*"] for bug in BUGS if fnmatch.fnmatch(bug.id, one)]
    wanted = list({bug.id: bug for bug in named}.values())
    if not wanted:
        print(f"error: no such bug; known: {', '.join(bug.id for bug in BUGS)}", file=sys.stderr)
        return 2
    args.out.mkdir(parents=True, exist_ok=True)
    results = run.everything(wanted, args.binary, args.out.resolve(), args.jobs, args.resume)
    (args.out / "known-bugs.json").write_text(json.dumps(results, indent=1))
    (args.out / "known-bugs.md").write_text(pages.table(results, {bug.id: bug for bug in BUGS}))
    counts = pages.counts(results)
    print(pages.summary(counts))
    if counts["alarms"]:
        return 1
    whole = len(wanted) == len(BUGS)
    enough = (FOUND, NAMED) if whole else (len(wanted), 0)
    return 0 if counts["found"] >= enough[0] and counts["named"] >= enough[1] else 1


if __name__ == "__main__":
    sys.exit(main())
