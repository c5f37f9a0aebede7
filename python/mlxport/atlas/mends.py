"""The causes that a person read out of the atlas's failures, each proved by a few lines with which the type passes.

    python -m mlxport.atlas.mends --binary PATH [--only GLOB] [--jobs N]

A mend is applied to a copy of mlx-lm's file, in memory of nothing but that copy; then `mlxport check` must pass on it.
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from mlxport.mutants import checked, copied


@dataclass(frozen=True)
class Mend:
    """What is wrong in a port's file, and the pieces of source to exchange."""

    model_type: str
    what: str
    edits: tuple[tuple[str, str], ...]
    # Where a second fault stays: the scenarios that this mend mends.
    scenarios: str = "all"


_EPS_Q = (
    "self.q_a_layernorm = nn.RMSNorm(self.q_lora_rank)",
    "self.q_a_layernorm = nn.RMSNorm(self.q_lora_rank, eps=1e-6)",
)
_EPS_KV = (
    "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank)",
    "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank, eps=1e-6)",
)

MENDS = [
    Mend("gemma", "The MLP takes the exact GELU; PyTorch takes its tanh form.", (("nn.gelu(", "nn.gelu_approx("),)),
    Mend(
        "gpt_bigcode", "The MLP takes the exact GELU; PyTorch takes its tanh form.", (("nn.gelu(", "nn.gelu_approx("),)
    ),
    Mend(
        "starcoder2", "The MLP takes the exact GELU; PyTorch takes its tanh form.", (("nn.gelu(", "nn.gelu_approx("),)
    ),
    Mend(
        "gpt_neox", "The MLP takes GELU's tanh form; PyTorch takes the exact one.", (("nn.gelu_approx(", "nn.gelu("),)
    ),
    Mend(
        "glm",
        "The whole head is rotated; PyTorch rotates `partial_rotary_factor` of it.",
        (("nn.RoPE(dims=self.head_dim,", "nn.RoPE(dims=self.head_dim // 2,"),),
    ),
    Mend(
        "deepseek_v32",
        "The indexer's LayerNorm has MLX's default epsilon, 1e-5; PyTorch's has 1e-6.",
        (("self.k_norm = nn.LayerNorm(self.head_dim)", "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)"),),
    ),
    Mend(
        "glm4_moe_lite",
        "The norms of the latent q and kv have `rms_norm_eps`, 1e-5; PyTorch's have 1e-6.",
        (
            ("nn.RMSNorm(self.q_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.q_lora_rank, eps=1e-6)"),
            ("nn.RMSNorm(self.kv_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.kv_lora_rank, eps=1e-6)"),
        ),
    ),
    Mend(
        "longcat_flash",
        "The norms of the latent q and kv have MLX's default epsilon, 1e-5; PyTorch's have 1e-6.",
        (_EPS_Q, _EPS_KV),
    ),
    Mend(
        "minicpm3",
        "The norms of the latent q and kv have MLX's default epsilon, 1e-5; PyTorch's have 1e-6.",
        (_EPS_Q, _EPS_KV),
    ),
    Mend(
        "gemma3_text",
        "The embeddings' scale is rounded to bfloat16; PyTorch rounds it to the weights' dtype. It shows where the width's root is not whole.",
        (("mx.array(self.args.hidden_size**0.5, mx.bfloat16)", "mx.array(self.args.hidden_size**0.5, mx.float32)"),),
    ),
    Mend(
        "jamba",
        "The softmax is taken over the chosen experts, so their weights sum to 1; PyTorch takes it over all experts.",
        (
            ("gates = self.router(x)", "gates = mx.softmax(self.router(x), axis=-1, precise=True)"),
            ("        scores = mx.softmax(scores, axis=-1, precise=True)\n", ""),
        ),
        # Its state-space layers also take padding for text, as mamba's do: `batch` stays wrong.
        scenarios="prefill,decode,chunked,long,resume",
    ),
    Mend(
        "llama4",
        "The norm of q and k has epsilon 1e-6; PyTorch's has `rms_norm_eps`, 1e-5.",
        (("weight=None, eps=1e-6)", "weight=None, eps=1e-5)"),),
    ),
    Mend(
        "nemotron_h",
        "The time step is not held above `time_step_min`; PyTorch clips it there.",
        (("self.time_step_limit = args.time_step_limit", 'self.time_step_limit = (0.001, float("inf"))'),),
    ),
]


def main() -> int:
    """Checks every mend; 0 where all of them pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", default="*", help="only types that fit this glob")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args()
    wanted = [mend for mend in MENDS if fnmatch.fnmatch(mend.model_type, args.only)]

    def passes(mend: Mend) -> bool:
        said = checked(
            args.binary, mend.model_type, copied(mend.model_type, Path(place), "mended", mend.edits), mend.scenarios
        )
        first = said.get("first") or {}
        print(
            f"{mend.model_type:14} {said['verdict']:10} {first.get('point', '')} {first.get('cause') or ''}", flush=True
        )
        return said["verdict"] == "pass"

    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(args.jobs) as pool:
        right = list(pool.map(passes, wanted))
    print(f"{sum(right)} of {len(wanted)} types pass once mended")
    return 0 if wanted and all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
