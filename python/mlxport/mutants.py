"""Plants faults in copies of mlx-lm's models and asks whether `mlxport check` finds each, and whether it leaves unchanged copies alone.

    python -m mlxport.mutants --binary PATH [--only GLOB] [--out FILE]

A fault is a piece of a port's source that is exchanged for another; a piece that is not there any more is an error, not a pass.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from mlxport import copies


@dataclass(frozen=True)
class Fault:
    """One fault: where, what is exchanged, which module is to be named, in which scenario it shows."""

    model_type: str
    name: str
    old: str
    new: str
    module: str
    scenario: str = "prefill"


FAULTS = [
    Fault(
        "llama",
        "epsilon",
        "self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=args.rms_norm_eps)",
        "self.input_layernorm = nn.RMSNorm(args.hidden_size, eps=1e-5)",
        "input_layernorm",
    ),
    Fault("llama", "theta", "            args.rope_theta,\n", "            args.rope_theta * 10,\n", "self_attn"),
    Fault("llama", "scale", "self.scale = head_dim**-0.5", "self.scale = dim**-0.5", "self_attn"),
    Fault(
        "llama",
        "gate and up exchanged",
        "swiglu(self.gate_proj(x), self.up_proj(x))",
        "swiglu(self.up_proj(x), self.gate_proj(x))",
        "mlp",
    ),
    Fault(
        "llama",
        "activation",
        "swiglu(self.gate_proj(x), self.up_proj(x))",
        "nn.gelu(self.gate_proj(x)) * self.up_proj(x)",
        "mlp",
    ),
    Fault("llama", "residual lost", "        out = h + r\n", "        out = r\n", "layers.0"),
    Fault(
        "llama",
        "no causal mask",
        "queries, keys, values, cache=cache, scale=self.scale, mask=mask",
        "queries, keys, values, cache=cache, scale=self.scale, mask=None",
        "self_attn",
    ),
    Fault(
        "llama",
        "q and k exchanged",
        "queries, keys, values = self.q_proj(x), self.k_proj(x), self.v_proj(x)",
        "queries, keys, values = self.q_proj(x), self.v_proj(x), self.k_proj(x)",
        "self_attn",
    ),
    Fault(
        "llama",
        "cache off by one",
        "keys = self.rope(keys, offset=cache.offset)",
        "keys = self.rope(keys, offset=max(cache.offset - 1, 0))",
        "",
        "decode",
    ),
    Fault(
        "llama",
        "positions restart in a later piece",
        "            queries = self.rope(queries, offset=cache.offset)\n            keys = self.rope(keys, offset=cache.offset)\n",
        "            at = cache.offset if L == 1 else 0\n            queries = self.rope(queries, offset=at)\n            keys = self.rope(keys, offset=at)\n",
        "",
        "chunked",
    ),
    Fault(
        "qwen3",
        "q norm lost",
        "queries = self.q_norm(queries.reshape(B, L, self.n_heads, -1)).transpose(",
        "queries = queries.reshape(B, L, self.n_heads, -1).transpose(",
        "self_attn",
    ),
    Fault("qwen3", "rope pairing", "traditional=False", "traditional=True", "self_attn"),
    Fault("qwen3_moe", "router renormalization lost", "if self.norm_topk_prob:", "if not self.norm_topk_prob:", "mlp"),
    Fault(
        "qwen3_moe",
        "router sigmoid",
        "gates = mx.softmax(gates, axis=-1, precise=True)",
        "gates = mx.sigmoid(gates)",
        "mlp",
    ),
    Fault(
        "qwen3_moe",
        "expert order",
        "y = self.switch_mlp(x, inds)",
        "y = self.switch_mlp(x, (inds + 1) % self.num_experts)",
        "mlp",
    ),
    Fault(
        "qwen3_moe",
        "scores not applied",
        "y = (y * scores[..., None]).sum(axis=-2).astype(y.dtype)",
        "y = y.mean(axis=-2)",
        "mlp",
    ),
    Fault(
        "gemma3_text",
        "norm without + 1",
        "mx.fast.rms_norm(x, 1.0 + self.weight, self.eps)",
        "mx.fast.rms_norm(x, self.weight, self.eps)",
        "norm",
    ),
    Fault(
        "gemma3_text",
        "embedding scale lost",
        "        h *= mx.array(self.args.hidden_size**0.5, mx.bfloat16).astype(h.dtype)\n",
        "",
        "embed_tokens",
    ),
    Fault("gemma3_text", "exact gelu", "nn.gelu_approx(self.gate_proj(x))", "nn.gelu(self.gate_proj(x))", "mlp"),
    Fault(
        "gemma3_text", "window lost", "self.window_size = args.sliding_window", "self.window_size = 4096", "self_attn"
    ),
    Fault(
        "gemma3_text", "local theta for all", "base=args.rope_theta,", "base=args.rope_local_base_freq,", "self_attn"
    ),
    Fault("mamba2", "D lost", "            self.D,\n", "            mx.zeros_like(self.D),\n", "mixer"),
    Fault("mamba2", "conv activation lost", "return nn.silu(conv_output)", "return conv_output", "mixer"),
    Fault(
        "mamba2",
        "gate after the norm",
        "        y = self.norm(y, gate)\n",
        "        y = self.norm(y) * nn.silu(gate)\n",
        "mixer",
    ),
    Fault(
        "deepseek_v3",
        "routing bias in the weights",
        "    orig_scores = scores\n    scores = scores + e_score_correction_bias\n",
        "    scores = scores + e_score_correction_bias\n    orig_scores = scores\n",
        "gate",
    ),
    Fault("deepseek_v3", "routed scale lost", "    scores = scores * routed_scaling_factor\n", "", "gate"),
    Fault(
        "deepseek_v3",
        "shared experts lost",
        "            y = y + self.shared_experts(x)\n",
        "            y = y\n",
        "mlp",
    ),
    Fault(
        "deepseek_v3",
        "latent norm epsilon",
        "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank, eps=1e-6)",
        "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank, eps=1e-4)",
        "kv_a_layernorm",
    ),
    Fault("gpt2", "positions off by one", "mx.arange(L)", "mx.arange(1, L + 1)", "wpe"),
    Fault(
        "gpt2",
        "bias lost",
        "self.c_proj(nn.gelu_approx(self.c_fc(x)))",
        "(nn.gelu_approx(self.c_fc(x)) @ self.c_proj.weight.T)",
        "mlp",
    ),
]


def copied(model_type: str, place: Path, name: str, edits: Sequence[tuple[str, str]]) -> Path:
    """A copy of mlx-lm's file for this type, each piece of source exchanged; a piece that is not there any more is an error."""
    spec = importlib.util.find_spec(f"mlx_lm.models.{model_type}")
    if spec is None or spec.origin is None:
        raise SystemExit(f"mlx-lm has no {model_type}")
    text = copies.exchanged(Path(spec.origin).read_text(), edits, f"{model_type}, {name}")
    file = place / f"port_{model_type}_{name.replace(' ', '_')}.py"
    file.write_text(text.replace("from .", "from mlx_lm.models."))
    return file


