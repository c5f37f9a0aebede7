"""How large a fault is at a release's widths: random weights, few layers, one prompt; the logits beside PyTorch's in float64."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlxport import apart
from mlxport.atlas.mends.finding import Real

# Of a release's own vocabulary the size of the logits does not depend.
WORDS = 2048


def start(port: str, real: Real, folder: Path, first: Path | None) -> Any:
    """Starts the run in a process of its own. `first`: a folder whose packages go before the installed ones."""
    return apart.fork(folder, lambda place: _measure(port, real, folder, first, place))


def told(folder: Path, process: Any) -> dict[str, Any]:
    """What a run that has ended came to, or `reason` alone."""
    file = folder / "real.json"
    return json.loads(file.read_text()) if file.is_file() else {"reason": apart.why(folder, process)}


def _measure(port: str, real: Real, folder: Path, first: Path | None, place: Path) -> None:
    """In the child."""
    import sys

    if first is not None:
        sys.path.insert(0, str(first))
    import numpy as np
    import torch

    from mlxport import hubform, session, small
    from mlxport import port as ports
    from mlxport.precise import Float64
    from mlxport.reference import build, call

    text_type = small.TEXT_PARTS.get(real.model_type, real.model_type)
    config = made(text_type, dict(real.fields))
    reference = build(session.maker(config), lambda model: small.fill(model, 0))
    session.save_as_hub(reference.model, place / "model", real.model_type)
    hub = hubform.hub_form(session.whole(config))
    if text_type != real.model_type:
        hub = hubform.around_text(real.model_type, hub)
    session.write_config(place / "model", hub, bare=True)
    rng = np.random.default_rng(1)
    rows = [rng.integers(3, WORDS, size=(1, real.tokens - less), dtype=np.int64) for less in (0, real.padding)]
    fed = {"input_ids": torch.from_numpy(rows[-1] if real.padding else rows[0])}
    narrow = call(reference.model, fed).double().numpy()[0]
    with Float64():
        exact = call(reference.exact, fed).numpy()[0]
    ours = logits(ports.load(port, place / "model"), rows if real.padding else rows[:1])
    count = sum(parameter.numel() for parameter in reference.model.parameters())
    said = {
        "port": error(ours, exact),
        "torch": error(narrow, exact),
        "other": int((ours.argmax(-1) != exact.argmax(-1)).sum()),
        "tokens": len(exact),
        "parameters": count,
    }
    (folder / "real.json").write_text(json.dumps(said))


def logits(loaded: Any, rows: list[Any]) -> Any:
    """The port's logits of the last of these sequences."""
    import mlx.core as mx
    import numpy as np

    from mlxport import port as ports
    from mlxport import scenarios

    if len(rows) == 1:
        return np.array(ports.logits_of(loaded.model(mx.array(rows[0]))), dtype=np.float64)[0]
    heard = scenarios.batch(loaded, rows, deaf=True)[-1].run.find("logits")
    assert heard is not None
    return heard.returned[0].astype(np.float64)[0]


def made(model_type: str, fields: dict[str, Any]) -> Any:
    """transformers' config of a type with these fields, and few words."""
    import transformers

    kind = transformers.CONFIG_MAPPING[model_type]
    return kind(**{"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **fields})


def error(ours: Any, right: Any) -> float:
    """Relative RMS."""
    import numpy as np

    return float(np.sqrt(((ours - right) ** 2).mean() / (right**2).mean()))
