"""`python -m mlxport.check`: makes reference and port, runs the scenarios, and writes what `mlxport check` judges."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

# What pip calls each package; on Linux MLX has its backends as extras.
NEEDED = {
    "torch": "torch",
    "transformers": "transformers",
    "mlx": "mlx" if sys.platform == "darwin" else '"mlx[cpu]"',
    "mlx_lm": "mlx-lm",
    "mlx_vlm": "mlx-vlm",
    "mlx_audio": "mlx-audio",
    "gguf": "gguf",
    "accelerate": "accelerate",
}


def arguments() -> argparse.Namespace:
    """The command line that `mlxport check` gives."""
    parser = argparse.ArgumentParser(prog="python -m mlxport.check", description=__doc__)
    parser.add_argument("model", nargs="?", help="a Hugging Face directory, a hub id, or a GGUF file")
    parser.add_argument("--model-type", help="a small random model of that architecture instead")
    parser.add_argument("--reference", metavar="FILE.py:Class", help="a PyTorch module of one's own instead")
    parser.add_argument("--port", help="mlx-lm, mlx-vlm or FILE.py:Class (mlx-lm; with pictures mlx-vlm)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a field of the small model's config"
    )
    parser.add_argument("--scenarios", default="all", help="a comma-separated list, or all")
    parser.add_argument("--dtype", choices=["f32", "bf16"], default="f32", help="bf16: the port in bfloat16, too")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", choices=["hub", "as-saved", "resaved"], default="hub")
    parser.add_argument("--quantized", metavar="DIR", help="a quantized conversion: KL and top-1 on real text")
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--out", required=True, type=Path, help="the directory to write; it must not exist")
    args = parser.parse_args()
    if [args.model, args.model_type, args.reference].count(None) != 2:
        parser.error("give one of MODEL, --model-type and --reference")
    if args.set and args.model_type is None:
        parser.error("--set is for --model-type: a directory has a config of its own")
    return args


def missing(args: argparse.Namespace) -> list[str]:
    """The packages that are needed and not installed, by pip's names."""
    wanted = ["torch", "transformers", "mlx", "mlx_lm"]
    wanted += [args.port.replace("-", "_")] if args.port in ("mlx-vlm", "mlx-audio") else []
    wanted += ["gguf", "accelerate"] if str(args.model).endswith(".gguf") else []
    return [NEEDED[name] for name in wanted if not installed(name)]


def installed(name: str) -> bool:
    """Whether a package can be used. On Linux the wheel `mlx` alone has no backend: then it cannot be imported."""
    if name != "mlx" or importlib.util.find_spec(name) is None:
        return importlib.util.find_spec(name) is not None
    try:
        importlib.import_module("mlx.core")
    except ImportError:
        return False
    return True


def main() -> int:
    """Runs it; 0 where check.json was written, 2 where nothing could be compared."""
    args = arguments()
    lacking = missing(args)
    if lacking:
        print(f"error: not installed here: {', '.join(lacking)}; pip install {' '.join(lacking)}", file=sys.stderr)
        return 2
    if args.out.exists():
        print(f"error: {args.out} is there already: remove it, or name another", file=sys.stderr)
        return 2
    from mlxport.check.run import InputError, run

    with tempfile.TemporaryDirectory(prefix="mlxport-check-") as work:
        try:
            said = run(args, Path(work))
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "check.json").write_text(json.dumps(said, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
