"""One check: the reference and the port made of one checkpoint, ready to be run."""

from __future__ import annotations

import copy
import gc
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from mlxport import extras, hubform, mapping, own, small, tasks, trace, vision
from mlxport import port as ports
from mlxport.check.inputs import require_finite
from mlxport.reference import ATTENTION, Reference, build


@dataclass
class Session:
    """Reference and port, how their modules correspond, and what was found on the way."""

    reference: Reference
    port: ports.Port
    mapping: mapping.Mapping
    directory: Path
    config: dict[str, Any]
    findings: list[dict[str, Any]] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    offsets: dict[str, float] = field(default_factory=dict)

    def sees(self) -> bool:
        """Whether the model has pictures and the port reads them: mlx-lm reads text alone, of any model."""
        return vision.has_pictures(self.config) and self.port.name != "mlx-lm"


def maker(config: Any) -> Any:
    """Makes the PyTorch model of a config: the causal one where there is one, else the one with pictures."""
    import transformers

    names = [
        "AutoModelForCausalLM",
        "AutoModelForImageTextToText",
        "AutoModelForMultimodalLM",
        "AutoModelForSpeechSeq2Seq",
    ]
    if getattr(config, "vision_config", None) is not None:
        names = [*names[1:], names[0]]
    task = tasks.of(config.model_type)
    if task is not None:
        names = [task.auto] if task.auto else [*names, "AutoModel"]
    for name in names:
        auto = getattr(transformers, name)
        if type(config) in auto._model_mapping:
            return lambda: auto.from_config(copy.deepcopy(config), attn_implementation=ATTENTION)
    raise ValueError(f"transformers has no causal or image-text model of type {config.model_type!r}")


def whole(config: Any) -> dict[str, Any]:
    """Every field of a config, defaults included, under all names that transformers knows."""
    made = hubform.with_aliases(
        json.loads(json.dumps(config.to_dict(), default=str)), getattr(type(config), "attribute_map", {})
    )
    for name in ("text_config", "vision_config"):
        if hasattr(config, name) and isinstance(made.get(name), dict):
            made[name] = hubform.with_aliases(made[name], getattr(type(getattr(config, name)), "attribute_map", {}))
    return made


def prepare_random(
    model_type: str, port: str, work: Path, seed: int, *, form: str = "hub", fields: dict[str, Any] | None = None
) -> Session:
    """A small random model of an architecture, saved as transformers saves it, loaded by the port. `fields`: of its config."""
    model_type = vision.types.PARTS.get(model_type, model_type)
    # mlx-lm reads text alone: the text part where transformers has a model of it, else the whole, fed no pictures.
    pictures = model_type in vision.TYPES and (port != "mlx-lm" or model_type not in small.TEXT_PARTS)
    kind = tasks if tasks.of(model_type) else vision if pictures else small
    config = kind.config(model_type, fields or {})
    small.require_small(model_type, maker(config))
    reference = build(maker(config), lambda model: small.fill(model, seed))
    whole_type = model_type if config.model_type != model_type and not pictures else None
    return _session(reference, port, work, None, form=form, whole_type=whole_type)


def prepare_own(name: str, port: str, work: Path, seed: int) -> Session:
    """A PyTorch module of one's own, FILE.py:Class, and a port in a file."""
    made = own.reference(name, seed)
    directory, tagged_in = work / "model", work / "tagged"
    own.save(made.model, directory)
    tagged = copy.deepcopy(made.model)
    tags = trace.tag(tagged)
    own.save(tagged, tagged_in)
    loaded = ports.load(port, directory)
    traced = trace.read(ports.load(port, tagged_in), max(tags.values(), default=0) + 1)
    found = mapping.by_content(tags, list(made.paths()), traced.tags, list(loaded.modules()))
    return Session(made, loaded, found, directory, {"model_type": own.TYPE}, [], [], traced.offsets)


