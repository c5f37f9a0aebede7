"""More bugs of mlx-lm: routers, latent attention, caches, padding, loading."""

from __future__ import annotations

from mlxport.known_bugs.bug import maker
from mlxport.known_bugs.lm import LATENT_NORMS
from mlxport.small_types import YARN

_bug = maker("mlx-lm")

BUGS = [
    _bug(
        "longcat-zeroexpert",
        "mlx-lm PR #508",
        "longcat_flash",
        "experts that pass their input on are also computed as expert 0",
        "prefill",
        "mlp",
        {
            "models/longcat_flash.py": [
                ("regular_outputs * regular_weights[..., None]", "regular_outputs * topk_weights[..., None]")
            ]
        },
        mends={"models/longcat_flash.py": LATENT_NORMS},
    ),
    _bug(
        "longcat-yarn",
        "mlx-lm PR #768",
        "longcat_flash",
        "the rotary scaling and its attention factor are ignored",
        "prefill",
        "self_attn",
        {
            "models/longcat_flash.py": [
                (
                    '            mscale_all_dim = args.rope_scaling.get("mscale_all_dim", 0)\n',
                    "            mscale_all_dim = 0\n",
                ),
                ("            scaling_config=args.rope_scaling,\n", ""),
            ]
        },
        mends={"models/longcat_flash.py": LATENT_NORMS},
        fields={"rope_parameters": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}},
    ),
    _bug(
        "dsv2-lora-eps",
        "mlx-lm PR #79",
        "deepseek_v2",
        "the norms of the latent q and kv have epsilon 1e-5; PyTorch's have 1e-6",
        "prefill",
        "a_layernorm",
        {
            "models/deepseek_v2.py": [
                ("nn.RMSNorm(self.q_lora_rank, eps=1e-6)", "nn.RMSNorm(self.q_lora_rank)"),
                ("nn.RMSNorm(self.kv_lora_rank, eps=1e-6)", "nn.RMSNorm(self.kv_lora_rank)"),
            ]
        },
    ),
    _bug(
        "kimi-mla-rope",
        "mlx-lm PR #853",
        "kimi_linear",
        "layers without positions are rotated",
        "prefill",
        "self_attn",
        {
            "models/kimi_linear.py": [
                (
                    "        pe_scores = (q_pe * self.scale) @",
                    "        at = cache.offset - L if cache is not None else 0\n        turned = lambda x: mx.fast.rope(x, x.shape[-1], traditional=True, base=1e4, scale=1.0, offset=at)\n        q_pe, k_pe = turned(q_pe), turned(k_pe)\n        pe_scores = (q_pe * self.scale) @",
                )
            ]
        },
        mends={
            "models/kimi_linear.py": [
                ("nn.RMSNorm(args.kv_lora_rank, eps=args.rms_norm_eps)", "nn.RMSNorm(args.kv_lora_rank, eps=1e-6)")
            ]
        },
    ),
    _bug(
        "mimo-valuescale",
        "mlx-lm 0.32.2",
        "mimo_v2_flash",
        "`attention_value_scale` is ignored",
        "prefill",
        "self_attn",
        {"models/mimo_v2_flash.py": [("self.value_scale = args.attention_value_scale", "self.value_scale = None")]},
        fields={"attention_value_scale": 0.707},
    ),
    _bug(
        "gemma3n-sharedoffset",
        "mlx-lm#1674, #1384, PR #1396, #1702",
        "gemma3n",
        "layers that share keys read the position after its owner has moved it on",
        "decode",
        "self_attn",
        {
            "models/gemma3n.py": [
                (
                    "        B, L, _ = x.shape\n\n        queries = self.q_proj(x)\n        queries = queries.reshape(B, L, -1, self.head_dim)",
                    "        B, L, _ = x.shape\n        offset = cache.offset if cache is not None else 0\n\n        queries = self.q_proj(x)\n        queries = queries.reshape(B, L, -1, self.head_dim)",
                )
            ]
        },
    ),
    _bug(
        "minicpm3-listmask",
        "mlx-lm 0.32.1",
        "minicpm3",
        "the mask is made of the list of caches: no padding",
        "batch",
        "self_attn",
        {"models/minicpm3.py": [("create_attention_mask(h, cache[0])", "create_attention_mask(h, cache)")]},
        mends={"models/minicpm3.py": LATENT_NORMS},
        fields={
            "rope_parameters": {
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [1.0] * 4,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    _bug(
        "arrayscache-mask",
        "mlx-lm PR #1736",
        "qwen3_next",
        "padding at the right is read as text by state-space layers",
        "padded",
        "linear_attn",
        {
            "models/cache.py": [
                (
                    "            mask = pos >= self.left_padding[:, None]\n        if self.lengths is not None:\n            in_length",
                    "            return pos >= self.left_padding[:, None]\n        if self.lengths is not None:\n            in_length",
                )
            ]
        },
    ),
    _bug(
        "ssm-masked-decay",
        "mlx-lm 0.32.2",
        "mamba2",
        "padded steps still let the carried state decay",
        "padded",
        "mixer",
        {"models/ssm.py": [("        dtA = dtA * mask[..., None]\n", "        dtA = dtA\n")]},
    ),
    _bug(
        "swiglu-order",
        "mlx-lm PR #753, #767",
        "lfm2_moe",
        "gate and value of the experts are exchanged",
        "prefill",
        "feed_forward",
        {"models/switch_layers.py": [("        return swiglu(gate, x)\n", "        return swiglu(x, gate)\n")]},
    ),
    _bug(
        "olmohybrid-theta",
        "mlx-lm PR #1023",
        "olmo_hybrid",
        "`rope_theta` is not read out of `rope_parameters`",
        "prefill",
        "self_attn",
        {
            "models/olmo_hybrid.py": [
                ('self.rope_theta = self.rope_parameters.get("rope_theta", 10000.0)', "self.rope_theta = 10000.0")
            ]
        },
        fields={"rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}},
    ),
    _bug(
        "rotating-idx",
        "mlx-lm PR #503",
        "gemma3_text",
        "the rotating cache's index stays where it was when its order is mended",
        "turns",
        "self_attn",
        {
            "models/cache.py": [
                (
                    "            self._idx = self.keys.shape[2]\n\n            # The largest size is self.max_size + S - 1",
                    "\n            # The largest size is self.max_size + S - 1",
                )
            ]
        },
    ),
    _bug(
        "falconh1-tied",
        "mlx-lm PR #764",
        "falcon_h1",
        "no tied head: a weight is missing",
        "load",
        "lm_head",
        {
            "models/falcon_h1.py": [
                (
                    "        if not args.tie_word_embeddings:\n            self.lm_head",
                    "        if True:\n            self.lm_head",
                )
            ]
        },
        fields={"tie_word_embeddings": True},
    ),
    _bug(
        "lfm2-ropeparams",
        "mlx-lm PR #908",
        "lfm2",
        "`rope_theta` is wanted at the top of the config",
        "load",
        "rope_theta",
        {
            "models/lfm2.py": [
                ("    block_dim: int\n", "    rope_theta: float\n    block_dim: int\n"),
                ("    rope_theta: float = 1000000.0\n", ""),
            ]
        },
        config="resaved",
    ),
]
