"""A finding's page: Where, Patch and the measured parts are written; What is a person's, and stays."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mlxport.atlas.mends.finding import Finding, mended, root
from mlxport.battery import ALL

# So many lines of a file are named.
MOST = 3
HEADINGS = ("What", "Where", "See it", "Size", "Patch", "With the patch")
# By port: what the runs measured, for every finding's page.
Measured = dict[str, dict[str, Any]]


def measured_file(docs: Path, port: str) -> Path:
    """Where the figures of a port's pages lie."""
    return docs / f"{port}.json"


def read(docs: Path, port: str) -> Measured:
    """The figures of a port's pages."""
    file = measured_file(docs, port)
    return json.loads(file.read_text()) if file.is_file() else {}


def sections(text: str) -> dict[str, str]:
    """By heading: what stands below it."""
    parts = text.split("\n## ")[1:]
    return {head.strip(): body.strip() for head, _, body in (part.partition("\n") for part in parts)}


def written(finding: Finding, what: str, measured: dict[str, Any]) -> str:
    """The whole page."""
    parts = {
        "What": what,
        "Where": where(finding),
        "See it": see_it(finding, measured),
        "Size": size(finding, measured),
        "Patch": patch(finding),
        "With the patch": with_patch(finding, measured),
    }
    text = "\n\n".join(f"## {name}\n\n{body}" for name, body in parts.items())
    return f"# {finding.port}: {finding.title}\n\n{text}\n"


def where(finding: Finding) -> str:
    """The lines at fault, and what PyTorch has in their place."""
    installed, theirs = root(finding.package), root("transformers")
    assert installed is not None and theirs is not None
    lines = []
    for file, pieces in finding.edits.items():
        text = (installed / file).read_text()
        found = [_changed(text, old, new) for old, new in pieces if not old.startswith(("from ", "class "))]
        places = [f"line {number}: `{line}`" for number, line in dict.fromkeys(found)]
        more = f"; {len(places) - MOST} more are in the patch" if len(places) > MOST else ""
        lines.append(f"- {finding.port} {version(finding.port)}, `{file}`, {'; '.join(places[:MOST])}{more}")
    for file, held in finding.pytorch.items():
        text = (theirs / file).read_text()
        if held not in text:
            raise SystemExit(f"{finding.page}: transformers' {file} no longer holds {held!r}: look what it has now")
        number = text[: text.index(held)].count("\n") + 1
        lines.append(f"- transformers {version('transformers')}, `{file}`, line {number}: `{' '.join(held.split())}`")
    return "\n".join(dict.fromkeys(lines))


def _changed(text: str, old: str, new: str) -> tuple[int, str]:
    """The first line of a piece that is changed: its number in the file, and the whole line."""
    same = 0
    while same < min(len(old), len(new)) and old[same] == new[same]:
        same += 1
    # What is only put in before a line's end stands in the line before.
    at = text.index(old) + min(same, len(old.rstrip()) - 1)
    number = text[:at].count("\n")
    line = text.split("\n")[number].strip()
    while not line and number:
        number -= 1
        line = text.split("\n")[number].strip()
    return number + 1, line


def command(finding: Finding, model_type: str) -> str:
    """The line that shows it."""
    fields = "".join(f" --set '{key}={json.dumps(value)}'" for key, value in finding.fields.items())
    return f"mlxport check --model-type {model_type} --port {finding.port} --scenarios {finding.scenario}{fields}"


def see_it(finding: Finding, measured: dict[str, Any]) -> str:
    """For each type the command and what it says."""
    lines = ["```console"]
    for kind in finding.types:
        lines.append(f"$ {command(finding, kind)}")
        held = measured.get("types", {}).get(kind)
        lines.append(f"{held['said']}" if held else "(not run yet)")
        if held and held.get("beside"):
            lines[-1] += f"    # once {', '.join(held['beside'])} is mended"
    return "\n".join([*lines, "```"])


def size(finding: Finding, measured: dict[str, Any]) -> str:
    """How far off: of the small model in times the tolerance, at a release's widths as the logits' relative error."""
    lines = ["| type | model | logits of the port | of float32 PyTorch | mended | likeliest token is another |"]
    lines.append("|---|---|---|---|---|---|")
    for kind in finding.types:
        held = measured.get("types", {}).get(kind)
        if held:
            times = f"{held['ratio']:.3g} times the tolerance" if held["ratio"] else "an error is raised"
            lines.append(f"| {kind} | small, `{held['point']}` | {times} | | within it | |")
    for real in finding.real:
        held = measured.get("real", {}).get(real.model_type)
        if held is not None:
            name = f"{real.release}'s widths, {held['told']}"
            lines.append(
                f"| {real.model_type} | {name} | {held['port']:.2g} | {held['torch']:.2g} | {held['mended']:.2g} | "
                f"{held['other']} of {held['tokens']} |"
            )
    if not measured.get("real"):
        lines += ["", "Not measured at a release's widths."]
    else:
        lines += [
            "",
            f"`python -m mlxport.atlas.mends '{finding.port}-{finding.name}' --real` measures the rows at a release's widths: random weights,",
        ]
        lines += ["one prompt; the error is relative RMS against PyTorch in float64."]
    return "\n".join(lines)


def patch(finding: Finding) -> str:
    """The edits as a diff of what is installed."""
    installed = root(finding.package)
    assert installed is not None
    lines = []
    for file, (old, new) in mended(finding, installed).items():
        name = f"{finding.package}/{file}"
        lines += difflib.unified_diff(old.splitlines(), new.splitlines(), f"a/{name}", f"b/{name}", n=2, lineterm="")
    return "\n".join(["```diff", *(line.rstrip() for line in lines), "```"])


def with_patch(finding: Finding, measured: dict[str, Any]) -> str:
    """What `check` says of each type once it is mended."""
    lines = []
    for kind in finding.types:
        held = measured.get("types", {}).get(kind)
        if held is None:
            lines.append(f"- `{kind}`: not run yet")
            continue
        ran, left = ([n for n in ALL if (held["scenarios"].get(n) == "not_run") is no] for no in (False, True))
        beside = f" (with {', '.join(f'[{b}]({b}.md)' for b in held['beside'])})" if held.get("beside") else ""
        tail = f"; not run: {', '.join(left)}" if left else ""
        lines.append(
            f"- `{kind}`{beside}: **{held['verdict']}**, {held['compared']} of {held['recorded']} points compared, in {', '.join(ran)}{tail}"
        )
    if "made_by" in measured:
        lines += ["", f"Run with {measured['made_by']}."]
    return "\n".join(lines)


def table(findings: Iterable[Finding], port: str) -> str:
    """The rows of docs/atlas.md: each finding with its types and its page."""
    lines = ["| finding | types |", "| --- | --- |"]
    lines += [f"| [{f.title}](atlas/{f.page}) | {', '.join(f.types)} |" for f in findings if f.port == port]
    return "\n".join(lines)


def tabled(text: str, findings: Iterable[Finding], port: str) -> str:
    """docs/atlas.md with that table between its two marks."""
    begin, end = f"<!-- findings of {port} -->\n", f"\n<!-- end of the findings of {port} -->"
    head, there, rest = text.partition(begin)
    _, ends, tail = rest.partition(end)
    if not there or not ends:
        raise SystemExit(f"docs/atlas.md: expected the marks {begin.strip()!r} and {end.strip()!r}; one is missing")
    return head + begin + table(findings, port) + end + tail