def prepare_directory(model: Path, port: str, work: Path, *, form: str = "hub", trust: bool = False) -> Session:
    """A model directory in Hugging Face's form, or a GGUF file that transformers reads."""
    import transformers

    gguf = {"gguf_file": model.name} if model.is_file() else {}
    place = model.parent if model.is_file() else model
    config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=trust, **gguf)
    make = maker(config)
    auto = (
        transformers.AutoModelForCausalLM
        if type(config) in transformers.AutoModelForCausalLM._model_mapping
        else transformers.AutoModelForImageTextToText
    )
    read = auto.from_pretrained(place, dtype=torch.float32, trust_remote_code=trust, **gguf)
    require_finite(read, model)
    reference = build(make, _taken(read))
    del read
    file = place / "config.json"
    there = json.loads(file.read_text()) if file.is_file() and not gguf else None
    return _session(reference, port, work, there, form=form)


def _taken(loaded: Any) -> Callable[[Any], None]:
    """Gives a model the tensors of one that was loaded: none is copied."""

    def take(model: Any) -> None:
        model.load_state_dict(loaded.state_dict(), assign=True)
        model.tie_weights()

    return take


def _session(
    reference: Reference,
    port: str,
    work: Path,
    there: dict[str, Any] | None,
    *,
    form: str,
    whole_type: str | None = None,
) -> Session:
    """`whole_type`: the model is the text part of that type, and the port is given it as such."""
    directory = work / "model"
    model: Any = reference.model
    # Names as hub releases have them, where they are not transformers' own.
    own_type = reference.config.model_type
    hub_type = whole_type or (f"{own_type} with pictures" if own_type in small.TEXT_PARTS else own_type)
    save_as_hub(model, directory, hub_type)
    saved = there or json.loads((directory / "config.json").read_text())
    hub = hubform.hub_form(
        {**whole(reference.config), **({k: v for k, v in there.items() if v is not None} if there else {})}
    )
    hub = vision.hub_form(hub)
    if whole_type:
        saved, hub = hubform.around_text(whole_type, saved), hubform.around_text(whole_type, hub)
    findings: list[dict[str, Any]] = []
    written = {"hub": hub, "as-saved": saved, "resaved": hubform.resaved(saved, hub)}[form]
    write_config(directory, written, bare=form == "hub")
    # Before the port itself is loaded: so there is one copy less of a large model at a time.
    traced, tags = _trace(reference, port, work, directory, hub_type)
    loaded = ports.load(port, directory)
    findings.extend(settings_findings(port, directory, saved, hub))
    found = mapping.by_content(tags, list(reference.paths()), traced.tags, list(loaded.modules()))
    found.made_up = [name for name in found.made_up if name not in traced.fillers]
    return Session(reference, loaded, found, directory, hub, findings, hubform.told(saved, hub), traced.offsets)


