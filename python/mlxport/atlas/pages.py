"""The atlas as files: atlas.json, atlas.md, and index.html with a filter, each cell a link to its report."""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

from mlxport.battery import ALL

_SIGNS = {"pass": "pass", "fail": "FAIL", "incomplete": "incomplete", "not_run": "–", "broke": "broke"}


def write(out: Path, results: list[dict[str, Any]], before: Path | None) -> None:
    """Writes the three files; what changed since `before` stands at the top of atlas.md and, where anything did, in changes.md."""
    results = sorted(results, key=lambda r: (r["port"], r["model_type"], r["seed"]))
    out.mkdir(parents=True, exist_ok=True)
    (out / "atlas.json").write_text(json.dumps({"schema": 1, "cells": results}, indent=1))
    changes = changed(json.loads(before.read_text())["cells"], results) if before else None
    (out / "atlas.md").write_text(markdown(results, changes))
    (out / "changes.md").unlink(missing_ok=True)
    if changes:
        (out / "changes.md").write_text("\n".join(f"- {text}" for text in [*changes, _told(results)]) + "\n")
    (out / "index.html").write_text(page(results))


def counts(results: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """By port: how many types have which verdict. A type's verdict is the worst of its seeds'."""
    order = ("fail", "incomplete", "none", "pass")
    worst: dict[tuple[str, str], str] = {}
    for result in results:
        key, verdict = (result["port"], result["model_type"]), result.get("verdict", "none")
        worst[key] = min(worst.get(key, "pass"), verdict, key=order.index)
    found: dict[str, dict[str, int]] = {}
    for (port, _), verdict in worst.items():
        held = found.setdefault(port, {"types": 0, "pass": 0, "fail": 0, "incomplete": 0, "none": 0})
        held[verdict] += 1
        held["types"] += 1
    return found


def changed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[str]:
    """Each cell whose verdict or scenarios are not what they were, in words."""
    key = lambda r: (r["port"], r["model_type"], r["seed"])  # noqa: E731
    old = {key(r): r for r in before}
    told = []
    for result in after:
        was = old.pop(key(result), None)
        name = f"{result['port']} {result['model_type']} (seed {result['seed']})"
        now = _verdict(result)
        if was is None:
            told.append(f"{name}: new, {now}")
        elif _verdict(was) != now:
            told.append(f"{name}: was {_verdict(was)}, is {now}")
        elif was.get("scenarios") != result.get("scenarios"):
            told.append(f"{name}: scenarios changed from {was.get('scenarios')} to {result.get('scenarios')}")
    return told + [f"{port} {kind} (seed {seed}): gone" for port, kind, seed in old]


def _verdict(result: dict[str, Any]) -> str:
    return result.get("verdict", "no verdict")


def markdown(results: list[dict[str, Any]], changes: list[str] | None) -> str:
    """The table for docs/atlas.md: one line for each cell."""
    lines = ["# The atlas", "", _told(results), ""]
    if changes is not None:
        lines += ["## What changed", "", *([f"- {text}" for text in changes] or ["Nothing."]), ""]
    for port, held in counts(results).items():
        lines.append(
            f"- **{port}**: {held['types']} types; {held['pass']} pass, {held['fail']} fail, "
            f"{held['incomplete']} incomplete, {held['none']} without a verdict"
        )
    lines += ["", f"| port | type | seed | verdict | compared | {' | '.join(ALL)} | first, and why |"]
    lines.append("|---|---|---|---|---|" + "---|" * (len(ALL) + 1))
    lines += [_row(result) for result in results]
    return "\n".join(lines) + "\n"


def _told(results: list[dict[str, Any]]) -> str:
    made = results[0]["made_by"] if results else {}
    return "Made by `python -m mlxport.atlas` with " + ", ".join(f"{n} {v}" for n, v in made.items()) + "."


def _row(result: dict[str, Any]) -> str:
    held = result.get("coverage") or {}
    said = result.get("scenarios") or {}
    ratio = f"{held['compared']}/{held['recorded']}" if held else ""
    signs = [_SIGNS.get(said.get(name, ""), "") for name in ALL]
    return (
        f"| {result['port']} | {result['model_type']} | {result['seed']} | {_verdict(result)} | {ratio} | "
        f"{' | '.join(signs)} | {_why(result).replace('|', '/')} |"
    )


def _why(result: dict[str, Any]) -> str:
    """Why it is no pass, in one line."""
    if "verdict" not in result:
        return " ".join(str(result.get("reason", "")).split())[:200]
    first = result.get("first") or {}
    if first.get("point") == "load":
        return f"does not load: {' '.join(str(first.get('cause')).split())}"[:160]
    if first.get("point"):
        return f"`{first['point']}`: {' '.join(str(first.get('cause') or 'no cause found').split())}"[:200]
    missing = (result.get("coverage") or {}).get("missing") or []
    return f"not compared: {', '.join(str(m) for m in missing[:3])}"[:200] if missing else ""


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>The atlas</title>
<meta name="viewport" content="width=device-width"><style>
:root{color-scheme:light dark}body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem}
table{border-collapse:collapse;width:100%%}th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}
th{position:sticky;top:0;background:Canvas}.pass{color:#1a7f37}.fail,.broke{color:#cf222e;font-weight:600}.incomplete{color:#9a6700}
.not_run,.none{opacity:.6}input,select{font:inherit;padding:.2rem .4rem;margin:0 .6rem 1rem 0}
</style><h1>The atlas</h1><p>%(told)s</p><p>%(counts)s</p>
<label>Filter <input id="f" type="search" placeholder="type, cause, scenario"></label>
<label>Verdict <select id="v"><option value="">all</option><option>pass</option><option>fail</option><option>incomplete</option><option value="none">no verdict</option></select></label>
<table><thead><tr>%(heads)s</tr></thead><tbody>%(rows)s</tbody></table>
<script>const f=document.getElementById('f'),v=document.getElementById('v');function go(){for(const r of document.querySelectorAll('tbody tr'))
r.hidden=!(r.textContent.toLowerCase().includes(f.value.toLowerCase())&&(!v.value||r.dataset.verdict===v.value))}f.oninput=v.onchange=go</script></html>
"""


def page(results: list[dict[str, Any]]) -> str:
    """One page: type by scenario; each cell leads to its report. It loads nothing from elsewhere."""
    told = "; ".join(
        f"{port}: {held['pass']} of {held['types']} types pass, {held['fail']} fail, {held['incomplete']} incomplete, "
        f"{held['none']} without a verdict"
        for port, held in counts(results).items()
    )
    heads = "".join(f"<th>{name}</th>" for name in ("port", "type", "seed", "verdict", *ALL, "first, and why"))
    rows = "".join(_html_row(result) for result in results)
    return _PAGE % {
        "told": html.escape(_told(results).replace("`", "")),
        "counts": html.escape(told),
        "heads": heads,
        "rows": rows,
    }


def _html_row(result: dict[str, Any]) -> str:
    folder = f"{result['port']}/{result['model_type']}/{result['seed']}"
    verdict = result.get("verdict", "none")
    said = result.get("scenarios") or {}
    shown = f'<a class="{verdict}" href="{folder}/report/index.html">{verdict}</a>' if "verdict" in result else "none"
    cells = [result["port"], result["model_type"], str(result["seed"])]
    text = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + f"<td>{shown}</td>"
    for name in ALL:
        one = said.get(name, "")
        link = (
            f"{folder}/report/{name}/report.html"
            if one in ("pass", "fail", "incomplete") and name != "invariants"
            else ""
        )
        label = html.escape(_SIGNS.get(one, ""))
        text += f'<td class="{one}">' + (f'<a class="{one}" href="{link}">{label}</a>' if link else label) + "</td>"
    return f'<tr data-verdict="{verdict}">{text}<td>{html.escape(_why(result))}</td></tr>'
