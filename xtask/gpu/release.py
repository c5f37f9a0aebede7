"""A release of DeepSeek-OCR's keys, shapes and size whose weights anyone can compute again, and pictures with prompts to run it on.

    python release.py weights SHAPES.json CONFIG.json OUT [DEVICE]
    python release.py inputs gundam|base|tiny OUT.safetensors

SHAPES.json names each key's shape (`convert/testdata/deepseek-ocr.shapes.json`). A weight is SplitMix64 of its name's hash and its index,
scaled so that activations neither vanish nor grow. No checkpoint is downloaded: the trained weights are not needed to compare two programs.
"""

import hashlib
import json
import math
import pathlib
import shutil
import sys

import torch
from safetensors.torch import save_file

GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Elements made at once.
CHUNK = 1 << 26
# Tiles across and down, edge of the whole view, tokens of the prompt besides the picture's.
MODES = {"gundam": ((3, 3), 1024, 21), "base": ((1, 1), 1024, 21), "tiny": ((1, 1), 512, 21)}
TILE, PATCH, IMAGE_TOKEN = 640, 64, 128815


def signed(number):
    """A 64-bit pattern as PyTorch's int64 holds it."""
    number &= (1 << 64) - 1
    return number - (1 << 64) if number >> 63 else number


def shifted(z, by):
    """A logical shift: PyTorch's keeps the sign."""
    return (z >> by) & ((1 << (64 - by)) - 1)


def uniform(name, start, end, device):
    """Elements `start` to `end` of the noise called `name`: float32 in [-1, 1), exact."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    z = torch.arange(start + 1, end + 1, dtype=torch.int64, device=device) * signed(GOLDEN) + signed(seed)
    z = (z ^ shifted(z, 30)) * signed(FIRST)
    z = (z ^ shifted(z, 27)) * signed(SECOND)
    z = z ^ shifted(z, 31)
    return shifted(z, 40).to(torch.float32) * 2**-23 - 1


def scale_and_offset(name, shape):
    f32 = lambda value: float(torch.tensor(value, dtype=torch.float32))
    if len(shape) == 1:
        return f32(0.1), 1.0 if name.endswith("weight") else 0.0
    if name.endswith(("rel_pos_h", "rel_pos_w")):
        return f32(0.2), 0.0
    if name.endswith(("pos_embed", "position_embedding.weight")):
        return f32(0.3), 0.0
    if name.endswith("mlp.gate.weight"):
        # Routers whose choices are clear.
        return float(torch.tensor(math.sqrt(3), dtype=torch.float32) * torch.tensor(0.6, dtype=torch.float32)), 0.0
    if name.endswith("embed_tokens.weight"):
        return 1.0, 0.0
    return f32(math.sqrt(3 / math.prod(shape[1:]))), 0.0


def weight(name, shape, device):
    """One weight, bfloat16; position ids count up."""
    count = math.prod(shape)
    if name.endswith("position_ids"):
        return torch.arange(count).reshape(shape)
    scale, offset = scale_and_offset(name, shape)
    parts = (uniform(name, at, min(at + CHUNK, count), device) for at in range(0, count, CHUNK))
    return torch.cat([(offset + scale * part).to(torch.bfloat16).cpu() for part in parts]).reshape(shape)


def weights(shapes, config, out, device):
    shapes, out = json.loads(pathlib.Path(shapes).read_text()), pathlib.Path(out)
    out.mkdir(parents=True)
    shutil.copy(config, out / "config.json")
    tensors = {name: weight(name, shape, device) for name, shape in shapes.items()}
    name = "model-00001-of-000001.safetensors"
    save_file(tensors, out / name, metadata={"format": "pt"})
    sizes = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": sizes}, "weight_map": dict.fromkeys(tensors, name)}
    (out / "model.safetensors.index.json").write_text(json.dumps(index))


def inputs(mode, out):
    """What the release's preprocessing would give the model for a picture of noise."""
    (across, down), edge, text = MODES[mode]
    is_tiled = (across, down) != (1, 1)
    tokens = (edge // PATCH) * (edge // PATCH + 1) + 1
    if is_tiled:
        tokens += down * (TILE // PATCH) * (across * (TILE // PATCH) + 1)
    random = torch.Generator().manual_seed(2026)
    pixels = lambda count, edge: torch.rand((count, 3, edge, edge), generator=random) * 2 - 1
    words = torch.randint(1000, 100_000, (text,), generator=random)
    ids = torch.cat([words[:1], torch.full((tokens,), IMAGE_TOKEN), words[1:]])
    save_file(
        {
            "input_ids": ids[None],
            "images_seq_mask": (ids == IMAGE_TOKEN)[None],
            "images_spatial_crop": torch.tensor([[across, down]]),
            "images_ori": pixels(1, edge),
            "images_crop": pixels(across * down, TILE) if is_tiled else torch.zeros(1, 3, edge, edge),
        },
        out,
    )
    print(f"{mode}: {tokens} image tokens, {ids.numel()} in all")


if __name__ == "__main__":
    if sys.argv[1] == "weights":
        weights(*sys.argv[2:5], sys.argv[5] if len(sys.argv) > 5 else "cpu")
    else:
        inputs(*sys.argv[2:4])
