"""Converts small random models of other architectures with recipes of a user's own and compares PyTorch with MLX.

    python -m venv venv && venv/bin/pip install -r convert/tests/other_architectures.requirements.txt
    venv/bin/python convert/tests/other_architectures.py target/debug/mlxport

For each architecture: transformers' own model class is made with random weights (biases and norms too, so that a mixed-up one shows) and
saved with save_pretrained; `mlxport convert --recipe` and `mlxport verify` run on it; the result is loaded strictly into the MLX model
of mlx-lm or mlx-whisper; both compute logits in float32 on the CPU from one fixed input. Passes when the relative RMS of the difference is
at most 1e-5. Ends with 0 when all pass, else 1.

With `--record DIR` it writes what the Rust tests need (config, source shapes, shapes that the MLX model loads) to DIR.
Nothing is downloaded: the models are made here.
"""

import argparse
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
from safetensors import safe_open

LIMIT = 1e-5
RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"


def randomize(model, keep=()):
    """Gives every parameter but those named in `keep` random values around what it was made with."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name not in keep:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def qwen2_moe():
    """A causal language model with stacked and shared experts, grouped heads, and biases on query, key and value."""
    config = transformers.Qwen2MoeConfig(
        vocab_size=96, hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, moe_intermediate_size=20, shared_expert_intermediate_size=36, num_experts=5,
        num_experts_per_tok=2, max_position_embeddings=64, rope_theta=5000.0, bos_token_id=1, eos_token_id=2,
    )
    model = randomize(transformers.Qwen2MoeForCausalLM(config))
    tokens = np.random.default_rng(2).integers(0, 96, (2, 17))
    with torch.no_grad():
        expected = model(torch.tensor(tokens)).logits.numpy()

    def load(directory):
        from mlx_lm.utils import load_model

        return load_model(directory, strict=True)[0]

    return model, expected, load, lambda loaded: loaded(mx.array(tokens))


def whisper():
    """A speech model whose encoder begins with two one-dimensional convolutions."""
    config = transformers.WhisperConfig(
        vocab_size=120, num_mel_bins=16, encoder_layers=2, encoder_attention_heads=2, decoder_layers=2,
        decoder_attention_heads=3, d_model=24, encoder_ffn_dim=96, decoder_ffn_dim=96, max_source_positions=20,
        max_target_positions=12, bos_token_id=1, eos_token_id=2, pad_token_id=0, decoder_start_token_id=1,
    )
    model = transformers.WhisperForConditionalGeneration(config)
    model = randomize(model, keep={"model.encoder.embed_positions.weight"})
    random = np.random.default_rng(3)
    sound = random.standard_normal((2, 16, 40)).astype(np.float32)
    tokens = random.integers(3, 120, (2, 9))
    with torch.no_grad():
        outputs = model(input_features=torch.tensor(sound), decoder_input_ids=torch.tensor(tokens))
        expected = outputs.logits.numpy()

    def load(directory):
        from mlx_whisper.whisper import ModelDimensions, Whisper

        config = json.loads((directory / "config.json").read_text())
        names = ModelDimensions.__dataclass_fields__
        loaded = Whisper(ModelDimensions(**{name: config[name] for name in names}), mx.float32)
        weights = mx.load(str(directory / "model.safetensors"))
        # Which heads time words: no weight of the release; mlx-whisper counts it among its parameters.
        assert weights.setdefault("alignment_heads", loaded.alignment_heads) is loaded.alignment_heads
        loaded.load_weights(list(weights.items()), strict=True)
        return loaded

    def run(loaded):
        return loaded.logits(mx.array(tokens), loaded.embed_audio(mx.array(sound.transpose(0, 2, 1))))

    return model, expected, load, run


MODELS = {"qwen2-moe": (qwen2_moe, "qwen2-moe.toml"), "whisper": (whisper, "whisper.json")}


def relative_rms(found, expected):
    """RMS of the difference over RMS of the reference, in float64."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape and np.isfinite(found).all(), (found.shape, expected.shape)
    return float(np.sqrt(((found - expected) ** 2).mean() / (expected**2).mean()))


def record(name, source, loaded, target):
    """Config, source shapes and the MLX model's shapes, for the Rust tests."""
    shapes = {}
    with safe_open(source / "model.safetensors", "np") as file:
        for key in sorted(file.keys()):
            shapes[key] = list(file.get_slice(key).get_shape())
    layout = {key: list(value.shape) for key, value in sorted(tree_flatten(loaded.parameters()))}
    layout.pop("alignment_heads", None)
    config = json.loads((source / "config.json").read_text())
    whole = {"config": config, "shapes": shapes, "layout": layout}
    parts = [f'"{part}": {json.dumps(value)}' for part, value in whole.items()]
    (target / f"{name}.json").write_text("{\n" + ",\n".join(parts) + "\n}\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mlxport", help="the mlxport program")
    parser.add_argument("--record", metavar="DIR", type=Path, help="write what the Rust tests need")
    parser.add_argument("--only", choices=MODELS, help="one model instead of all")
    arguments = parser.parse_args()
    mx.set_default_device(mx.cpu)
    failed = 0
    for name in [arguments.only] if arguments.only else MODELS:
        make, recipe = MODELS[name]
        model, expected, load, run = make()
        with tempfile.TemporaryDirectory() as home:
            source, target = Path(home) / "release", Path(home) / "mlx"
            model.save_pretrained(source)
            convert = [arguments.mlxport, "convert", source, target, "--recipe", RECIPES / recipe]
            subprocess.run(convert, check=True)
            subprocess.run([arguments.mlxport, "verify", target], check=True)
            loaded = load(target)
            error = relative_rms(run(loaded), expected)
            if name == "qwen2-moe":
                naive = relative_rms(run(load(source)), expected)
                print(f"{name}: mlx-lm on the release as it is, without mlxport: relative RMS {naive:.2e}")
            if arguments.record:
                record(name, source, loaded, arguments.record)
        passed = error <= LIMIT
        failed += not passed
        print(f"{name}: relative RMS {error:.2e}, at most {LIMIT:.0e}: {'pass' if passed else 'FAIL'}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