def checked(binary: str, model_type: str, file: Path, scenarios: str) -> dict:
    """What `mlxport check --json` says of a file."""
    command = [
        binary,
        "check",
        "--model-type",
        model_type,
        "--port",
        f"{file}:Model",
        "--scenarios",
        scenarios,
        "--python",
        sys.executable,
        "--json",
    ]
    # MLX compiles kernels into the temporary directory. Checks side by side would read each other's half-written files.
    with tempfile.TemporaryDirectory() as place:
        here = {**os.environ, "TMPDIR": place}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600, env=here)
    said = json.loads(done.stdout or "{}")
    if "verdict" not in said:
        raise SystemExit(f"{' '.join(command)}: {done.stderr[-2000:]}")
    return said


def unchanged(binary: str, model_type: str, place: Path) -> dict:
    """What is said of a copy without a fault."""
    said = checked(binary, model_type, copied(model_type, place, "unchanged", []), "prefill,decode,chunked")
    print(f"{model_type:12} unchanged: {said['verdict']}", flush=True)
    return {
        "model_type": model_type,
        "name": "unchanged",
        "right": said["verdict"] == "pass",
        "said": said.get("first"),
    }


def planted(binary: str, fault: Fault, place: Path) -> dict:
    """Whether one fault is caught, and by the right module."""
    said = checked(
        binary, fault.model_type, copied(fault.model_type, place, fault.name, [(fault.old, fault.new)]), fault.scenario
    )
    first = said.get("first") or {}
    point = first.get("point", "")
    print(
        f"{fault.model_type:12} {fault.name}: {said['verdict']}, first {point}, {first.get('cause')}",
        flush=True,
    )
    return {**asdict(fault), "right": said["verdict"] == "fail", "named": fault.module in point, "said": first}


def main() -> int:
    """Runs all; 0 when every fault is caught, 90 % by the right module, and no unchanged port is called wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", required=True)
    parser.add_argument("--only", default="*", help="only types that fit this glob")
    parser.add_argument("--out", type=Path, help="write the results as JSON")
    parser.add_argument("--jobs", type=int, default=1, help="so many checks side by side")
    args = parser.parse_args()
    faults = [fault for fault in FAULTS if fnmatch.fnmatch(fault.model_type, args.only)]
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(args.jobs) as pool:
        clean = pool.map(
            lambda kind: unchanged(args.binary, kind, Path(place)), dict.fromkeys(f.model_type for f in faults)
        )
        planted_ones = pool.map(lambda fault: planted(args.binary, fault, Path(place)), faults)
        results = [*clean, *planted_ones]
    if args.out:
        args.out.write_text(json.dumps(results, indent=1))
    return verdict(results)


def verdict(results: list[dict]) -> int:
    """The figures, and whether they are good enough."""
    planted = [r for r in results if "scenario" in r]
    clean = [r for r in results if "scenario" not in r]
    caught, named = sum(r["right"] for r in planted), sum(r["named"] for r in planted if r["right"])
    alarms = sum(not r["right"] for r in clean)
    print(
        f"{caught} of {len(planted)} faults caught, {named} by the right module; {alarms} false alarms on {len(clean)} unchanged ports"
    )
    good = bool(planted) and caught == len(planted) and named >= 0.9 * caught and alarms == 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
