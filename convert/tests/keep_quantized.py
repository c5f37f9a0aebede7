"""Loads what `mlxport convert --keep-quantized` writes into mlx-lm and compares it with the release's numbers.

    venv/bin/pip install torch transformers mlx-lm
    venv/bin/python convert/tests/keep_quantized.py target/debug/mlxport

A small Llama is made by transformers, its projections are quantized by rounding and packed as GPTQ (versions 1 and 2) and as AWQ pack. Of each
release two models are made: one with `--keep-quantized`, one with `--dequantize --dtype f32`. Both are loaded by mlx-lm, strictly.
Passes when `mx.dequantize` of every packed module gives the float model's weight, rounded as the method rounds, and when the logits differ by
at most 1e-2 relative RMS: the float weights are rounded to float16 and the packed ones are not. Ends with 0 when all pass, else 1.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import mlx.core as mx
import numpy as np
import torch
import transformers
from mlx.utils import tree_flatten
from mlx_lm.utils import load_model
from safetensors.torch import load_file, save_file

GROUP = 32
LIMIT = 1e-2


def stream(values, bits):
    """Codes along the first axis as 32-bit words: a little-endian stream of bits down every column."""
    values = values.astype(np.uint64)
    words = np.zeros((values.shape[0] * bits // 32, values.shape[1]), dtype=np.uint64)
    for at in range(values.shape[0]):
        for bit in range(bits):
            place = at * bits + bit
            words[place // 32] |= ((values[at] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place % 32)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32).copy())


def across(values, bits):
    return stream(np.ascontiguousarray(values.T), bits).T.contiguous()


def quantized(weight, method, bits):
    """One projection's tensors."""
    matrix = weight.float().numpy().T
    groups = matrix.reshape(-1, GROUP, matrix.shape[1])
    low, high = groups.min(1), groups.max(1)
    top = (1 << bits) - 1
    scales = np.maximum((high - low) / top, 1e-5).astype(np.float16)
    zeros = np.clip(np.rint(-low / scales.astype(np.float32)), 0, top).astype(np.int64)
    wide = lambda grid: grid.repeat(GROUP, 0)
    codes = np.clip(np.rint(matrix / wide(scales.astype(np.float32))) + wide(zeros), 0, top).astype(np.int64)
    if method == "awq":
        order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
        mixed = lambda grid: grid.reshape(grid.shape[0], -1, 8)[:, :, order].reshape(grid.shape)
        parts = {"qweight": across(mixed(codes), bits), "qzeros": across(mixed(zeros), bits)}
    else:
        kept = zeros if method == "gptq_v2" else (zeros - 1) % (1 << bits)
        g_idx = torch.arange(matrix.shape[0], dtype=torch.int32) // GROUP
        parts = {"qweight": stream(codes, bits), "qzeros": across(kept, bits), "g_idx": g_idx}
    return parts | {"scales": torch.from_numpy(scales)}


def release(folder, method, bits):
    config = transformers.LlamaConfig(
        vocab_size=128, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(5)
    transformers.LlamaForCausalLM(config).half().save_pretrained(folder)
    tensors = {}
    for key, value in load_file(folder / "model.safetensors").items():
        if key.endswith("_proj.weight"):
            parts = quantized(value, method, bits)
            tensors |= {key.replace("weight", part): tensor for part, tensor in parts.items()}
        else:
            tensors[key] = value
    save_file({key: value.contiguous() for key, value in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    path = folder / "config.json"
    section = {"quant_method": "awq" if method == "awq" else "gptq", "bits": bits, "group_size": GROUP}
    section |= {"version": "gemm"} if method == "awq" else {"checkpoint_format": method, "desc_act": False}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"quantization_config": section}))


def check(binary, method, bits, home):
    source = home / "release"
    release(source, method, bits)
    models = []
    for name, more in [("kept", ["--keep-quantized"]), ("floats", ["--dequantize", "--dtype", "f32"])]:
        subprocess.run([binary, "convert", source, home / name, *more], check=True, stdout=subprocess.DEVNULL)
        models.append(load_model(home / name, strict=True)[0])
    kept, floats = (dict(tree_flatten(model.parameters())) for model in models)
    packed = [key.removesuffix(".scales") for key in kept if key.endswith(".scales")]
    assert len(packed) == 14, packed
    wrong = []
    for module in packed:
        parts = [kept[f"{module}.{part}"] for part in ("weight", "scales", "biases")]
        made = mx.dequantize(*parts, group_size=GROUP, bits=bits).astype(mx.float16).astype(mx.float32)
        if not mx.array_equal(made, floats[f"{module}.weight"]).item():
            wrong.append(module)
    tokens = mx.array([[1, 5, 9, 3, 77, 12, 64, 2]])
    ours, theirs = (np.array(model(tokens).astype(mx.float32), dtype=np.float64) for model in models)
    error = np.sqrt(((ours - theirs) ** 2).mean() / (theirs**2).mean())
    print(f"{method} {bits} bits: {len(packed) - len(wrong)} of {len(packed)} modules exact, logits {error:.1e}")
    return not wrong and error <= LIMIT


def main():
    passed = True
    for method, bits in [("gptq", 2), ("gptq", 3), ("gptq", 4), ("gptq", 8), ("gptq_v2", 4), ("awq", 4)]:
        with tempfile.TemporaryDirectory() as folder:
            passed &= check(sys.argv[1], method, bits, Path(folder))
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
