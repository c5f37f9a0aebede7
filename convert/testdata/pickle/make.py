"""Makes the small PyTorch files of this directory, and for each the same tensors as safetensors.

    pip install torch==2.15.0 numpy==2.4.6
    python make.py

Every value is a function of its place, so the files come out with the same tensors each time (the archives' serialization ids may
differ). views.pt holds every dtype and every kind of view; toy.bin and the shards hold a made-up model for the recipe in
tests/it/pickle.rs; met/ holds it as people's training leaves it; the others are training checkpoints and what must be refused.
"""

import argparse
import datetime
import fractions
import json
import os
import pickle
import struct
import sys
import warnings
from collections import OrderedDict
from pathlib import Path

import torch

HERE = Path(__file__).parent
NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.uint16: "U16", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.complex64: "C64",
}


def with_file_names_only():
    """The format before 1.6 keeps each module's source and where it lay: here its file's name alone, so that no machine's folders get in."""
    found = torch.serialization.get_source_lines_and_file

    def named(*args, **kwargs):
        lines, first, file = found(*args, **kwargs)
        return lines, first, Path(file).name

    torch.serialization.get_source_lines_and_file = named


def write_safetensors(path, tensors):
    """The tensors row-major, in the order given."""
    header, data = {}, b""
    for key, tensor in tensors.items():
        flat = tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1)
        raw = bytes(flat.view(torch.uint8).tolist()) if flat.numel() else b""
        header[key] = {"dtype": NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def ramp(*shape, first=0.0, dtype=torch.float32):
    count = 1
    for size in shape:
        count *= size
    return (torch.arange(count, dtype=torch.float64) + first).to(dtype).reshape(shape)


def views():
    base = ramp(4, 6)
    tied = ramp(3, 5, first=50)
    out = OrderedDict()
    for dtype, name in NAMES.items():
        out["dtype." + name] = ramp(7, first=-3 if dtype.is_signed else 0, dtype=dtype)
    out["view.whole"] = base
    out["view.transposed"] = base.t()
    out["view.column"] = base[:, 2]
    out["view.rows"] = base[1:3]
    out["view.steps"] = base[::2, 1::3]
    out["view.permuted"] = ramp(2, 3, 4).permute(2, 0, 1)
    out["view.channels_last"] = ramp(2, 3, 4, 5).to(memory_format=torch.channels_last)
    out["view.expanded"] = ramp(3, 1).expand(3, 4)
    out["view.expanded_outer"] = ramp(1, 4).expand(3, 4)
    out["view.overlapping"] = ramp(10).unfold(0, 4, 2)
    out["view.scalar"] = torch.tensor(2.5)
    out["view.empty"] = torch.empty(0, 3)
    out["view.one"] = ramp(5)[3:4].view(1, 1)
    out["tied.a"] = tied
    out["tied.b"] = tied
    out["tied.c"] = tied.view(5, 3)
    out["parameter"] = torch.nn.Parameter(ramp(2, 2, first=9))
    out["parameter.transposed"] = torch.nn.Parameter(ramp(2, 3, first=19).t(), requires_grad=False)
    out["buffer"] = torch.nn.Buffer(ramp(3, first=29))
    with_state = torch.nn.Parameter(ramp(2, first=39))
    with_state.note = "an attribute"
    out["parameter.with_state"] = with_state
    out["\u03c4\u00e9nsor"] = ramp(2, first=90)
    return out


def toy():
    """Row-major values of the made-up model; what is stored how is in stored_toy."""
    return OrderedDict(
        a=ramp(4), conv=ramp(4, 3, 2, 2), t=ramp(4, 3), unfold=ramp(4, 12), qkv=ramp(12, 2), left=ramp(4, 1),
        right=ramp(4, 2, first=100), gone=torch.zeros(1, dtype=torch.int64), **{"e.0.w": ramp(2, first=10), "e.1.w": ramp(2, first=20)},
    )


def stored_toy():
    """The same values, stored as PyTorch programs leave them."""
    out = toy()
    out["a"] = torch.nn.Parameter(out["a"])
    out["conv"] = out["conv"].to(memory_format=torch.channels_last)
    out["t"] = out["t"].t().contiguous().t()
    out["unfold"] = out["unfold"].t().contiguous().t()
    wide = torch.full((14, 3), -1.0)
    wide[1:13, :2] = out["qkv"]
    out["qkv"] = wide[1:13, :2]
    both = torch.cat([out["e.1.w"], out["e.0.w"]])
    out["e.0.w"], out["e.1.w"] = both[2:], both[:2]
    return out


class Evil:
    def __reduce__(self):
        return os.system, ("touch mlxport-was-here",)


class Node(torch.nn.Module):
    """The made-up model as a module: a class that only this file has."""

    def __init__(self, tensors=None):
        super().__init__()
        for key, tensor in (tensors or {}).items():
            if tensor.is_floating_point():
                self.register_parameter(key, torch.nn.Parameter(tensor))
            else:
                self.register_buffer(key, tensor)
        self.register_buffer("mask", torch.ones(2), persistent=False)
        self.register_parameter("absent", None)


def whole():
    """The made-up model as people build it, and pickle it whole."""
    tensors = toy()
    root = Node({key: tensor for key, tensor in tensors.items() if "." not in key})
    root.e = torch.nn.ModuleList([Node({"w": tensors["e.0.w"]}), Node({"w": tensors["e.1.w"]})])
    return root


def met():
    """Files as they are met: what people's training leaves. All hold the made-up model."""
    (HERE / "met").mkdir(exist_ok=True)
    plain = toy()

    def prefixed(prefix):
        return OrderedDict((prefix + key, tensor) for key, tensor in plain.items())

    save("met/legacy.bin", stored_toy(), _use_new_zipfile_serialization=False)
    for protocol in [1, 4]:
        save(f"met/legacy_protocol{protocol}.bin", stored_toy(), _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    save("met/protocol4.bin", plain, pickle_protocol=4)
    save("met/protocol5.bin", plain, pickle_protocol=5)
    save("met/last.ckpt", {"state_dict": prefixed("net."), "epoch": 3, "hyper_parameters": {"rate": 1e-3}, "callbacks": {}})
    save("met/ddp.bin", prefixed("module."))
    save("met/compiled.bin", prefixed("module._orig_mod."))
    save("met/ints.bin", {**plain, "height": 192, "use_stereo": True, "name": "mono", "nothing": None})
    save("met/loss.pth", {"epoch": 3, "loss": torch.tensor(0.5), "model_state_dict": plain, "optimizer_state_dict": {"state": {0: {"exp_avg": ramp(4)}}}})
    save("met/rng.pth", {"state_dict": plain, "rng": torch.get_rng_state()[:16].clone()})
    save("met/ema.pth", {"model": plain, "ema": OrderedDict((key, tensor + 1) for key, tensor in plain.items())})
    save("met/paths.pth", {"model": plain, "args": argparse.Namespace(out=Path("runs/1")), "when": datetime.datetime(2024, 1, 2), "fraction": fractions.Fraction(1, 3)})
    save("met/whole.pt", whole())
    with_file_names_only()
    save("met/whole_legacy.pt", whole(), _use_new_zipfile_serialization=False)
    save("met/weights.tar", plain)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save("met/quantized.bin", {**plain, "packed": torch.quantize_per_tensor(ramp(4), 0.1, 0, torch.qint8)})


def save(name, what, **options):
    torch.save(what, HERE / name, **options)


def main():
    save("views.pt", views())
    write_safetensors(HERE / "views.safetensors", views())
    save("toy.bin", stored_toy())
    write_safetensors(HERE / "toy.safetensors", toy())
    items = list(stored_toy().items())
    names = ["pytorch_model-00001-of-00002.bin", "pytorch_model-00002-of-00002.bin"]
    for name, part in zip(names, [items[:5], items[5:]]):
        save(name, OrderedDict(part))
    shard_of = {key: names[0] if at < 5 else names[1] for at, (key, _) in enumerate(items)}
    text = json.dumps({"metadata": {"total_size": 0}, "weight_map": shard_of}, indent=1)
    (HERE / "pytorch_model.bin.index.json").write_text(text + "\n")

    model = torch.nn.Linear(3, 2)
    with torch.no_grad():
        model.weight.copy_(ramp(2, 3))
        model.bias.copy_(ramp(2, first=6))
    optimizer = torch.optim.AdamW(model.parameters())
    model(ramp(1, 3)).sum().backward()
    optimizer.step()
    with torch.no_grad():
        model.weight.copy_(ramp(2, 3))
        model.bias.copy_(ramp(2, first=6))
    weights = model.state_dict()
    checkpoint = {
        "epoch": 3, "loss": 0.5, "name": "run", "none": None, "seed": 2**64 - 1, "negative": -(2**40), "raw": b"bytes",
        "args": argparse.Namespace(rate=1e-3), "rng": torch.get_rng_state()[:16].clone(), "best": (1, [2, {"x": True}]),
        "optimizer": optimizer.state_dict(), "state_dict": weights, "again": weights,
        "ema": {"shadow": OrderedDict(weight=ramp(2, 3, first=70))},
    }
    del checkpoint["rng"]  # a tensor at the top would make the top the state dict
    save("trainer.pt", checkpoint)
    save("two.pth", {"model": weights, "state_dict": dict(weights), "step": 1})
    save("mixed.pt", {"weight": ramp(2), "epoch": 3, "none": None, "nested": {"x": ramp(1)}})
    save("legacy.pt", weights, _use_new_zipfile_serialization=False)
    save("protocol4.pt", weights, pickle_protocol=4)
    save("whole_model.pt", model)
    save("evil.pt", {"weight": ramp(2), "x": Evil()})
    save("flagged.pt", {"weight": torch.view_as_real(ramp(2, dtype=torch.complex64).conj().resolve_conj()), "neg": ramp(2, dtype=torch.complex64).conj().imag})
    (HERE / "bare.pt").write_bytes(pickle.dumps({"weight": [1.0]}, protocol=2))
    torch.jit.save(torch.jit.trace(model, ramp(1, 3)), HERE / "script.pt")


if __name__ == "__main__":
    # `python make.py met` makes the files of met/ alone.
    if sys.argv[1:] != ["met"]:
        main()
    met()
