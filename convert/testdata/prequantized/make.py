"""Writes the quantized releases of this folder, and beside each what its reference code makes of it.

    pip install torch safetensors transformers compressed-tensors auto-gptq autoawq   # or, without a GPU, the last two with --no-deps
    python make.py

Every folder holds `config.json`, `model.safetensors` (a second shard where there is one) and `expected.tensors`: the dequantized
weights, in the dtype that the reference computes them in, under the keys that the float weights have.

FP8: `Fp8Dequantize` of transformers. Where blocks do not divide the weight evenly (transformers refuses), and for scales that are no grid of
blocks, its formula is written out below. compressed-tensors: its compressors' `decompress`. AWQ: autoawq's `dequantize_gemm`. GPTQ:
auto-gptq 0.7.1 needs CUDA to be imported as a whole, so `forward` of its `qlinear_cuda_old.QuantLinear` up to the matrix product is
restated in numpy (`gptq_weight`), and packing is its `pack`, restated likewise.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from awq.utils.packing_utils import dequantize_gemm
from compressed_tensors.compressors import BaseCompressor
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from safetensors.torch import save_file
from transformers.integrations.finegrained_fp8 import Fp8Dequantize

HERE = Path(__file__).parent
E4M3, E5M2 = torch.float8_e4m3fn, torch.float8_e5m2


def write(name, config, tensors, expected, shard=None):
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    files = {"model.safetensors": tensors}
    if shard:
        files = {"model-00001-of-00002.safetensors": tensors, "model-00002-of-00002.safetensors": shard}
        places = {key: file for file, keys in files.items() for key in keys}
        index = {"metadata": {}, "weight_map": places}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index) + "\n")
    for file, keys in files.items():
        save_file({key: value.contiguous() for key, value in keys.items()}, folder / file, {"format": "pt"})
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.tensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def random(*shape, scale=0.05):
    return torch.randn(*shape) * scale


def fp8(weight, block, fmt=E4M3):
    """Codes and the float32 scales of blocks, the last of which may be ragged."""
    rows, cols = weight.shape[-2:]
    height, width = block
    down, across = -(-rows // height), -(-cols // width)
    padded = torch.zeros(*weight.shape[:-2], down * height, across * width)
    padded[..., :rows, :cols] = weight
    blocks = padded.reshape(*weight.shape[:-2], down, height, across, width)
    scales = blocks.abs().amax(dim=(-3, -1)) / torch.finfo(fmt).max + 1e-6
    codes = (blocks / scales[..., :, None, :, None]).reshape(padded.shape)[..., :rows, :cols]
    return codes.to(fmt), scales


def spread(scales, block, shape):
    """Each block's scale for each weight: what weight_dequant_kernel of DeepSeek's release indexes."""
    wide = scales.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)
    return wide[..., : shape[-2], : shape[-1]]


def fp8_block():
    tensors, expected, second = {}, {}, {}
    op = Fp8Dequantize(None)
    for name, shape, dtype in [
        ("model.layers.0.mlp.up_proj", (64, 96), torch.float32),
        ("model.layers.0.mlp.down_proj", (96, 64), torch.bfloat16),
        ("model.layers.0.self_attn.q_proj", (32, 32), torch.float8_e8m0fnu),
    ]:
        codes, scales = fp8(random(*shape), (32, 32))
        scales = scales.to(dtype)
        place = second if "q_proj" in name else tensors
        tensors[f"{name}.weight"] = codes
        place[f"{name}.weight_scale_inv"] = scales
        expected[f"{name}.weight"] = op._dequantize_one(codes, scales, output_dtype=torch.float32)
    # A last block that is ragged on both axes: transformers refuses, DeepSeek's kernel masks.
    codes, scales = fp8(random(50, 70), (32, 32))
    tensors["model.layers.1.mlp.up_proj.weight"] = codes
    tensors["model.layers.1.mlp.up_proj.weight_scale_inv"] = scales
    expected["model.layers.1.mlp.up_proj.weight"] = codes.float() * spread(scales, (32, 32), (50, 70))
    # Experts in a stack, by transformers' names.
    codes, scales = fp8(random(3, 64, 32), (32, 32))
    tensors["model.layers.1.mlp.experts.gate_up_proj"] = codes
    tensors["model.layers.1.mlp.experts.gate_up_proj_scale_inv"] = scales
    expected["model.layers.1.mlp.experts.gate_up_proj"] = torch.stack(
        [op._dequantize_one(c, s, output_dtype=torch.float32) for c, s in zip(codes, scales)]
    )
    # Multi-token prediction, scales of activations and of the cache, and what is left as it is.
    codes, scales = fp8(random(32, 64), (32, 32))
    tensors["model.layers.61.eh_proj.weight"] = codes
    second["model.layers.61.eh_proj.weight_scale_inv"] = scales
    expected["model.layers.61.eh_proj.weight"] = op._dequantize_one(codes, scales, output_dtype=torch.float32)
    tensors["model.layers.0.self_attn.k_scale"] = torch.tensor(0.5)
    tensors["model.layers.0.mlp.up_proj.activation_scale"] = torch.tensor(2.0)
    second["lm_head.weight"] = expected["lm_head.weight"] = random(16, 32).to(torch.bfloat16)
    second["model.norm.weight"] = expected["model.norm.weight"] = torch.ones(32, dtype=torch.bfloat16)
    config = {
        "model_type": "toy",
        "text_config": {
            "torch_dtype": "bfloat16",
            "quantization_config": {
                "quant_method": "fp8",
                "fmt": "e4m3",
                "weight_block_size": [32, 32],
                "modules_to_not_convert": ["lm_head"],
            },
        },
    }
    write("fp8-block", config, tensors, expected, second)


def fp8_scales():
    """Per tensor and per channel, as FBGEMM's and ModelOpt's releases have them."""
    tensors, expected = {}, {}
    for name, shape, scales in [
        ("tensor", (8, 40), random(1).abs()),
        ("scalar", (8, 40), random(1).abs()[0]),
        ("channel", (8, 40), random(8, 1).abs()),
        ("flat", (8, 40), random(8).abs()),
    ]:
        codes = random(*shape, scale=60).to(E5M2 if name == "flat" else E4M3)
        tensors[f"{name}.weight"], tensors[f"{name}.weight_scale"] = codes, scales
        tensors[f"{name}.input_scale"] = torch.tensor(1.5)
        expected[f"{name}.weight"] = codes.float() * (scales[:, None] if name == "flat" else scales)
    for name, scales in [("a", random(3).abs()), ("b", random(3, 1, 40).abs()), ("c", random(3, 8, 1).abs())]:
        codes = random(3, 8, 40, scale=60).to(E4M3)
        tensors[f"experts.{name}"], tensors[f"experts.{name}_scale"] = codes, scales
        expected[f"experts.{name}"] = codes.float() * (scales[:, None, None] if name == "a" else scales)
    config = {"model_type": "toy", "dtype": "float32", "quantization_config": {"quant_method": "fbgemm_fp8"}}
    write("fp8-scales", config, tensors, expected)


def compressed(name, format, cases, ignore=()):
    """compressed-tensors: `cases` are (module, arguments of the weights, shape, dtype of the scales)."""
    tensors, expected, groups = {}, {}, {}
    for at, (module, arguments, shape, dtype) in enumerate(cases):
        args = QuantizationArgs(**arguments)
        groups[f"group_{at}"] = {
            "targets": [f"re:.*[.]{module}$" if at else "Linear"],
            "weights": json.loads(args.model_dump_json()),
            "format": format,
        }
        scheme = QuantizationScheme(targets=["Linear"], weights=args)
        lead = {"tensor": (1,), "channel": (shape[0], 1)}
        width = args.group_size or 1
        lead["group"] = (shape[0], -(-shape[1] // width))
        if args.block_structure:
            lead["block"] = tuple(-(-size // block) for size, block in zip(shape, args.block_structure))
        scales = random(*lead[args.strategy], scale=0.02).abs().to(dtype) + 0.01
        state = {"weight": random(*shape, scale=0.2).to(dtype), "weight_scale": scales}
        if not args.symmetric:
            low = -(1 << (args.num_bits - 1))
            state["weight_zero_point"] = torch.randint(low, -low, scales.shape, dtype=torch.int8)
        compressor = BaseCompressor.get_value_from_registry(format)
        packed = compressor.compress(state, scheme)
        weight = compressor.decompress(packed, scheme)["weight"]
        if module == "ordered":
            # Columns in an order of their own, which releases made before compressed-tensors 0.14 have: it reads them no more, so its
            # formula is written out, with each column's group from `weight_g_idx`.
            g_idx = torch.arange(shape[1])[torch.randperm(shape[1])] // width
            packed["weight_g_idx"] = g_idx.to(torch.int32)
            codes = compressor.decompress({**packed, "weight_scale": torch.ones_like(scales)}, scheme)["weight"]
            weight = codes * scales[:, g_idx]
        for part, value in packed.items():
            tensors[f"model.{module}.{part}"] = value if value.ndim else value[None]
        expected[f"model.{module}.weight"] = weight
    tensors["lm_head.weight"] = expected["lm_head.weight"] = random(4, 32).to(torch.bfloat16)
    section = {"quant_method": "compressed-tensors", "format": format, "config_groups": groups, "ignore": list(ignore)}
    write(name, {"model_type": "toy", "quantization_config": section}, tensors, expected)


def stream(values, bits):
    """Codes along the first axis as 32-bit words: a little-endian stream of bits down every column."""
    values = np.asarray(values, dtype=np.uint64)
    words = np.zeros((values.shape[0] * bits // 32, values.shape[1]), dtype=np.uint64)
    for at in range(values.shape[0]):
        for bit in range(bits):
            place = at * bits + bit
            words[place // 32] |= ((values[at] >> np.uint64(bit)) & np.uint64(1)) << np.uint64(place % 32)
    return words.astype(np.uint32).view(np.int32)


def gptq_weight(codes, zeros, scales, g_idx):
    """`scales * (weight - zeros)` in float16, transposed to a Linear's weight."""
    wide = codes.astype(np.int32) - zeros.astype(np.int32)[g_idx]
    return torch.from_numpy(scales.astype(np.float16)[g_idx] * wide.astype(np.float16)).T


