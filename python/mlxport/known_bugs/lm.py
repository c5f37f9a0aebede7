"""Bugs of mlx-lm: rotary tables, windows, masks, norms, residuals."""

from __future__ import annotations

from mlxport.known_bugs.bug import maker
from mlxport.small_types import YARN

LATENT_NORMS = [
    (
        "self.q_a_layernorm = nn.RMSNorm(self.q_lora_rank)",
        "self.q_a_layernorm = nn.RMSNorm(self.q_lora_rank, eps=1e-6)",
    ),
    (
        "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank)",
        "self.kv_a_layernorm = nn.RMSNorm(self.kv_lora_rank, eps=1e-6)",
    ),
]
_INDEXER_NORM = {
    "models/deepseek_v32.py": [
        ("self.k_norm = nn.LayerNorm(self.head_dim)", "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)")
    ]
}
_TANH = {"models/gpt_bigcode.py": [("nn.gelu(", "nn.gelu_approx(")]}


_bug = maker("mlx-lm")

BUGS = [
    _bug(
        "internlm3-rope",
        "mlx-lm#1545, PR #1606",
        "internlm3",
        "positions are doubled: a scale of 2 without scaling",
        "prefill",
        "self_attn",
        {
            "models/internlm3.py": [
                (
                    "        self.rope = initialize_rope(\n            head_dim,\n            base=args.rope_theta,\n            traditional=args.rope_traditional,\n            scaling_config=args.rope_scaling,\n            max_position_embeddings=args.max_position_embeddings,\n",
                    "        self.rope = nn.RoPE(\n            head_dim,\n            base=args.rope_theta,\n            traditional=args.rope_traditional,\n            scale=2.0,\n",
                )
            ]
        },
    ),
    _bug(
        "dsv32-indexer-rope",
        "mlx-lm PR #1431",
        "deepseek_v32",
        "the indexer rotates neighbouring pairs",
        "prefill",
        "self_attn",
        {"models/deepseek_v32.py": [("traditional=args.indexer_rope_interleave", "traditional=True")]},
        mends=_INDEXER_NORM,
    ),
    _bug(
        "dsv32-keys-undefined",
        "mlx-lm PR #866",
        "deepseek_v32",
        "a name that is not defined, past `index_topk` tokens",
        "prefill",
        "self_attn",
        {"models/deepseek_v32.py": [("shape[-1] = kv_latent.shape[2]", "shape[-1] = keys.shape[2]")]},
        mends=_INDEXER_NORM,
    ),
    _bug(
        "chunkedcache-108",
        "mlx-lm PR #108",
        "llama4",
        "the chunked cache drops a whole chunk",
        "decode",
        "self_attn",
        {
            "models/cache.py": [
                (
                    "        valid = self.offset - self.start_position\n        if valid > self.chunk_size:\n            trim = valid - self.chunk_size\n            self.start_position += trim\n            self.keys = self.keys[..., trim:valid, :]\n            self.values = self.values[..., trim:valid, :]",
                    "        if self.keys.shape[2] >= self.chunk_size:\n            self.start_position += self.chunk_size\n            self.keys = self.keys[..., self.chunk_size :, :]\n            self.values = self.values[..., self.chunk_size :, :]",
                )
            ]
        },
        mends={"models/llama4.py": [("weight=None, eps=1e-6)", "weight=None, eps=1e-5)")]},
    ),
    _bug(
        "qwen35-norm-twice",
        "mlx-lm#1197, PR #1623",
        "qwen3_5",
        "converted weights that kept `mtp.*` get the norms' 1 once more",
        "invariants",
        "norm",
        {
            "models/qwen3_5.py": [
                (
                    '        weights = {k: v for k, v in weights.items() if "mtp." not in k}\n',
                    '        has_mtp = any("mtp." in k for k in weights)\n        weights = {k: v for k, v in weights.items() if "mtp." not in k}\n',
                ),
                ("if has_unsanitized_conv1d and any(", "if (has_unsanitized_conv1d or has_mtp) and any("),
            ]
        },
    ),
    _bug(
        "gdn-l2norm-eps",
        "mlx-lm 0.32.0",
        "qwen3_next",
        "q's and k's norm adds its epsilon to the mean of squares; PyTorch adds it to their sum",
        "prefill",
        "linear_attn",
        {"models/gated_delta.py": [("rms_eps = eps * inv_scale**2", "rms_eps = eps")]},
    ),
    _bug(
        "nemotronh-dtclamp",
        "mlx-lm PR #1026",
        "nemotron_h",
        "time steps are held below `time_step_max`",
        "prefill",
        "mixer",
        {
            "models/nemotron_h.py": [
                ('self.time_step_limit = (0.001, float("inf"))', "self.time_step_limit = (0.001, 0.1)")
            ]
        },
        mends={
            "models/nemotron_h.py": [
                ("self.time_step_limit = args.time_step_limit", 'self.time_step_limit = (0.001, float("inf"))')
            ]
        },
    ),
    _bug(
        "phi3-partial",
        "mlx-examples PR #1305",
        "phi3",
        "the whole head is rotated",
        "prefill",
        "self_attn",
        {"models/phi3.py": [("rope_dim = int(head_dim * args.partial_rotary_factor)", "rope_dim = head_dim")]},
        fields={"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}},
    ),
    _bug(
        "glm4-partial",
        "mlx-lm PR #105",
        "glm4",
        "the whole head is rotated",
        "prefill",
        "self_attn",
        {"models/glm4.py": [("dims=int(self.head_dim * args.partial_rotary_factor)", "dims=self.head_dim")]},
    ),
    _bug(
        "gpt2-batch",
        "mlx-lm PR #529",
        "gpt2",
        "positions of a batch: an error",
        "batch",
        "wpe|arange",
        {
            "models/gpt2.py": [
                (
                    "        offset = mx.array(offset)\n        position_ids = mx.arange(L) + offset[..., None]\n",
                    "        position_ids = mx.arange(offset, offset + L)\n",
                )
            ]
        },
    ),
    _bug(
        "bigcode-decodepos",
        "mlx-examples#1203, PR #1204",
        "gpt_bigcode",
        "steps of one token get no position",
        "decode",
        "wpe",
        {
            "models/gpt_bigcode.py": [
                (
                    "        hidden_states += self.wpe(position_ids)\n",
                    "        if L > 1:\n            hidden_states += self.wpe(position_ids)\n",
                )
            ]
        },
        mends=_TANH,
    ),
    _bug(
        "olmo3-rope-swap",
        "mlx-lm PR #628",
        "olmo3",
        "sliding layers have the scaled rotation, full ones the plain one",
        "prefill",
        "self_attn",
        {
            "models/olmo3.py": [
                (
                    'if args.layer_types[layer_idx] != "full_attention":',
                    'if args.layer_types[layer_idx] == "full_attention":',
                )
            ]
        },
        fields={
            "rope_parameters": {
                "full_attention": YARN,
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            }
        },
    ),
    _bug(
        "gptneox-residual",
        "mlx-lm PR #586",
        "gpt_neox",
        "always the parallel residual",
        "prefill",
        "layers.0",
        {
            "models/gpt_neox.py": [
                ("self.use_parallel_residual = args.use_parallel_residual", "self.use_parallel_residual = True")
            ]
        },
        mends={"models/gpt_neox.py": [("nn.gelu_approx(", "nn.gelu(")]},
        fields={"use_parallel_residual": False},
    ),
    _bug(
        "cohere2-maskswap",
        "mlx-lm PR #39",
        "cohere2",
        "sliding layers attend to everything before",
        "prefill",
        "self_attn",
        {"models/cohere2.py": [("mask = full_mask if is_global else swa_mask", "mask = full_mask")]},
    ),
    _bug(
        "window-off-by-one",
        "mlx-lm PR #390",
        "gemma3_text",
        "the window has one token too many",
        "prefill",
        "self_attn",
        {"models/base.py": [("linds < rinds + window_size", "linds <= rinds + window_size")]},
    ),
    _bug(
        "kvcache-window",
        "mlx-lm PR #843",
        "gemma3_text",
        "a cache that does not rotate loses the window",
        "plain",
        "self_attn",
        {
            "models/cache.py": [
                (
                    "    if window_size is not None:\n        return create_causal_mask(N, offset, window_size=window_size)\n    elif N == 1:",
                    "    if N == 1:",
                )
            ]
        },
    ),
    _bug(
        "gemma3-globaltheta",
        "mlx-lm PR #657, #664",
        "gemma3_text",
        "full layers take theta 1e6 and no scaling, whatever the config says",
        "prefill",
        "layers.5.self_attn",
        {
            "models/gemma3_text.py": [
                (
                    "                base=args.rope_theta,\n                traditional=False,\n                max_position_embeddings=args.max_position_embeddings,\n                scaling_config=args.rope_scaling,\n",
                    "                base=1e6,\n                traditional=False,\n",
                )
            ]
        },
        fields={
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
]
