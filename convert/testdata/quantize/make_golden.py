"""Records what `mx.quantize` and `mx.dequantize` of MLX make on a CPU, for convert/tests/it/quantize.rs.

    pip install 'mlx[cpu]==0.32.2' numpy==2.4.6
    python make_golden.py golden.safetensors

On Linux x86-64; no GPU may be the default device. The file holds, for each dtype, the inputs `<dtype>/values` (rows of 128 of every
kind below), and for each quantization `<dtype>/<mode>-<bits>-<group>/{weight,scales,biases}`. Its metadata holds the MLX version and,
under the same name, the SHA-256 of the dequantized bytes (little endian, dtype as the input's, every NaN written as the dtype's
positive quiet NaN, whose other bits MLX does not define).
"""

import hashlib
import sys

import mlx.core as mx
import numpy as np

ROWS = 128
DTYPES = {"F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16}
# Largest number, smallest number above zero, smallest normal one.
LIMITS = {
    "F32": (3.4028234663852886e38, 2.0**-149, 2.0**-126),
    "F16": (65504.0, 2.0**-24, 2.0**-14),
    "BF16": (3.3895313892515355e38, 2.0**-133, 2.0**-126),
}
QUANTIZATIONS = [("affine", bits, group) for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)]
QUANTIZATIONS += [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)]


def rows(dtype: str) -> np.ndarray:
    """The kinds of rows, as float64; rounded to the dtype by the caller."""
    largest, smallest, normal = LIMITS[dtype]
    random = np.random.default_rng(20)
    gauss = random.standard_normal((8, ROWS))
    signs = np.where(random.random(ROWS) < 0.5, -1.0, 1.0)
    made = [
        np.where(np.arange(ROWS) % 2 == 0, 0.0, -0.0),
        np.full(ROWS, 0.7),
        np.full(ROWS, -0.3),
        np.abs(gauss[0]) + 0.25,
        -np.abs(gauss[1]) - 0.25,
        gauss[2] * 0.02,
        gauss[3] * np.repeat([1e-3, 1.0, 30.0, 1e-6], ROWS // 4),
        random.integers(-200, 200, ROWS) * smallest,
        gauss[4] * normal * 8,
        signs * largest,
        np.abs(signs) * largest * np.linspace(0.01, 1, ROWS),
        random.integers(-28, 29, ROWS) / 4,  # middles between E2M1's numbers
        random.integers(-64, 65, ROWS) / 2,  # middles on a grid of whole steps
        np.where(np.arange(ROWS) % 16 == 0, 6.0 * (1 + 2.0**-10), gauss[5] * 0.5),
        np.where(random.random(ROWS) < 0.05, gauss[6] * 50, gauss[6] * 0.01),
        random.uniform(-1, 1, ROWS) * np.exp2(np.repeat(random.integers(-12, 12, 8), 16)),
    ]
    return np.stack(made)


def digest(array: mx.array) -> str:
    """SHA-256 of the bytes, NaNs made one."""
    width, nan = {mx.float32: (mx.uint32, 0x7FC00000), mx.float16: (mx.uint16, 0x7E00), mx.bfloat16: (mx.uint16, 0x7FC0)}[array.dtype]
    bits = mx.where(mx.isnan(array), mx.array(nan, width), mx.view(array, width))
    return hashlib.sha256(np.array(bits).tobytes()).hexdigest()


def main() -> None:
    assert mx.default_device().type == mx.DeviceType.cpu, "MLX's GPU kernels are other arithmetic"
    tensors, metadata = {}, {"mlx": mx.__version__}
    for name, dtype in DTYPES.items():
        with np.errstate(over="ignore"):
            values = mx.array(np.clip(rows(name), -LIMITS[name][0], LIMITS[name][0]).astype(np.float32)).astype(dtype)
        tensors[f"{name}/values"] = values
        for mode, bits, group in QUANTIZATIONS:
            key = f"{name}/{mode}-{bits}-{group}"
            made = mx.quantize(values, group_size=group, bits=bits, mode=mode)
            tensors.update(zip((f"{key}/weight", f"{key}/scales", f"{key}/biases"), made))
            metadata[key] = digest(mx.dequantize(*made, group_size=group, bits=bits, mode=mode, dtype=dtype))
    mx.save_safetensors(sys.argv[1], tensors, metadata)


if __name__ == "__main__":
    main()
