"""Runs the known bugs: each on a port that has it and on one that has it no more."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from mlxport import apart, copies
from mlxport.known_bugs.bug import Bug

# A check may take so long.
TIMEOUT = 600.0


# A bug's id, and the port that has it or has it no more.
Side = tuple[str, str]
SIDES = ("faulty", "fixed")


def everything(bugs: list[Bug], binary: str, work: Path, jobs: int, resume: bool) -> list[dict[str, Any]]:
    """Both checks of every bug, and what they come to; one line for each bug. `resume`: a verdict that an earlier run left counts."""
    apart.warm()
    by_id = {bug.id: bug for bug in bugs}

    def held(one: Side) -> dict[str, Any] | None:
        said = read(work, one) if resume else None
        return said if said is not None and "verdict" in said else None

    def start(one: Side) -> Any:
        bug, (name, side) = by_id[one[0]], one
        shutil.rmtree(work / name / side, ignore_errors=True)
        (work / name / f"{side}.json").unlink(missing_ok=True)
        return apart.start(asked(bug), binary, work / name / side, packages(bug, side, work / name))

    def ended(one: Side, process: Any, stopped: str | None) -> dict[str, Any]:
        place = work / one[0]
        said = {"reason": stopped} if stopped else apart.told(place / one[1], process)
        (place / f"{one[1]}.json").write_text(json.dumps(said, indent=1))
        shutil.rmtree(place / f"{one[1]}-packages", ignore_errors=True)
        both = [read(work, (one[0], side)) for side in SIDES]
        if None not in both:
            print(line(result(by_id[one[0]], work)), flush=True)
        return said

    wanted = [(bug.id, side) for bug in bugs if not bug.unseen for side in SIDES]
    apart.side_by_side(wanted, jobs=jobs, timeout=TIMEOUT, held=held, start=start, ended=ended)
    return [result(bug, work) for bug in bugs]


def read(work: Path, one: Side) -> dict[str, Any] | None:
    """What the check of one side said, where it has ended."""
    file = work / one[0] / f"{one[1]}.json"
    return json.loads(file.read_text()) if file.is_file() else None


def result(bug: Bug, work: Path) -> dict[str, Any]:
    """What both checks of a bug come to."""
    told: dict[str, Any] = {"id": bug.id, "scenario": bug.scenario, "port": bug.port, "model_type": bug.model_type}
    if bug.unseen:
        return {**told, "found": False, "named": False, "fixed": "not_run", "unseen": bug.unseen}
    faulty, fixed = (read(work, (bug.id, side)) or {"reason": "it was not run"} for side in SIDES)
    first = faulty.get("first") or {}
    text = f"{first.get('point', '')} {first.get('cause') or ''}"
    found = verdict(bug, faulty) == "fail" and verdict(bug, fixed) in ("pass", "incomplete")
    return {
        **told,
        "found": found,
        "named": found and any(word in text for word in bug.module),
        "first": first.get("point"),
        "cause": first.get("cause"),
        "ratio": first.get("ratio"),
        "faulty": verdict(bug, faulty),
        "fixed": verdict(bug, fixed),
        "reason": faulty.get("reason") or fixed.get("reason"),
    }


def verdict(bug: Bug, said: dict[str, Any]) -> str:
    """What a check says of the bug's scenario."""
    if "verdict" not in said:
        return "none"
    loads = (said.get("first") or {}).get("point") != "load"
    if bug.scenario == "load":
        return "pass" if loads else "fail"
    return said["scenarios"].get(bug.scenario, "fail" if not loads else "none")


def packages(bug: Bug, side: str, place: Path) -> Path | None:
    """A folder with the port as it is on that side; nothing where the installed one is."""
    folder = place / f"{side}-packages"
    if bug.versions is not None:
        return installed(bug.port, bug.versions[side == "fixed"], place.parent)
    edits = [bug.mends, bug.undo] if side == "faulty" else [bug.mends]
    if not any(edits):
        return None
    return copies.package(bug.package, folder, edits, bug.id)


def installed(port: str, number: str, work: Path) -> Path:
    """A version of a port in a folder of its own, brought by pip once."""
    folder = work / "versions" / f"{port}-{number}"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
        subprocess.run([*command, f"{port}=={number}"], check=True)
    return folder


def asked(bug: Bug) -> argparse.Namespace:
    """What a check of the bug's model is asked."""
    modules = Path(__file__).parent / "modules"
    return apart.wanted(
        model_type=None if bug.module_class else bug.model_type,
        reference=f"{modules / 'reference.py'}:{bug.module_class}" if bug.module_class else None,
        port=f"{modules / 'port.py'}:{bug.module_class}" if bug.module_class else bug.port,
        scenarios="prefill" if bug.scenario == "load" else bug.scenario,
        config=bug.config,
        set=[f"{name}={json.dumps(value)}" for name, value in bug.fields.items()],
    )


def line(result: dict[str, Any]) -> str:
    """One bug in one line."""
    if "unseen" in result:
        return f"{result['id']:26} not seen: {result['unseen']}"
    word = "found" if result["found"] else "MISSED"
    module = "named" if result["named"] else "not named"
    tail = f"first {result['first']}, {' '.join(str(result['cause']).split())[:160]}"
    why = f"; {' '.join(str(result['reason']).split())[:200]}" if result["reason"] else ""
    return f"{result['id']:26} {result['scenario']:10} {word}, {module}; fixed: {result['fixed']}; {tail}{why}"
