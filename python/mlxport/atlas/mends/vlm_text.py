"""Findings in mlx-vlm's own text models: routers, linear attention, rotations, padding."""

from __future__ import annotations

from mlxport.atlas.mends.finding import Finding

_PORT = "mlx-vlm"
_L2 = [
    ("mx.fast.rms_norm(q, None, 1e-6)", "mx.fast.rms_norm(q, None, 1e-6 / q.shape[-1])"),
    ("mx.fast.rms_norm(k, None, 1e-6)", "mx.fast.rms_norm(k, None, 1e-6 / k.shape[-1])"),
]

FINDINGS = [
    Finding(
        _PORT,
        "l2-norm-epsilon",
        "queries and keys of the linear attention are normed with an epsilon that is too large, as many times as a head is wide",
        ("qwen3_next",),
        {"models/qwen3_next/language.py": _L2},
        {
            "models/qwen3_next/modeling_qwen3_next.py": "inv_norm = torch.rsqrt((x * x).sum(dim=dim, keepdim=True) + eps)"
        },
    ),
    Finding(
        _PORT,
        "kimi-l2-norm-epsilon",
        "the same in Kimi's linear attention, which shows it at a release's width of a head",
        ("kimi_linear",),
        {"models/kimi_linear/language.py": _L2},
        {
            "models/kimi_linear/modeling_kimi_linear.py": "inv_norm = torch.sqrt((x * x).sum(dim=dim, keepdim=True) + eps)"
        },
        fields={"linear_head_dim": 128},
    ),
    Finding(
        _PORT,
        "lfm2-moe-router",
        "the router takes a softmax for a sigmoid, and its bias is in the experts' weights",
        ("lfm2_moe",),
        {
            "models/lfm2/language.py": [
                (
                    "        gates = mx.softmax(gates, axis=-1)\n\n        if self.use_expert_bias:\n            gates += self.expert_bias\n",
                    "        gates = mx.sigmoid(gates)\n        biased = gates + self.expert_bias if self.use_expert_bias else gates\n",
                ),
                (
                    "        inds = mx.argpartition(gates, kth=-k, axis=-1)[..., -k:]\n",
                    "        inds = mx.argpartition(biased, kth=-k, axis=-1)[..., -k:]\n",
                ),
                (
                    "            scores /= mx.sum(scores, axis=-1, keepdims=True) + 1e-20\n        scores = scores.astype(x.dtype)\n",
                    "            scores /= mx.sum(scores, axis=-1, keepdims=True) + 1e-6\n"
                    "        scores = (scores * self.routed_scaling_factor).astype(x.dtype)\n",
                ),
                (
                    "        self.use_expert_bias = args.use_expert_bias\n",
                    "        self.use_expert_bias = args.use_expert_bias\n"
                    "        self.routed_scaling_factor = args.routed_scaling_factor\n",
                ),
            ]
        },
        {"models/lfm2_moe/modeling_lfm2_moe.py": "routing_weights = router_logits.sigmoid()"},
    ),
    Finding(
        _PORT,
        "internlm3-rope",
        "positions are doubled",
        ("internlm3",),
        {
            "models/internlm3/language.py": [
                (
                    "        scale: float = 1.0,\n    ):\n        super().__init__()\n",
                    "        scale: float = 1.0,\n        factor: Optional[float] = None,\n    ):\n"
                    "        super().__init__()\n        self.factor = factor\n",
                ),
                (
                    "        seq_len = x.shape[1] + offset\n        if seq_len > self.max_position_embeddings:\n",
                    "        seq_len = x.shape[-2] + mx.max(mx.array(offset)).item()\n"
                    "        if self.factor and seq_len > self.max_position_embeddings:\n",
                ),
                (
                    "(self.scale * seq_len / self.max_position_embeddings) - (self.scale - 1)",
                    "(self.factor * seq_len / self.max_position_embeddings)\n                - (self.factor - 1)",
                ),
                (
                    "            else 2.0\n        )\n",
                    "            else 1.0\n        )\n        scaling = args.rope_scaling or {}\n",
                ),
                (
                    "            scale=rope_scale,\n",
                    "            scale=rope_scale,\n"
                    '            factor=scaling["factor"] if scaling.get("rope_type") == "dynamic" else None,\n',
                ),
            ]
        },
        {"models/internlm3/configuration_internlm3.py": "class InternLM3Config("},
    ),
    Finding(
        _PORT,
        "ssm-right-padding",
        "padding at the right makes the state of state-space layers decay",
        ("falcon_h1",),
        {
            "models/ssm.py": [
                (
                    "    dtx = dt.reshape(b, l, h, 1) * x\n\n    def _step(",
                    "    dtx = dt.reshape(b, l, h, 1) * x\n    if mask is not None:\n"
                    "        dtA = mx.where(mask[..., None], dtA, 0)\n\n    def _step(",
                )
            ]
        },
        {
            "models/falcon_h1/modeling_falcon_h1.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)"
        },
        scenario="padded",
    ),
    Finding(
        _PORT,
        "gpt2-converted-names",
        "converted weights cannot be loaded",
        ("gpt2",),
        {
            "models/gpt2/language.py": [
                (
                    '            if not weight.startswith("model."):\n',
                    '            if not weight.startswith(("model.", "language_model.")):\n',
                )
            ]
        },
        {},
        scenario="invariants",
    ),
    Finding(
        _PORT,
        "gated-delta-decay",
        "without Metal, the decay of the linear attention is raised to 1e-6 and taken out of and back into its logarithm",
        ("qwen3_5_moe_text", "qwen3_5_text", "qwen3_5", "qwen3_5_moe"),
        {
            "models/qwen3_5/gated_delta.py": [
                (
                    "            return gated_delta_chunked(q, k, v, g, beta, state, mask)\n",
                    "            log_g = -mx.exp(A_log.astype(mx.float32)) * nn.softplus(a + dt_bias)\n"
                    "            return gated_delta_chunked(q, k, v, log_g, beta, state, mask)\n",
                ),
                ("        g = mx.where(m, g, 1.0)\n", "        g = mx.where(m, g, 0.0)\n"),
                (
                    "        g = mx.concatenate([g, mx.ones((B, pad, Hv), g.dtype)], axis=1)\n",
                    "        g = mx.concatenate([g, mx.zeros((B, pad, Hv), g.dtype)], axis=1)\n",
                ),
                (
                    "    # clip g off 0: compute_g can underflow to exactly 0.0 in fp32, and\n"
                    "    # log(0)=-inf would poison the decay ratios with NaN.\n"
                    "    lcg = mx.cumsum(mx.log(mx.clip(g, 1e-6, 1.0)), axis=-1)",
                    "    lcg = mx.cumsum(g, axis=-1)",
                ),
            ]
        },
        {"models/qwen3_5/modeling_qwen3_5.py": "cum_decay = decay.cumsum(dim=3)"},
    ),
    Finding(
        _PORT,
        "dinov2-registers-antialias",
        "the table of positions is resized without antialiasing",
        ("dinov2_with_registers",),
        {
            "models/dinov2/config.py": [
                (
                    "    def __post_init__(self):\n",
                    "    def __post_init__(self):\n"
                    '        if self.model_type == "dinov2_with_registers":\n'
                    "            self.interpolate_antialias = True\n",
                )
            ]
        },
        {"models/dinov2_with_registers/modeling_dinov2_with_registers.py": "antialias=True,"},
    ),
]
