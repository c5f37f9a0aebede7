"""Parity of the whole release on a GPU: PyTorch records it there, MLX runs it there, `mlxport parity` judges.

    python parity.py --mlxport BINARY --code RELEASE_CODE --release RELEASE --work DIR --out REPORTS [--device cuda] [--modes gundam,base,tiny]

RELEASE is what release.py writes (or any release of that shape). For each mode: a sampled recording by PyTorch's float32 (TF32 off) and
float64, with the floors of bfloat16 and of one quantization; then float32, bfloat16 and quantized runs against it, and one float32 run with
TF32. Prints one JSON object a run; reports go to REPORTS/MODE-RUN/. A GPU's memory is PyTorch's first, MLX's afterwards.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
CAPTURE = HERE.parent.parent / "fixtures/capture"
# The towers, every block, and in the decoder also its branches.
BLOCKS = ["[0-9]", "[12][0-9]"]
POINTS = [
    *(f"model.sam_model{rest}" for rest in ("", ".patch_embed", ".neck.3", ".net_2", ".net_3")),
    *(f"model.sam_model.blocks.{number}" for number in BLOCKS),
    *(f"model.vision_model{rest}" for rest in ("", ".embeddings", ".pre_layrnorm")),
    *(f"model.vision_model.transformer.layers.{number}" for number in BLOCKS),
    *("model.projector", "model.embed_tokens", "model.norm", "lm_head"),
    *(f"model.layers.{number}{rest}" for number in BLOCKS for rest in ("", ".self_attn", ".mlp")),
]
# Which quantization's floors a mode's recording holds.
BITS = {"gundam": "4", "base": "8", "tiny": "4"}


def call(*command):
    begun = time.perf_counter()
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    return done, time.perf_counter() - begun


def must(*command):
    done, seconds = call(*command)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    print(f"{pathlib.Path(str(command[1])).name} … {seconds:.0f} s", file=sys.stderr, flush=True)


def converted(args, name, *flags):
    target = args.work / name
    if not target.exists():
        must(args.mlxport, "convert", args.release, target, *flags)
    return target


def recorded(args, mode, quantized):
    fixture, inputs = args.work / f"recorded-{mode}", args.work / f"{mode}.safetensors"
    if fixture.exists():
        return fixture
    if args.inputs is None:
        must(sys.executable, HERE / "release.py", "inputs", mode, inputs)
    settings = {"code": args.code, "checkpoint": args.release, "inputs": args.inputs or inputs}
    said = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    points = [part for point in POINTS for part in ("--points", point)]
    must(
        *(sys.executable, CAPTURE / "anymodel.py", "--script", CAPTURE / "scripts/deepseek_ocr.py", *said, *points),
        *("--kinds", "out", "--samples", "4096", "--device", args.device, "--bf16", "--quantized", quantized, "--out", fixture),
    )
    return fixture


def judged(args, mode, run, model, fixture, *flags):
    report = args.out / f"{mode}-{run}"
    device = ("--device", "gpu" if args.device == "cuda" else "cpu")
    common = ("--model", model, "--fixture", fixture, "--mode", "cumulative", *device)
    done, seconds = call(args.mlxport, "parity", *common, "--report", report, "--json", *flags)
    found = {"mode": mode, "run": run, "exit_code": done.returncode, "seconds": round(seconds, 1)}
    if done.returncode in (0, 1):
        found.update(summary(json.loads(done.stdout)))
    else:
        found["error"] = done.stderr[-2000:]
    print(json.dumps(found), flush=True)
    return done.returncode


def summary(record):
    taps = record["taps"]
    worst = max(taps, key=lambda tap: tap.get("ratio") or 0.0)
    last = [tap for tap in taps if tap["point"] == "model.norm"]
    logits = [tap["logits"] for tap in taps if tap.get("logits")]
    return {
        "taps": len(taps),
        "failed": sum(tap["status"] != "pass" if "status" in tap else tap.get("failure") is not None for tap in taps),
        "worst_ratio": worst.get("ratio"),
        "worst_at": f"{worst['point']}#{worst['call']}",
        "error_at_norm": (last[0].get("metrics") or {}).get("rel_rms") if last else None,
        "logits": logits[-1] if logits else None,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("mlxport", "code", "release", "work", "out"):
        options.add_argument(f"--{name}", required=True, type=pathlib.Path)
    options.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="of both PyTorch and MLX")
    options.add_argument("--modes", default="gundam,base,tiny")
    options.add_argument("--inputs", type=pathlib.Path, help="use these instead of a picture of noise (a release of another size)")
    options.add_argument("--group-size", default="64")
    args = options.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    plain, worst = converted(args, "bf16"), 0
    for mode in args.modes.split(","):
        bits = BITS[mode]
        packed = converted(args, f"q{bits}", "--quantize", "affine", "--bits", bits, "--group-size", args.group_size)
        fixture = recorded(args, mode, packed)
        runs = [("f32", plain, "f32"), ("bf16", plain, "bf16"), (f"q{bits}-f32", packed, "f32"), (f"q{bits}-bf16", packed, "bf16")]
        for run, model, dtype in runs:
            worst = max(worst, judged(args, mode, run, model, fixture, "--dtype", dtype))
        if args.device == "cuda":
            # Expected to fail: what TF32 does to the verdict.
            judged(args, mode, "f32-tf32", plain, fixture, "--tf32")
    sys.exit(worst)


if __name__ == "__main__":
    main()
