#!/usr/bin/env python3
"""Shows that mlx-vlm's own loader accepts what `mlxport convert` wrote in the mlx-vlm layout, quantized or not.

    python load.py DIR [--like OTHER]

`mlx_vlm.utils.load_model` reads config.json, builds the model, makes its layers quantized as the config and the files say, sanitizes the
weights and loads them. Then nothing may be left over on either side: the model's parameters are the files' tensors, by name, shape, dtype
and (with the values read) bit by bit, and every quantized layer has the settings that config.json gives it. With --like, every tensor is
also compared with another directory's, bit by bit: what mlx-vlm's converter made of the same release. Exit code 0: accepted.
"""
import argparse
import json
import pathlib
import sys

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_vlm import utils


def tensors(directory):
    found = {}
    for path in sorted(directory.glob("*.safetensors")):
        found.update(mx.load(str(path)))
    return found


def same(one, other):
    """Whether two arrays hold the same bytes; NaN would equal NaN."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    return mx.array_equal(one.view(mx.uint8), other.view(mx.uint8)).item()


def compare(what, found, expected):
    if found.keys() != expected.keys():
        sys.exit(f"{what}: only one side has {sorted(found.keys() ^ expected.keys())[:5]}")
    wrong = [name for name in found if not same(found[name], expected[name])]
    if wrong:
        sys.exit(f"{what}: {len(wrong)} tensors differ, first {wrong[:5]}")


def settings(model, config):
    """Every quantized layer against config.json; returns how many there are."""
    base = config.get("quantization")
    count = 0
    for path, module in model.named_modules():
        if not hasattr(module, "bits"):
            continue
        count += 1
        wanted = base.get(path, base)
        for name in ("bits", "group_size", "mode"):
            if getattr(module, name) != wanted[name]:
                sys.exit(f"{path}: {name} is {getattr(module, name)}, config.json says {wanted[name]}")
    return count


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--like", type=pathlib.Path)
    arguments = parser.parse_args()
    config = json.loads((arguments.directory / "config.json").read_text())
    if config.get("quantization") != config.get("quantization_config"):
        sys.exit("quantization and quantization_config differ")
    model = utils.load_model(arguments.directory, lazy=True, strict=True)
    parameters = dict(tree_flatten(model.parameters()))
    compare("mlx-vlm's model against the files", parameters, tensors(arguments.directory))
    quantized = settings(model, config)
    if ("quantization" in config) != (quantized > 0):
        sys.exit(f"config.json and the model disagree: {quantized} quantized layers")
    if arguments.like:
        compare("mlxport against mlx-vlm's converter", tensors(arguments.directory), tensors(arguments.like))
    like = ", bit by bit what mlx-vlm's converter writes" if arguments.like else ""
    print(f"mlx-vlm loads {len(parameters)} tensors strictly, {quantized} layers quantized{like}")
