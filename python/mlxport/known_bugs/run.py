"""Runs the known bugs: each on a port that has it and on one that has it no more."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from mlxport import apart, copies
from mlxport.known_bugs.bug import Bug

# A check may take so long.
TIMEOUT = 600.0


def one(bug: Bug, binary: str, work: Path, resume: bool = False) -> dict[str, Any]:
    """Both checks of one bug, and what they come to. `resume`: what an earlier run left there counts."""
    result: dict[str, Any] = {"id": bug.id, "scenario": bug.scenario, "port": bug.port, "model_type": bug.model_type}
    if bug.unseen:
        return {**result, "found": False, "named": False, "fixed": "not_run", "unseen": bug.unseen}
    place = work / bug.id
    if not (resume and _judged(place)):
        shutil.rmtree(place, ignore_errors=True)
        both = {side: said(bug, binary, place / side, packages(bug, side, place)) for side in ("faulty", "fixed")}
        (place / "both.json").write_text(json.dumps(both, indent=1))
        for side in both:
            shutil.rmtree(place / f"{side}-packages", ignore_errors=True)
    both = json.loads((place / "both.json").read_text())
    faulty, fixed = both["faulty"], both["fixed"]
    first = faulty.get("first") or {}
    text = f"{first.get('point', '')} {first.get('cause') or ''}"
    found = verdict(bug, faulty) == "fail" and verdict(bug, fixed) in ("pass", "incomplete")
    return {
        **result,
        "found": found,
        "named": found and any(word in text for word in bug.module),
        "first": first.get("point"),
        "cause": first.get("cause"),
        "ratio": first.get("ratio"),
        "faulty": verdict(bug, faulty),
        "fixed": verdict(bug, fixed),
        "reason": faulty.get("reason") or fixed.get("reason"),
    }


def _judged(place: Path) -> bool:
    """Whether an earlier run left a verdict of both sides."""
    file = place / "both.json"
    return file.is_file() and all("verdict" in said for said in json.loads(file.read_text()).values())


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


def said(bug: Bug, binary: str, folder: Path, first: Path | None) -> dict[str, Any]:
    """What one check says."""
    modules = Path(__file__).parent / "modules"
    asked = apart.wanted(
        model_type=None if bug.module_class else bug.model_type,
        reference=f"{modules / 'reference.py'}:{bug.module_class}" if bug.module_class else None,
        port=f"{modules / 'port.py'}:{bug.module_class}" if bug.module_class else bug.port,
        scenarios="prefill" if bug.scenario == "load" else bug.scenario,
        config=bug.config,
        set=[f"{name}={json.dumps(value)}" for name, value in bug.fields.items()],
    )
    process = apart.start(asked, binary, folder, first)
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        return {"reason": f"not done in {TIMEOUT:.0f} s"}
    return apart.told(folder, process)


def everything(bugs: list[Bug], binary: str, work: Path, jobs: int, resume: bool) -> list[dict[str, Any]]:
    """All of them; one line for each as it ends."""
    apart.warm()

    def told(bug: Bug) -> dict[str, Any]:
        result = one(bug, binary, work, resume)
        print(line(result), flush=True)
        return result

    with ThreadPoolExecutor(jobs) as pool:
        return list(pool.map(told, bugs))


def line(result: dict[str, Any]) -> str:
    """One bug in one line."""
    if "unseen" in result:
        return f"{result['id']:26} not seen: {result['unseen']}"
    word = "found" if result["found"] else "MISSED"
    module = "named" if result["named"] else "not named"
    tail = f"first {result['first']}, {' '.join(str(result['cause']).split())[:160]}"
    why = f"; {' '.join(str(result['reason']).split())[:200]}" if result["reason"] else ""
    return f"{result['id']:26} {result['scenario']:10} {word}, {module}; fixed: {result['fixed']}; {tail}{why}"
