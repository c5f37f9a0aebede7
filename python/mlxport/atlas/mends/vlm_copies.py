"""What is wrong in mlx-vlm's copies of mlx-lm's models, as it is there; and what is wrong in its copies alone."""

from __future__ import annotations

from mlxport.atlas.mends import lm
from mlxport.atlas.mends.finding import Finding

_LM = {finding.name: finding for finding in lm.FINDINGS}


def _file(model_type: str, name: str = "language") -> str:
    return f"models/{model_type}/{name}.py"


def _copy(name: str, edits: dict, *, types: tuple[str, ...] | None = None) -> Finding:
    """The finding of mlx-lm in mlx-vlm's copies, whose source is laid out otherwise."""
    held = _LM[name]
    return Finding("mlx-vlm", name, held.title, types or held.types, edits, held.pytorch, held.scenario)


FINDINGS = [
    _copy("gelu-exact", {_file(kind): lm.EXACT_GELU for kind in ("gemma", "gpt_bigcode", "starcoder2")}),
    _copy(
        "gelu-tanh",
        {
            _file("gpt_neox", "config"): [
                (
                    "    num_key_value_heads: int = None\n",
                    '    num_key_value_heads: int = None\n    hidden_act: str = "gelu"\n',
                )
            ],
            _file("gpt_neox"): [
                (
                    "        self.hidden_size = args.hidden_size\n        self.dense_h_to_4h",
                    '        self.act = nn.gelu if args.hidden_act == "gelu" else nn.gelu_approx\n'
                    "        self.hidden_size = args.hidden_size\n        self.dense_h_to_4h",
                ),
                ("nn.gelu_approx(self.dense_h_to_4h(x))", "self.act(self.dense_h_to_4h(x))"),
            ],
        },
    ),
    _copy(
        "glm-partial-rotation",
        {
            _file("glm", "config"): [
                (
                    "    rope_theta: float = 10000\n",
                    "    rope_theta: float = 10000\n    partial_rotary_factor: float = 0.5\n",
                )
            ],
            _file("glm"): [
                (
                    "        self.rope = nn.RoPE(dims=self.head_dim, traditional=True, base=args.rope_theta)\n",
                    "        rotated = int(self.head_dim * args.partial_rotary_factor)\n"
                    "        self.rope = nn.RoPE(dims=rotated, traditional=True, base=args.rope_theta)\n",
                )
            ],
        },
    ),
    _copy(
        "latent-norm-epsilon",
        {
            _file("glm4_moe_lite"): [
                ("nn.RMSNorm(self.q_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.q_lora_rank, eps=1e-6)"),
                ("nn.RMSNorm(self.kv_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.kv_lora_rank, eps=1e-6)"),
            ],
            _file("kimi_linear"): [
                ("nn.RMSNorm(args.kv_lora_rank, eps=args.rms_norm_eps)", "nn.RMSNorm(args.kv_lora_rank, eps=1e-6)")
            ],
            _file("longcat_flash"): lm.LATENT_NORMS,
            _file("minicpm3"): lm.LATENT_NORMS,
        },
    ),
    _copy(
        "indexer-norm-epsilon",
        {
            _file("deepseek_v32"): [
                ("self.k_norm = nn.LayerNorm(self.head_dim)", "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)")
            ]
        },
    ),
    _copy(
        "gemma2-window",
        {
            _file("gemma2", "config"): [
                (
                    "    query_pre_attn_scalar: float = 144.0\n",
                    "    query_pre_attn_scalar: float = 144.0\n    sliding_window: int = 4096\n",
                )
            ],
            _file("gemma2"): [
                (
                    "        if mask is not None:\n            if mask.dtype",
                    "        if mask is not None:\n            if mask.ndim == 4 and self.repeats > 1:\n"
                    "                mask = mx.expand_dims(mask, 2)\n            if mask.dtype",
                ),
                (
                    "        mask = create_attention_mask(h, cache[0], return_array=True)\n\n"
                    "        for layer, c in zip(self.layers, cache):\n            h = layer(h, mask, c)\n",
                    "        window = self.args.sliding_window\n"
                    "        masks = [\n            create_attention_mask(h, cache[0], window, return_array=True),\n"
                    "            create_attention_mask(h, cache[-1 if len(cache) == 1 else 1], return_array=True),\n        ]\n\n"
                    "        for i, (layer, c) in enumerate(zip(self.layers, cache)):\n            h = layer(h, masks[i % 2], c)\n",
                ),
                (
                    "        from ..cache import KVCache\n\n        return [KVCache() for _ in self.layers]\n",
                    "        from ..cache import KVCache, RotatingKVCache\n\n        return [\n"
                    "            KVCache() if i % 2 else RotatingKVCache(self.args.sliding_window)\n"
                    "            for i in range(len(self.layers))\n        ]\n",
                ),
            ],
        },
    ),
    _copy(
        "mistral-window",
        {
            _file("llama", "config"): [
                (
                    '            self.layer_types = ["full_attention"] * self.num_hidden_layers\n',
                    '            windowed = self.model_type == "mistral" and self.sliding_window\n'
                    '            kind = "sliding_attention" if windowed else "full_attention"\n'
                    "            self.layer_types = [kind] * self.num_hidden_layers\n",
                )
            ],
            _file("llama"): [
                (
                    '        self.fa_idx = self.layer_types.index("full_attention")\n',
                    "        self.fa_idx = next(\n            (i for i, l in enumerate(self.layers) if not l.use_sliding), 0\n        )\n",
                )
            ],
        },
    ),
    _copy(
        "phimoe-rope",
        {
            _file("phimoe"): [
                (
                    '                long_factor=args.rope_scaling["long_factor"],\n',
                    '                long_factor=args.rope_scaling["short_factor"],\n',
                )
            ]
        },
    ),
    _copy(
        "ernie-router-bias",
        {
            _file("ernie4_5_moe"): [
                (
                    "        self.switch_mlp = SwitchGLU(\n",
                    "        self.e_score_correction_bias = mx.zeros((args.moe_num_experts,))\n\n        self.switch_mlp = SwitchGLU(\n",
                ),
                (
                    "        inds = mx.stop_gradient(mx.argpartition(-gates, kth=k - 1, axis=-1)[..., :k])\n",
                    "        biased = gates + self.e_score_correction_bias\n"
                    "        inds = mx.stop_gradient(mx.argpartition(-biased, kth=k - 1, axis=-1)[..., :k])\n",
                ),
                ('            "e_score_correction_bias",\n', ""),
                (
                    '        for l in range(self.args.num_hidden_layers):\n            prefix = f"model.layers.{l}"\n            for m in',
                    '        statics, bias = ".moe_statics.", "e_score_correction_bias"\n'
                    '        weights = {\n            k.replace(statics, "."): v.reshape(-1) if k.endswith(bias) else v\n'
                    "            for k, v in weights.items()\n        }\n\n"
                    '        for l in range(self.args.num_hidden_layers):\n            prefix = f"model.layers.{l}"\n            for m in',
                ),
            ]
        },
    ),
    _copy(
        "jamba-router",
        {
            _file("jamba"): [
                ("gates = self.router(x)", "gates = mx.softmax(self.router(x), axis=-1, precise=True)"),
                ("        scores = mx.softmax(scores, axis=-1, precise=True)\n", ""),
            ]
        },
    ),
    _copy(
        "nemotron-time-step",
        {
            _file("nemotron_h"): [
                (
                    "self.time_step_limit = args.time_step_limit",
                    'self.time_step_limit = (args.time_step_min or 0.0, float("inf"))',
                )
            ]
        },
    ),
]
