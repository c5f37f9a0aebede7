"""`python -m mlxport.atlas.mends`: runs every finding's types as they are and mended, and writes the findings' pages.

    python -m mlxport.atlas.mends [PAGE…] --binary PATH [--docs DIR] [--jobs N]     # small models, all scenarios
    python -m mlxport.atlas.mends [PAGE…] --real [--docs DIR]                       # models of a release's widths
    python -m mlxport.atlas.mends --write [--docs DIR]                              # the pages anew, nothing run

PAGE is a page's name without `.md`; globs are read. A mend is applied to a copy of the port; then `mlxport check` must pass on it in every
scenario that it can run. The figures lie beside the pages, in DIR/PORT.json.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from mlxport import apart
from mlxport.atlas import cells
from mlxport.atlas.mends import FINDINGS, page, run
from mlxport.atlas.mends.finding import Finding, root


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.atlas.mends", description=__doc__)
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="only these; globs are read")
    parser.add_argument("--binary", default="mlxport", help="the mlxport that judges")
    parser.add_argument("--docs", type=Path, default=Path("docs/atlas"), help="where the pages lie")
    parser.add_argument("--out", type=Path, help="keep the runs' reports there")
    parser.add_argument("--jobs", type=int, default=1, help="so many runs side by side")
    parser.add_argument("--real", action="store_true", help="measure at a release's widths")
    parser.add_argument("--write", action="store_true", help="write the pages out of what was measured; run nothing")
    return parser.parse_args()


def main() -> int:
    """Runs them; 0 where every finding shows and every type passes once mended."""
    args = arguments()
    wanted = [f for f in FINDINGS if any(fnmatch.fnmatch(f.page[:-3], one) for one in args.pages or ["*"])]
    if not wanted:
        print(f"error: no such page; known: {', '.join(f.page[:-3] for f in FINDINGS)}", file=sys.stderr)
        return 2
    lacking = sorted({f.port for f in wanted if root(f.package) is None})
    if lacking:
        print(f"error: not installed here: {', '.join(lacking)}", file=sys.stderr)
        return 2
    right = True
    if not args.write:
        with tempfile.TemporaryDirectory() as place:
            work = (args.out or Path(place)).resolve()
            sides = run.sides(wanted, FINDINGS, sizes=args.real)
            said = run.everything(sides, FINDINGS, args.binary, work, args.jobs)
        right = noted(wanted, said, args)
    write(wanted, args.docs)
    return 0 if right else 1


def noted(wanted: list[Finding], said: dict[str, Any], args: argparse.Namespace) -> bool:
    """Puts what was measured beside the pages; whether every finding shows and is mended."""
    args.docs.mkdir(parents=True, exist_ok=True)
    wrong = []
    for finding in wanted:
        held = page.read(args.docs, finding.port)
        mine = held.setdefault(finding.name, {})
        if args.real:
            mine["real"] = {**mine.get("real", {}), **run.sizes(finding, said)}
        else:
            types = {kind: run.measured(finding, kind, said, FINDINGS) for kind in finding.types}
            wrong += [f"{finding.page}, {kind}" for kind, one in types.items() if not run.proved(one)]
            mine["made_by"] = (
                ", ".join(f"{name} {number}" for name, number in cells.versions().items()) + f" on {apart.backend()}"
            )
            mine["types"] = {kind: one for kind, one in types.items() if one is not None}
        page.measured_file(args.docs, finding.port).write_text(json.dumps(held, indent=1, sort_keys=True) + "\n")
    for one in wrong:
        print(f"not proved: {one}")
    if not args.real:
        count = sum(len(finding.types) for finding in wanted)
        print(f"{count - len(wrong)} of {count} types fail as they are and pass once mended")
    return not wrong


def write(wanted: list[Finding], docs: Path) -> None:
    """Writes the pages, What as it stands there, and the tables of docs/atlas.md."""
    docs.mkdir(parents=True, exist_ok=True)
    for finding in wanted:
        file = docs / finding.page
        what = page.sections(file.read_text()).get("What", "") if file.is_file() else ""
        held = page.read(docs, finding.port).get(finding.name, {})
        file.write_text(page.written(finding, what, held))
    table = docs.with_suffix(".md")
    if table.is_file():
        text = table.read_text()
        for port in sorted({finding.port for finding in wanted}):
            text = page.tabled(text, FINDINGS, port)
        table.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