# Where hub releases name their tensors otherwise than transformers saves them: pattern, replacement; without one, the tensor is not there.
_NAMES: dict[str, list[tuple[str, str | None]]] = {
    "deepseek_v4": [(r"attn\.norm\.weight$", "attn.kv_norm.weight"), (r"model\.hc_head\.hc_", "hc_head_")],
    "olmo_hybrid": [
        (r"attention_layer_norm", "input_layernorm"),
        (r"feedforward_layer_norm", "post_attention_layernorm"),
    ],
    "nanochat": [
        (r"model\.embed_tokens", "transformer.wte"),
        (r"model\.layers", "transformer.h"),
        (r"self_attn\.([qkv])_proj", r"attn.c_\1"),
        (r"self_attn\.o_proj", "attn.c_proj"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
    ],
    "gpt2": [(r"^transformer\.", "")],
    "gemma3": [(r"^", "language_model.")],
    "gemma3n": [(r"^model\.", "model.language_model.")],
    "gemma4": [(r"^model\.(?!language_model|vision_tower|embed_vision)", "model.language_model.")],
    "llama4": [(r"^", "language_model.")],
    "qwen3_5": [(r"^model\.", "model.language_model.")],
    "qwen3_5_moe": [(r"^model\.", "model.language_model.")],
    "qwen3_omni_moe_thinker": [(r"^", "thinker.")],
    "gemma3 with pictures": [(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.")],
    "llava": [(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.")],
    "aya_vision": [(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.")],
    "cohere2_vision": [(r"vision_tower\.(?!vision_model)", "vision_tower.vision_model.")],
}


# Hub releases of these types hold the tensors as transformers has them in memory, not as it writes them.
_AS_IN_MEMORY = ("qwen3_5_moe", "sam3_video")


# Hub releases of these types hold these matrices with their last two axes exchanged.
_TRANSPOSED = {"qwen3_vl_moe": r"experts\.(gate_up_proj|down_proj)$"}


def save_as_hub(model: Any, directory: Path, model_type: str) -> None:
    """Saves a model with the tensors and names that hub releases of its type have, where transformers saves others."""
    model.save_pretrained(
        directory, **({"save_original_format": False} if model_type.split(" ")[0] in _AS_IN_MEMORY else {})
    )
    rules = list(_NAMES.get(model_type, []))
    zero = getattr(model.config, "zero_expert_num", None)
    if zero:
        # transformers also writes a matrix for each expert that passes its input on; releases have none.
        numbers = range(model.config.n_routed_experts, model.config.n_routed_experts + zero)
        rules.append((rf"mlp\.experts\.({'|'.join(map(str, numbers))})\.", None))
    turned = _TRANSPOSED.get(model_type)
    missing = extras.shared_layers(model)
    for shard in sorted(directory.glob("model*.safetensors")) if rules or turned or missing else ():
        tensors = {**load_file(shard), **missing}
        missing = {}
        if turned:
            tensors = {n: t.mT.contiguous() if re.search(turned, n) else t for n, t in tensors.items()}
        for pattern, replacement in rules:
            tensors = {
                re.sub(pattern, replacement or "", name): tensor
                for name, tensor in tensors.items()
                if replacement is not None or not re.search(pattern, name)
            }
        save_file(tensors, shard, {"format": "pt"})


def write_config(directory: Path, config: dict[str, Any], *, bare: bool = False) -> None:
    """config.json, infinities as transformers 5 writes them; `bare`: as releases have them, as Python's `Infinity`."""
    written = vision.written(config)
    (directory / "config.json").write_text(json.dumps(written if bare else tagged(written), indent=1, default=str))


def tagged(value: Any) -> Any:
    """Infinities as transformers 5 writes them, for JSON has none."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return {"__float__": "Infinity" if value > 0 else "-Infinity"}
    if isinstance(value, dict):
        return {k: tagged(v) for k, v in value.items()}
    return [tagged(v) for v in value] if isinstance(value, (list, tuple)) else value


def _trace(
    reference: Reference, port: str, work: Path, directory: Path, hub_type: str
) -> tuple[trace.Trace, dict[str, int]]:
    """The port loads the checkpoint once more, full of tags."""
    tagged: Any = copy.deepcopy(reference.model)
    tags = trace.tag(tagged)
    place = work / "tagged"
    save_as_hub(tagged, place, hub_type)
    del tagged
    # Models hold themselves in circles: their memory comes back when those are looked for.
    gc.collect()
    shutil.copy(directory / "config.json", place / "config.json")
    read = trace.read(ports.load(port, place), max(tags.values()) + 1)
    shutil.rmtree(place)
    return read, tags


def settings_findings(port: str, directory: Path, saved: dict[str, Any], hub: dict[str, Any]) -> list[dict[str, Any]]:
    """What the port would have made of the config as it is saved: other settings, or a refusal."""
    settings: dict[str, dict[str, Any]] = {}
    kept = (directory / "config.json").read_text()
    try:
        for name, config in (("hub", hub), ("saved", saved)):
            write_config(directory, config, bare=name == "hub")
            settings[name] = ports.load(port, directory).arguments
    except ports.PortError as error:
        return [
            {"kind": "config", "field": None, "what": f"refused: with the config as it is saved the port says {error}"}
        ]
    finally:
        (directory / "config.json").write_text(kept)
    found = []
    for name, value in settings["hub"].items():
        other = settings["saved"].get(name)
        # A head's width that is left out is worked out alike.
        derived = name.rpartition(".")[2] == "head_dim" and other is None
        if other != value and not derived and not _same(other, value):
            found.append(
                {
                    "kind": "config",
                    "field": name,
                    "as_saved": _plain(other),
                    "right": _plain(value),
                    "what": f"with the config as it is saved the port takes {name} = {other!r}; right is {value!r}",
                }
            )
    return found


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _same(a: Any, b: Any) -> bool:
    """Nothing and a default table say the same; so do a scaling of type default and none."""
    empty = (None, {}, [])
    if a in empty and b in empty:
        return True
    quiet = lambda v: v in empty or (isinstance(v, dict) and v.get("rope_type", v.get("type")) == "default")  # noqa: E731
    return quiet(a) and quiet(b)
