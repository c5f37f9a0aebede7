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
    import torch

    from mlxport import port as ports
    from mlxport.precise import Float64
    from mlxport.reference import call

    reference, hub = _saved(port, real, place / "model")
    rows, given = _fed(real, hub)
    fed = {name: torch.from_numpy(array) for name, array in given.items()}
    narrow = call(reference.model, fed).double().numpy()[0]
    with Float64():
        exact = call(reference.exact, fed).numpy()[0]
    ours = logits(ports.load(port, place / "model"), real, rows, given)
    count = sum(parameter.numel() for parameter in reference.model.parameters())
    said = {
        "port": error(ours, exact),
        "torch": error(narrow, exact),
        "other": int((ours.argmax(-1) != exact.argmax(-1)).sum()),
        "tokens": len(exact),
        "parameters": count,
    }
    (folder / "real.json").write_text(json.dumps(said))


def _saved(port: str, real: Real, directory: Path) -> tuple[Any, dict[str, Any]]:
    """PyTorch's model, saved as a release; its config as releases have it."""
    from mlxport import hubform, session, small, tasks, vision
    from mlxport.reference import build

    kind, fields = real.model_type, dict(real.fields)
    pictures = kind in vision.TYPES and port != "mlx-lm"
    text_type = kind if pictures else small.TEXT_PARTS.get(kind, kind)
    if tasks.of(kind) is not None or pictures:
        config = (vision if pictures else tasks).config(kind, fields)
    else:
        config = made(text_type, fields)
    reference = build(session.maker(config), lambda model: small.fill(model, 0))
    named = f"{kind} with pictures" if pictures and kind in small.TEXT_PARTS else kind
    session.save_as_hub(reference.model, directory, named)
    hub = vision.hub_form(hubform.hub_form(session.whole(config)))
    if text_type != kind:
        hub = hubform.around_text(kind, hub)
    session.write_config(directory, hub, bare=True)
    return reference, hub


def _fed(real: Real, hub: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The sequences of tokens that the port reads, and all that PyTorch is given of the last one."""
    import numpy as np

    from mlxport import tasks, vision

    rng = np.random.default_rng(1)
    task = tasks.of(real.model_type)
    if task is not None:
        return [], task.inputs(hub, rng)
    if vision.has_pictures(hub):
        given = vision.inputs(hub, 0, vision.Pictures(real.pictures))
        return [given["input_ids"]], given
    lengths = (real.tokens, real.tokens - real.padding) if real.padding else (real.tokens,)
    rows = [rng.integers(3, WORDS, size=(1, length), dtype=np.int64) for length in lengths]
    return rows, {"input_ids": rows[-1]}


def logits(loaded: Any, real: Real, rows: list[Any], given: dict[str, Any]) -> Any:
    """The port's logits of the last of these sequences."""
    import mlx.core as mx
    import numpy as np

    from mlxport import port as ports
    from mlxport import scenarios, tasks, vision

    task = tasks.of(real.model_type)
    if task is not None:
        return np.array(task.port(loaded.model, given), dtype=np.float64)[0]
    if len(rows) == 1:
        more = {name: mx.array(array) for name, array in vision.for_port(given, real.model_type).items()}
        return np.array(ports.logits_of(loaded.model(mx.array(rows[0]), **more)), dtype=np.float64)[0]
    fed = scenarios.padded(loaded, rows, 4, deaf=True) if real.right else scenarios.batch(loaded, rows, deaf=True)
    heard = [call.returned[0] for call in fed[-1].run.calls if call.path == "logits"]
    return np.concatenate(heard, axis=1).astype(np.float64)[0]


def made(model_type: str, fields: dict[str, Any]) -> Any:
    """transformers' config of a type with these fields, and few words."""
    import transformers

    kind = transformers.CONFIG_MAPPING[model_type]
    return kind(**{"vocab_size": WORDS, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, **fields})


def error(ours: Any, right: Any) -> float:
    """Relative RMS."""
    import numpy as np

    return float(np.sqrt(((ours - right) ** 2).mean() / (right**2).mean()))
