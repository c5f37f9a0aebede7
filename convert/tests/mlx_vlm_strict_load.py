#!/usr/bin/env python3
"""Shows that mlx-vlm's own strict loader accepts a directory that `mlxport convert` wrote in the mlx-vlm layout.

    python -m venv venv && venv/bin/pip install "mlx-vlm==0.7.10" "mlx[cpu]"      (on macOS without [cpu])
    venv/bin/python mlx_vlm_strict_load.py DIR [--values]

It takes the path mlx-vlm takes: read config.json, build the model class from it, run the class's sanitizers over the weights, and call
`load_weights(strict=True)`, which fails on a missing, an extra or a misshapen tensor. mlx-vlm 0.7.10 fixes the SAM tower's sizes and
CLIP's table in its code; so that small checkpoints can be checked too, those constants are taken from config.json here, and nothing
else is changed. With --values every loaded tensor is also compared with the file, bit by bit. Exit code 0: accepted.
"""
import argparse
import dataclasses
import json
import pathlib
import sys

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten
from mlx_vlm.models import deepseekocr
from mlx_vlm.models.deepseekocr import deepseekocr as port
from mlx_vlm.models.deepseekocr import sam, vision


def adopt_sizes(config):
    """Replaces sizes that mlx-vlm writes out in code by those of config.json."""
    tower = config["vision_config"]["width"]["sam_vit_b"]
    fields = {field.name for field in dataclasses.fields(port.SAMViTConfig)}
    sizes = {name: value for name, value in tower.items() if name in fields}
    original = port.SAMViTConfig
    port.SAMViTConfig = lambda: original(**sizes)

    neck, (middle, last) = tower["neck_channels"], tower["downsample_channels"]
    encoder = sam.SAMEncoder.__init__

    def build_encoder(self, *args, **kwargs):
        encoder(self, *args, **kwargs, out_chans=neck, final_out_chans=last)
        self.net_2 = nn.Conv2d(neck, middle, kernel_size=3, stride=2, padding=1, bias=False)
        self.net_3 = nn.Conv2d(middle, last, kernel_size=3, stride=2, padding=1, bias=False)

    sam.SAMEncoder.__init__ = build_encoder

    clip = config["vision_config"]["width"]["clip-l-14-224"]
    embeddings = vision.VisionEmbeddings.__init__

    def build_embeddings(self, vision_config):
        embeddings(self, vision_config)
        self.num_positions = (clip["image_size"] // clip["patch_size"]) ** 2 + 1
        self.position_embedding = nn.Embedding(self.num_positions, self.embed_dim)

    vision.VisionEmbeddings.__init__ = build_embeddings


def load(directory):
    config = json.loads((directory / "config.json").read_text())
    if config["model_type"] != "deepseekocr":
        sys.exit(f"model_type {config['model_type']}: mlx-vlm would not find the model")
    adopt_sizes(config)
    weights = {}
    for path in sorted(directory.glob("*.safetensors")):
        weights.update(mx.load(str(path)))
    before = {name: (value.shape, value.dtype) for name, value in weights.items()}
    model = deepseekocr.Model(deepseekocr.ModelConfig.from_dict(config))
    loaded = model.sanitize(dict(weights))
    loaded = model.vision_model.sanitize(loaded)
    loaded = model.language_model.sanitize(loaded)
    after = {name: (value.shape, value.dtype) for name, value in loaded.items()}
    if before != after:
        changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
        sys.exit(f"mlx-vlm's sanitizers still change {len(changed)} tensors: {changed[:5]}")
    model.load_weights(list(loaded.items()), strict=True)
    return model, weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=pathlib.Path)
    parser.add_argument("--values", action="store_true")
    arguments = parser.parse_args()
    model, weights = load(arguments.directory)
    parameters = dict(tree_flatten(model.parameters()))
    assert parameters.keys() == weights.keys()
    if arguments.values:
        for name, value in parameters.items():
            assert mx.array_equal(value, weights[name]).item(), name
    print(f"mlx-vlm loads {len(parameters)} tensors strictly")
