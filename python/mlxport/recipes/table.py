"""What cells came to, in words: a line for each, a table, a summary."""

from __future__ import annotations

from typing import Any

# So many differences of a cell stand in its line.
SHOWN = 3


def line(cell: dict[str, Any]) -> str:
    """One cell in one line, or with what is wrong below it."""
    name = f"{cell['port']:8} {cell['model_type']:18} size {cell['size']}"
    if cell.get("broke"):
        return f"{name}  BROKE: {cell['wrong'][0]}"
    named = sum(fault["named"] for fault in cell["faults"])
    text = (
        f"{name}  {'DIFFERS' if cell['wrong'] else 'same':7}  {cell['tensors']:4} tensors in {len(cell['compared'])} forms  "
        f"logits {_off(cell)}  {cell['audits']} audits  {named}/{len(cell['faults'])} faults named"
    )
    return "\n    ".join([text, *cell["wrong"][:SHOWN]])


def _off(cell: dict[str, Any]) -> str:
    return "–" if cell.get("error") is None else f"{cell['error']:.1e} of {cell['tolerance']:.1e}"


def markdown(cells: list[dict[str, Any]]) -> str:
    """One row for each type, sizes side by side."""
    lines = [
        "| port | type | tensors | forms that are the peer's bit by bit | logits off PyTorch's (allowed) | audits passed | faults named |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for port, kind in dict.fromkeys((cell["port"], cell["model_type"]) for cell in cells):
        own = [cell for cell in cells if (cell["port"], cell["model_type"]) == (port, kind)]
        if any(cell.get("broke") for cell in own):
            lines.append(f"| {port} | {kind} | broke | | | | |")
            continue
        kept = next((cell["kept"] for cell in own if cell.get("kept")), None)
        forms = ", ".join(own[0]["compared"]) + (f" (the peer packs {kept}, ours keeps it)" if kept else "")
        faults = [fault for cell in own for fault in cell["faults"]]
        logits = ", ".join(_logits(cell) for cell in own)
        if own[0].get("text_alone"):
            logits += f"; text alone: {own[0]['text_alone']}"
        differ = any(cell["wrong"] for cell in own)
        lines.append(
            f"| {port} | {kind} | {', '.join(str(cell['tensors']) for cell in own)} "
            f"| {'**differs**' if differ else forms} | {logits} "
            f"| {sum(cell['audits'] for cell in own)} | {sum(f['named'] for f in faults)} of {len(faults)} |"
        )
    return "\n".join(lines) + "\n"


def _logits(cell: dict[str, Any]) -> str:
    if cell.get("unlike"):
        return f"not compared: {cell['unlike']}"
    return "–" if cell.get("error") is None else f"{cell['error']:.1e} ({cell['tolerance']:.1e})"


def summary(cells: list[dict[str, Any]]) -> str:
    """The figures, in one line."""
    kinds = {(cell["port"], cell["model_type"]) for cell in cells}
    wrong = {(cell["port"], cell["model_type"]) for cell in cells if cell["wrong"]}
    whole = [cell for cell in cells if not cell.get("broke")]
    planted = [(cell["model_type"], fault) for cell in whole for fault in cell["faults"]]
    named = [(kind, fault) for kind, fault in planted if fault["named"]]
    different = {fault["fault"] for _, fault in named}
    return (
        f"{len(kinds) - len(wrong)} of {len(kinds)} types agree in every size and form; "
        f"{sum(cell['audits'] for cell in whole)} audits of right conversions; {len(named)} of {len(planted)} planted faults named "
        f"({len(different)} kinds on {len({kind for kind, _ in named})} types)"
    )
