#!/usr/bin/env python3
"""Converts a DeepSeek-OCR release with mlx-vlm's own code, for `cargo xtask bench convert` to compare with.

    python convert.py RELEASE OUT [--quantize MODE] [--bits N] [--group-size N] [--quantize-rules PRESET]

The options are those of `mlxport convert`, with the same defaults (--bits alone is affine).

It takes the steps of `mlx_vlm.convert` (load lazily, cast, quantize, save) without the processor, whose files a synthetic release has not.
Two things keep mlx-vlm 0.7.10 from converting the release as published, and are put right here in memory: config.json says
`deepseek_vl_v2`, which is another model to mlx-vlm, and lacks fields that it demands.
"""
import argparse
import json
import os
import pathlib
import tempfile

import mlx.core as mx
from mlx.utils import tree_map_with_path
from mlx_vlm import utils
from mlx_vlm.convert import mixed_quant_predicate_builder
from mlx_vlm.quant_utils import quantize_model


def corrected(release, folder):
    """The release under a config that mlx-vlm takes: links to its files, and a new config.json."""
    for path in release.iterdir():
        if path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((release / "config.json").read_text())
    config["model_type"] = "deepseekocr"
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def cast(model, dtype):
    wanted = getattr(model, "cast_predicate", lambda _: True)
    change = lambda k, v: v.astype(dtype) if wanted(k) and mx.issubdtype(v.dtype, mx.floating) else v
    model.update(tree_map_with_path(change, model.parameters()))


DEFAULTS = {"affine": (64, 4), "mxfp4": (32, 4), "mxfp8": (32, 8), "nvfp4": (16, 4)}


def convert(release, out, mode, bits, group_size, preset):
    config = utils.load_config(release)
    model = utils.load_model(release, lazy=True)
    cast(model, mx.bfloat16)
    if mode:
        own = getattr(model, "quant_predicate", None)

        def chosen(path, module):
            if utils.skip_multimodal_module(path):
                return False
            return own(path, module) if own else True

        predicate = mixed_quant_predicate_builder(preset, model) if preset else chosen
        default_group, default_bits = DEFAULTS[mode]
        size = (group_size or default_group, bits or default_bits)
        model, config = quantize_model(model, config, *size, mode=mode, quant_predicate=predicate)
    utils.save_weights(out, model, donate_weights=True)
    utils.save_config(config, config_path=out / "config.json")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("release", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--quantize", choices=DEFAULTS)
    parser.add_argument("--bits", type=int)
    parser.add_argument("--group-size", type=int)
    parser.add_argument("--quantize-rules")
    arguments = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        release = corrected(arguments.release, pathlib.Path(folder))
        mode = arguments.quantize or ("affine" if arguments.bits else None)
        convert(release, arguments.out, mode, arguments.bits, arguments.group_size, arguments.quantize_rules)
