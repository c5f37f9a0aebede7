"""The recipes' driver: what differs is told, faults touch what they say, tables say what was found. Nothing is converted here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlxport.recipes import covered, faults, running, table, tensors
from mlxport.recipes.tensors import Directory, Tensor


def bf16(*shape: int, seed: int = 0) -> Tensor:
    """A tensor of bfloat16 numbers near one."""
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return Tensor("BF16", list(shape), (values.view(np.uint32) >> 16).astype(np.uint16).tobytes())


def made() -> Directory:
    """Two layers with experts, heads and norms."""
    held = {"model.embed_tokens.weight": bf16(20, 8)}
    for layer in range(2):
        at = f"model.layers.{layer}."
        for nth, name in enumerate(("q_proj", "k_proj", "v_proj", "o_proj")):
            held[f"{at}self_attn.{name}.weight"] = bf16(8, 8, seed=10 * layer + nth)
        for nth, name in enumerate(("gate_proj", "up_proj", "down_proj")):
            held[f"{at}mlp.switch_mlp.{name}.weight"] = bf16(12, 8, 8, seed=100 + 10 * layer + nth)
        held[f"{at}input_layernorm.weight"] = bf16(8, seed=200 + layer)
    config = {
        "head_dim": 4,
        "num_attention_heads": 2,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-6,
        "num_experts_per_tok": 2,
    }
    return Directory(held, config)


def by_name(name: str) -> faults.Fault:
    return next(fault for fault in faults.FAULTS if fault.name == name)


def test_files_are_read_as_they_are_written(tmp_path: Path) -> None:
    tensors.write_file(tmp_path / "model.safetensors", made().tensors)
    (tmp_path / "config.json").write_text("{}")
    assert tensors.read(tmp_path).tensors == made().tensors


def test_equal_directories_do_not_differ_and_others_are_told() -> None:
    ours, theirs = made(), made()
    assert tensors.differences(ours, theirs) == []
    del ours.tensors["model.embed_tokens.weight"]
    theirs.tensors["model.layers.0.self_attn.q_proj.weight"] = bf16(8, 8, seed=77)
    theirs.tensors["model.layers.1.self_attn.q_proj.weight"] = bf16(4, 16, seed=77)
    del theirs.tensors["model.layers.0.input_layernorm.weight"]
    found = tensors.differences(ours, theirs)
    assert [text.split(": ", 1)[1][:25] for text in found] == [
        "only the peer has it",
        "the peer has none",
        "64 of 64 values are other",
        "BF16 [8, 8], the peer's i",
    ]


def test_quantization_is_compared_by_what_it_says_of_each_module() -> None:
    modules = {f"{name}.scales": bf16(2, 1) for name in "ab"}
    four, eight = {"bits": 4, "group_size": 64}, {"bits": 8, "group_size": 64}
    plain = Directory(modules, {"quantization": {**four, "mode": "affine", "b": eight}})
    wordy = Directory(modules, {"quantization": {"bits": 3, "group_size": 64, "a": dict(four), "b": eight}})
    assert tensors.packed(plain)["b"] == {"mode": "affine", **eight}
    assert tensors.differences(plain, wordy) == [] and tensors.packed(Directory()) == {}
    wordy.config["quantization"]["a"]["bits"] = 2
    assert len(tensors.differences(plain, wordy)) == 1
    assert tensors.has_own(plain) and not tensors.has_own(Directory(modules, {"quantization": four}))


@pytest.mark.parametrize(
    "fault", [fault for fault in faults.FAULTS if fault.form == "bf16"], ids=lambda fault: fault.name
)
def test_a_fault_touches_the_keys_it_names_and_no_other(fault: faults.Fault) -> None:
    right, wrong = made(), made()
    wrong.other = {name: bf16(*tensor.shape, seed=999) for name, tensor in right.tensors.items()}
    wrong.exact = {
        name: Tensor("F32", t.shape, np.ones(t.shape, np.float32).tobytes()) for name, t in right.tensors.items()
    }
    keys = fault.plant(wrong)
    if keys is None:
        assert fault.name == "window changed"
        return
    changed = {name for name in right.tensors if wrong.tensors.get(name) != right.tensors[name]}
    changed |= {name for name in right.config if wrong.config.get(name) != right.config[name]}
    named = (
        {name for name in changed if len(right.tensors[name].shape) > 1}
        if fault.name.startswith("another")
        else changed
    )
    assert set(keys) == named


def test_faults_are_what_they_are_called() -> None:
    wrong = made()
    (key,) = by_name("experts stacked as text").plant(wrong) or [""]
    order = [0, 1, 10, 11, *range(2, 10)]
    right = np.frombuffer(made().tensors[key].data, np.uint16).reshape(12, 64)
    assert (np.frombuffer(wrong.tensors[key].data, np.uint16).reshape(12, 64) == right[order]).all()
    assert len({fault.name for fault in faults.FAULTS}) == len(faults.FAULTS) >= 25
    assert faults.stem("a.weight") == faults.stem("a.scales") == "a" and faults.stem("rope_theta") == "rope_theta"


def cell(**other: object) -> dict:
    return {
        "port": "mlx-lm",
        "model_type": "llama",
        "size": 1,
        "wrong": [],
        "tensors": 21,
        "compared": ["f32", "bf16"],
        "error": 1e-7,
        "tolerance": 4e-7,
        "audits": 4,
        "faults": [{"fault": "norm + 1", "keys": ["a"], "named": True}],
        **other,
    }


def test_tables_say_what_agrees_and_what_does_not() -> None:
    cells = [
        cell(),
        cell(size=2, wrong=["bf16: a: only the peer has it"]),
        {"port": "mlx-lm", "model_type": "qwen2", "size": 1, "broke": True, "wrong": ["no"]},
    ]
    assert "same" in table.line(cells[0]) and "1/1 faults" in table.line(cells[0])
    assert table.line(cells[1]).endswith("bf16: a: only the peer has it") and "BROKE" in table.line(cells[2])
    text = table.markdown(cells)
    assert "| mlx-lm | llama | 21, 21 | **differs** |" in text and "| mlx-lm | qwen2 | broke" in text
    assert table.summary(cells[:1]).startswith("1 of 1 types agree") and table.summary(cells).startswith("0 of 2")


def test_types_are_chosen_by_name() -> None:
    assert covered.chosen([]) == list(covered.COVERED)
    assert [one.model_type for one in covered.chosen(["llama"])] == ["llama"]
    with pytest.raises(ValueError, match="nobody"):
        covered.chosen(["nobody"])


def test_a_cell_is_not_run_again_where_nothing_changed(tmp_path: Path) -> None:
    file = tmp_path / "cell.json"
    file.write_text(json.dumps({"made_by": {"binary": "a"}, "planted": False}))
    assert running.read(tmp_path, {"binary": "a"}, faults=False) is not None
    assert running.read(tmp_path, {"binary": "a"}, faults=True) is None
    assert running.read(tmp_path, {"binary": "b"}, faults=False) is None
    file.write_text(json.dumps({"made_by": {"binary": "a"}, "planted": True, "broke": True}))
    assert running.read(tmp_path, {"binary": "a"}, faults=True) is None


def test_a_module_that_is_not_compared_leaves_nothing_behind() -> None:
    held = made()
    held.tensors["model.embed_tokens.scales"] = bf16(20, 1)
    held.leave_out("model.embed_tokens")
    assert held.tensors.keys() == made().tensors.keys() - {"model.embed_tokens.weight"}


def test_every_covered_type_has_a_recipe_file() -> None:
    folder = Path(__file__).parents[2] / "convert" / "recipes"
    assert [one.model_type for one in covered.COVERED if not one.recipe_in(folder).is_file()] == []


def test_a_text_alone_comparison_says_so() -> None:
    cell = {
        "port": "p",
        "model_type": "t",
        "size": 1,
        "wrong": [],
        "tensors": 3,
        "compared": ["f32"],
        "error": 1e-7,
        "tolerance": 1e-6,
    }
    text = table.markdown([{**cell, "audits": 1, "faults": [], "text_alone": "pictures differ", "kept": "positions"}])
    assert "text alone: pictures differ" in text and "the peer packs positions, ours keeps it" in text
