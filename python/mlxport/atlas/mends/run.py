"""Runs findings: each type as it is (every other finding of it mended), and with all of them mended."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlxport import apart, copies
from mlxport.atlas.mends import real
from mlxport.atlas.mends.finding import Finding, Real, of_type

# A check of all scenarios, or a model of a release's widths, may take so long.
TIMEOUT = 1800.0


@dataclass(frozen=True)
class Side:
    """One run: a type as it is but for what else is wrong with it (`finding`), or once all is mended (none)."""

    port: str
    model_type: str
    finding: str | None
    scenarios: str
    folder: str
    fields: tuple[str, ...] = ()
    real: Real | None = field(default=None, hash=False)


def sides(wanted: list[Finding], known: list[Finding], *, sizes: bool) -> list[Side]:
    """All runs that the pages of `wanted` need."""
    found: dict[str, Side] = {}

    def add(
        finding: Finding, kind: str, name: str | None, scenarios: str, place: str, real: Real | None = None
    ) -> None:
        fields = tuple(f"{key}={json.dumps(value)}" for key, value in finding.fields.items())
        folder = f"{finding.port}/{kind}/{place}"
        found[folder] = Side(finding.port, kind, name, scenarios, folder, fields, real)

    for finding in wanted:
        for kind in finding.types if not sizes else ():
            add(finding, kind, finding.name, finding.scenario, finding.name)
            add(finding, kind, None, "all", mended_place(finding))
        for given in finding.real if sizes else ():
            add(finding, given.model_type, finding.name, "", f"{finding.name}-real", given)
            add(finding, given.model_type, None, "", f"{finding.name}-real-mended", given)
    return list(found.values())


def mended_place(finding: Finding) -> str:
    """Where the mended type's run lies: one for all findings of a type that have no fields of their own."""
    return f"mended-{finding.name}" if finding.fields else "mended"


def edits(side: Side, known: list[Finding]) -> list[Finding]:
    """What is mended on a side."""
    return [one for one in of_type(known, side.port, side.model_type) if one.name != side.finding]


def everything(wanted: list[Side], known: list[Finding], binary: str, work: Path, jobs: int) -> dict[str, Any]:
    """By folder: what each side came to; one line for each as it ends."""
    apart.warm()

    def start(side: Side) -> Any:
        folder = work / side.folder
        shutil.rmtree(folder, ignore_errors=True)
        held = edits(side, known)
        package = side.port.replace("-", "_")
        files = [one.edits for one in held]
        first = copies.package(package, folder / "packages", files, side.folder) if held else None
        if side.real is not None:
            return real.start(side.port, side.real, folder, first)
        asked = apart.wanted(
            model_type=side.model_type, port=side.port, scenarios=side.scenarios, set=list(side.fields)
        )
        return apart.start(asked, binary, folder, first)

    def ended(side: Side, process: Any, stopped: str | None) -> dict[str, Any]:
        folder = work / side.folder
        read = real.told if side.real is not None else apart.told
        said = {"reason": stopped} if stopped else read(folder, process)
        shutil.rmtree(folder / "packages", ignore_errors=True)
        print(line(side, said), flush=True)
        return said

    results = apart.side_by_side(wanted, jobs=jobs, timeout=TIMEOUT, held=lambda _: None, start=start, ended=ended)
    return {side.folder: said for side, said in zip(wanted, results, strict=True)}


def line(side: Side, said: dict[str, Any]) -> str:
    """One run in one line."""
    name = f"{side.port:8} {side.model_type:18} {side.finding or 'mended':18}"
    if "reason" in said:
        return f"{name} not run: {' '.join(said['reason'].split())[:300]}"
    if side.real is not None:
        return f"{name} {said}"
    failed = [n for n, verdict in said["scenarios"].items() if verdict not in ("pass", "not_run")]
    first = said.get("first") or {}
    told = [first.get("point"), first.get("cause"), *(said.get("reasons", {}).get(one) for one in failed[:1])]
    tail = " ".join(" ".join(str(one) for one in told if one).split())
    return f"{name} {said['verdict']:10} {', '.join(failed)} {tail if said['verdict'] != 'pass' else ''}"[:400].rstrip()


def measured(finding: Finding, kind: str, said: dict[str, Any], known: list[Finding]) -> dict[str, Any] | None:
    """What a page tells of a type; nothing where one of its two runs has no verdict."""
    as_is = said.get(f"{finding.port}/{kind}/{finding.name}", {})
    mended = said.get(f"{finding.port}/{kind}/{mended_place(finding)}", {})
    if "verdict" not in as_is or "verdict" not in mended:
        return None
    first = as_is.get("first") or {"point": "", "mode": "", "ratio": None, "cause": None}
    ratio = f", {first['ratio']:.3e} × tolerance" if first["ratio"] else ""
    told = [f"{as_is['verdict'].upper()} First: {first['point']} ({first['mode']}{ratio})"]
    told += [f"Likely cause: {' '.join(first['cause'].split())[:200]}"] if first["cause"] else []
    return {
        "said": "\n".join(told),
        "found": as_is["verdict"] == "fail",
        "point": first["point"],
        "ratio": first["ratio"],
        "beside": [f"{one.port}-{one.name}" for one in of_type(known, finding.port, kind) if one != finding],
        "verdict": mended["verdict"],
        "compared": mended["coverage"]["compared"],
        "recorded": mended["coverage"]["recorded"],
        "scenarios": mended["scenarios"],
    }


def proved(measured: dict[str, Any] | None) -> bool:
    """Whether a type fails as it is, and passes once mended."""
    return measured is not None and measured["found"] and measured["verdict"] == "pass"


def sizes(finding: Finding, said: dict[str, Any]) -> dict[str, Any]:
    """What a page tells of the models of a release's widths; those that could not be run are left out."""
    found = {}
    for given in finding.real:
        name = f"{finding.port}/{given.model_type}"
        as_is, mended = said[f"{name}/{finding.name}-real"], said[f"{name}/{finding.name}-real-mended"]
        if "reason" not in as_is and "reason" not in mended:
            fields = ", ".join(f"{key} {value}" for key, value in given.fields.items() if isinstance(value, (int, str)))
            told = f"{as_is['parameters'] / 1e6:.0f} million parameters ({fields})"
            found[given.model_type] = {**as_is, "mended": mended["port"], "told": told}
    return found
