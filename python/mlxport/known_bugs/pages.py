"""What a run of the known bugs came to, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlxport.known_bugs.bug import Bug


def counts(results: list[dict[str, Any]]) -> dict[str, int]:
    """How many are found and named, and how many mended ports fail."""
    return {
        "all": len(results),
        "found": sum(bool(r["found"]) for r in results),
        "named": sum(bool(r["named"]) for r in results),
        "alarms": sum(r["fixed"] == "fail" for r in results),
    }


def summary(counted: Mapping[str, int]) -> str:
    """The counts in words."""
    return (
        f"{counted['found']} of {counted['all']} known bugs found in their scenario, {counted['named']} with the module named; "
        f"{counted['alarms']} of the mended ports fail there"
    )


def table(results: list[dict[str, Any]], bugs: Mapping[str, Bug]) -> str:
    """The counts, then one row for each bug, in Markdown."""
    lines = [summary(counts(results)) + ".", ""]
    lines += [
        "| bug | model type | what is wrong | scenario | found | first, and why | mended port |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in results:
        bug = bugs[result["id"]]
        if "unseen" in result:
            found, first, fixed = "**no**", result["unseen"], "–"
        else:
            found = "yes" if result["found"] else "**no**"
            cause = f": {result['cause']}" if result["cause"] else ""
            first = f"`{result['first']}`{cause}" if result["first"] else str(result["reason"] or "")
            fixed = result["fixed"]
        cells = (
            f"{bug.id} ({bug.upstream})",
            f"{bug.port} {bug.model_type}",
            bug.what,
            bug.scenario,
            found,
            first,
            fixed,
        )
        lines.append("| " + " | ".join(" ".join(text.split()).replace("|", "/")[:240] for text in cells) + " |")
    return "\n".join(lines) + "\n"