def gptq(name, bits, group, v2=False, act_order=False, symmetric=False, **more):
    rng = np.random.default_rng(bits * 1000 + group + v2)
    inputs, outputs = 128, 64
    groups = 1 if group == -1 else -(-inputs // group)
    order = rng.permutation(inputs) if act_order else np.arange(inputs)
    g_idx = order // (inputs if group == -1 else group)
    codes = rng.integers(0, 1 << bits, (inputs, outputs))
    scales = np.abs(rng.normal(size=(groups, outputs)) * 0.02 + 0.05).astype(np.float16)
    zeros = np.full((groups, outputs), 1 << (bits - 1)) if symmetric else rng.integers(0, 1 << bits, (groups, outputs))
    kept = zeros if v2 else (zeros - 1) % (1 << bits)
    module = "model.layers.0.mlp.up_proj"
    tensors = {
        f"{module}.qweight": torch.from_numpy(stream(codes, bits)),
        f"{module}.qzeros": torch.from_numpy(np.ascontiguousarray(stream(kept.T, bits).T)),
        f"{module}.scales": torch.from_numpy(scales),
        f"{module}.g_idx": torch.from_numpy(g_idx.astype(np.int32)),
        f"{module}.bias": torch.zeros(outputs, dtype=torch.float16),
        "model.norm.weight": torch.ones(64, dtype=torch.float16),
    }
    if more.pop("without_g_idx", False):
        del tensors[f"{module}.g_idx"]
    expected = {
        f"{module}.weight": gptq_weight(codes, zeros, scales, g_idx),
        f"{module}.bias": tensors[f"{module}.bias"],
        "model.norm.weight": tensors["model.norm.weight"],
    }
    section = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": act_order, "sym": symmetric}
    section["checkpoint_format"] = "gptq_v2" if v2 else "gptq"
    write(name, {"model_type": "toy", "torch_dtype": "float16", "quantization_config": section}, tensors, expected)


def awq(name, group):
    rng = np.random.default_rng(7)
    inputs, outputs = 128, 64
    codes = rng.integers(0, 16, (inputs, outputs))
    zeros = rng.integers(0, 16, (inputs // group, outputs))
    scales = torch.from_numpy(np.abs(rng.normal(size=zeros.shape) * 0.02 + 0.05).astype(np.float16))

    def pack(values):
        order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
        nibbles = values.reshape(values.shape[0], -1, 8)[:, :, order].reshape(values.shape)
        return torch.from_numpy(np.ascontiguousarray(stream(nibbles.T, 4).T))

    qweight, qzeros = pack(codes), pack(zeros)
    weight = dequantize_gemm(qweight, qzeros, scales, 4, group)
    assert np.array_equal(weight.numpy(), (scales * 1).numpy().repeat(group, 0) * (codes - zeros.repeat(group, 0)).astype(np.float16))
    module = "model.layers.0.mlp.up_proj"
    tensors = {f"{module}.qweight": qweight, f"{module}.qzeros": qzeros, f"{module}.scales": scales}
    expected = {f"{module}.weight": weight.T}
    section = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
    write(name, {"model_type": "toy", "quantization_config": section}, tensors, expected)


def main():
    torch.manual_seed(18)
    fp8_block()
    fp8_scales()
    ints = {"num_bits": 4, "type": "int"}
    compressed(
        "ct-packed",
        "pack-quantized",
        [
            ("a", {**ints, "strategy": "group", "group_size": 32, "symmetric": True}, (24, 96), torch.bfloat16),
            ("b", {**ints, "strategy": "group", "group_size": 64, "symmetric": False}, (32, 128), torch.float16),
            ("c", {**ints, "strategy": "channel", "symmetric": True}, (8, 40), torch.float32),
            ("d", {**ints, "num_bits": 8, "strategy": "channel", "symmetric": False}, (9, 50), torch.bfloat16),
            ("e", {**ints, "num_bits": 3, "strategy": "group", "group_size": 32, "symmetric": False}, (10, 64), torch.float32),
            ("ordered", {**ints, "strategy": "group", "group_size": 32, "symmetric": True}, (8, 96), torch.bfloat16),
        ],
        ["lm_head"],
    )
    compressed(
        "ct-int8",
        "int-quantized",
        [
            ("a", {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True}, (24, 96), torch.bfloat16),
            ("b", {"num_bits": 8, "type": "int", "strategy": "tensor", "symmetric": True}, (7, 33), torch.float32),
            ("c", {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": False}, (16, 64), torch.float16),
            ("d", {"num_bits": 8, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}, (16, 64), torch.bfloat16),
        ],
        ["re:.*lm_head"],
    )
    floats = {"num_bits": 8, "type": "float", "symmetric": True}
    compressed(
        "ct-float8",
        "float-quantized",
        [
            ("a", {**floats, "strategy": "channel"}, (24, 96), torch.bfloat16),
            ("b", {**floats, "strategy": "tensor"}, (7, 33), torch.float32),
            ("c", {**floats, "strategy": "block", "block_structure": [16, 32]}, (24, 80), torch.bfloat16),
        ],
        ["lm_head"],
    )
    for bits in (2, 3, 4, 8):
        gptq(f"gptq-{bits}", bits, 32)
    gptq("gptq-v2", 4, 64, v2=True)
    gptq("gptq-act-order", 4, 32, act_order=True)
    gptq("gptq-rows", 4, -1, symmetric=True, without_g_idx=True)
    awq("awq", 32)
    awq("awq-128", 128)


if __name__ == "__main__":
    sys.exit(main())
