"""What is wrong in mlx-lm's models: activations, norms, rotations, windows, experts. Padding is in `lm_padding`."""

from __future__ import annotations

from dataclasses import replace

from mlxport.atlas.mends import lm_padding, lm_sizes
from mlxport.atlas.mends.finding import Finding

# What mlx-vlm's copies have, too.
EXACT_GELU = [("nn.gelu(", "nn.gelu_approx(")]
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

_FOUND = [
    Finding(
        "mlx-lm",
        "gelu-exact",
        "the exact GELU where PyTorch has its tanh form",
        ("gemma", "gpt_bigcode", "starcoder2"),
        {"models/gemma.py": EXACT_GELU, "models/gpt_bigcode.py": EXACT_GELU, "models/starcoder2.py": EXACT_GELU},
        {
            "models/gemma/configuration_gemma.py": 'hidden_act: str = "gelu_pytorch_tanh"',
            "models/gpt_bigcode/configuration_gpt_bigcode.py": 'activation_function: str = "gelu_pytorch_tanh"',
            "models/starcoder2/configuration_starcoder2.py": 'hidden_act: str = "gelu_pytorch_tanh"',
        },
    ),
    Finding(
        "mlx-lm",
        "gelu-tanh",
        "GELU's tanh form where PyTorch has the exact one",
        ("gpt_neox",),
        {
            "models/gpt_neox.py": [
                (
                    "    num_key_value_heads: int = None\n",
                    '    num_key_value_heads: int = None\n    hidden_act: str = "gelu"\n',
                ),
                (
                    "        self.hidden_size = args.hidden_size\n        self.dense_h_to_4h",
                    '        self.act = nn.gelu if args.hidden_act == "gelu" else nn.gelu_approx\n'
                    "        self.hidden_size = args.hidden_size\n        self.dense_h_to_4h",
                ),
                ("nn.gelu_approx(self.dense_h_to_4h(x))", "self.act(self.dense_h_to_4h(x))"),
            ]
        },
        {
            "models/gpt_neox/configuration_gpt_neox.py": 'hidden_act: str = "gelu"',
            "models/gpt_neox/modeling_gpt_neox.py": "self.act = ACT2FN[config.hidden_act]",
        },
    ),
    Finding(
        "mlx-lm",
        "glm-partial-rotation",
        "the whole head is rotated where PyTorch rotates a part of it",
        ("glm",),
        {
            "models/glm.py": [
                (
                    "    rope_theta: float = 10000\n",
                    "    rope_theta: float = 10000\n    partial_rotary_factor: float = 0.5\n",
                ),
                (
                    "        self.rope = nn.RoPE(dims=self.head_dim, traditional=True, base=args.rope_theta)\n",
                    "        rotated = int(self.head_dim * args.partial_rotary_factor)\n"
                    "        self.rope = nn.RoPE(dims=rotated, traditional=True, base=args.rope_theta)\n",
                ),
            ]
        },
        {"models/glm/modeling_glm.py": "dim = int(head_dim * partial_rotary_factor)"},
    ),
    Finding(
        "mlx-lm",
        "latent-norm-epsilon",
        "the norms of the latent q and kv have another epsilon than PyTorch's",
        ("glm4_moe_lite", "kimi_linear", "longcat_flash", "minicpm3"),
        {
            "models/glm4_moe_lite.py": [
                ("nn.RMSNorm(self.q_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.q_lora_rank, eps=1e-6)"),
                ("nn.RMSNorm(self.kv_lora_rank, eps=config.rms_norm_eps)", "nn.RMSNorm(self.kv_lora_rank, eps=1e-6)"),
            ],
            "models/kimi_linear.py": [
                ("nn.RMSNorm(args.kv_lora_rank, eps=args.rms_norm_eps)", "nn.RMSNorm(args.kv_lora_rank, eps=1e-6)")
            ],
            "models/longcat_flash.py": LATENT_NORMS,
            "models/minicpm3.py": LATENT_NORMS,
        },
        {
            "models/glm4_moe_lite/modeling_glm4_moe_lite.py": "Glm4MoeLiteRMSNorm(config.kv_lora_rank)",
            "models/kimi_linear/modeling_kimi_linear.py": "KimiLinearRMSNorm(config.kv_lora_rank)",
            "models/longcat_flash/modeling_longcat_flash.py": "LongcatFlashRMSNorm(config.kv_lora_rank)",
            "models/minicpm3/modeling_minicpm3.py": "MiniCPM3RMSNorm(config.kv_lora_rank)",
        },
    ),
    Finding(
        "mlx-lm",
        "indexer-norm-epsilon",
        "the indexer's LayerNorm has epsilon 1e-5, PyTorch's has 1e-6",
        ("deepseek_v32", "glm_moe_dsa"),
        {
            "models/deepseek_v32.py": [
                ("self.k_norm = nn.LayerNorm(self.head_dim)", "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)")
            ]
        },
        {
            "models/deepseek_v32/modeling_deepseek_v32.py": "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)",
            "models/glm_moe_dsa/modeling_glm_moe_dsa.py": "self.k_norm = nn.LayerNorm(self.head_dim, eps=1e-6)",
        },
    ),
    Finding(
        "mlx-lm",
        "gemma2-window",
        "every layer attends to everything before; PyTorch's even layers have a sliding window",
        ("gemma2",),
        {
            "models/gemma2.py": [
                (
                    "from .base import BaseModelArgs, create_attention_mask\n",
                    "from .base import BaseModelArgs, create_attention_mask\nfrom .cache import KVCache, RotatingKVCache\n",
                ),
                (
                    "    query_pre_attn_scalar: float = 144.0\n",
                    "    query_pre_attn_scalar: float = 144.0\n    sliding_window: int = 4096\n",
                ),
                (
                    "        if mask is not None:\n            if mask.dtype",
                    "        if mask is not None:\n            if mask.ndim == 4 and self.repeats > 1:\n"
                    "                mask = mx.expand_dims(mask, 2)\n            if mask.dtype",
                ),
                (
                    "        mask = create_attention_mask(h, cache[0], return_array=True)\n\n"
                    "        for layer, c in zip(self.layers, cache):\n            h = layer(h, mask, c)\n",
                    "        masks = [\n            create_attention_mask(\n                h, cache[0], self.args.sliding_window, return_array=True\n            ),\n"
                    "            create_attention_mask(h, cache[-1 if len(cache) == 1 else 1], return_array=True),\n        ]\n\n"
                    "        for i, (layer, c) in enumerate(zip(self.layers, cache)):\n            h = layer(h, masks[i % 2], c)\n",
                ),
                (
                    "    @property\n    def layers(self):\n        return self.model.layers\n",
                    "    @property\n    def layers(self):\n        return self.model.layers\n\n"
                    "    def make_cache(self):\n        return [\n"
                    "            KVCache() if i % 2 else RotatingKVCache(self.args.sliding_window)\n"
                    "            for i in range(len(self.layers))\n        ]\n",
                ),
            ]
        },
        {"models/gemma2/configuration_gemma2.py": '"sliding_attention" if bool((i + 1) % 2) else "full_attention"'},
    ),
    Finding(
        "mlx-lm",
        "mistral-window",
        "Mistral is read as Llama: the sliding window of its config is ignored",
        ("mistral",),
        {
            "models/llama.py": [
                (
                    '            self.layer_types = ["full_attention"] * self.num_hidden_layers\n',
                    '            windowed = self.model_type == "mistral" and self.sliding_window\n'
                    '            kind = "sliding_attention" if windowed else "full_attention"\n'
                    "            self.layer_types = [kind] * self.num_hidden_layers\n",
                ),
                (
                    '        self.fa_idx = self.layer_types.index("full_attention")\n',
                    "        self.fa_idx = next(\n            (i for i, l in enumerate(self.layers) if not l.use_sliding), 0\n        )\n",
                ),
            ]
        },
        {
            "models/mistral/modeling_mistral.py": "mask_function = create_causal_mask if self.config.sliding_window is None else"
        },
    ),
    Finding(
        "mlx-lm",
        "phimoe-rope",
        "`long_factor` and `long_mscale` at every length; PyTorch has `short_factor`, and `long_mscale` past the original length alone",
        ("phimoe",),
        {
            "models/phimoe.py": [
                (
                    '                long_factor=args.rope_scaling["long_factor"],\n',
                    '                long_factor=args.rope_scaling["short_factor"],\n',
                ),
                (
                    "        B, L, D = x.shape\n\n        queries, keys, values",
                    "        B, L, D = x.shape\n        if self.mscales is not None:\n"
                    "            end = L if cache is None else cache.offset + L\n"
                    "            self.rope._scale = self.mscales[end > self.original_length]\n\n        queries, keys, values",
                ),
                (
                    "        # A null rope_scaling",
                    "        self.original_length = args.original_max_position_embeddings\n"
                    "        self.mscales = args.rope_scaling and (\n"
                    '            args.rope_scaling["short_mscale"],\n            args.rope_scaling["long_mscale"],\n        )\n'
                    "        # A null rope_scaling",
                ),
            ]
        },
        {
            "models/phimoe/modeling_phimoe.py": "inv_freq, attention_scaling = self.rope_init_fn(self.config)\n        mscale"
        },
    ),
    Finding(
        "mlx-lm",
        "ernie-router-bias",
        "the router's bias is dropped: PyTorch chooses experts by scores + `e_score_correction_bias`",
        ("ernie4_5_moe",),
        {
            "models/ernie4_5_moe.py": [
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
                    "        # Stack experts\n",
                    '        statics, bias = ".moe_statics.", "e_score_correction_bias"\n'
                    '        weights = {\n            k.replace(statics, "."): v.reshape(-1) if k.endswith(bias) else v\n'
                    "            for k, v in weights.items()\n        }\n\n        # Stack experts\n",
                ),
            ]
        },
        {
            "models/ernie4_5_moe/modeling_ernie4_5_moe.py": "_, selected_experts = torch.topk(self.moe_statics(routing_weights), self.top_k, dim=-1)"
        },
    ),
    Finding(
        "mlx-lm",
        "jamba-router",
        "the softmax is over the chosen experts, so their weights sum to 1; PyTorch's is over all experts",
        ("jamba",),
        {
            "models/jamba.py": [
                ("gates = self.router(x)", "gates = mx.softmax(self.router(x), axis=-1, precise=True)"),
                ("        scores = mx.softmax(scores, axis=-1, precise=True)\n", ""),
            ]
        },
        {
            "models/jamba/modeling_jamba.py": "routing_weights = torch.nn.functional.softmax(router_logits, dim=-1, dtype=torch.float)"
        },
    ),
    Finding(
        "mlx-lm",
        "llama4-qk-norm-epsilon",
        "the norm of q and k has epsilon 1e-6, PyTorch's has `rms_norm_eps`",
        ("llama4",),
        {
            "models/llama4.py": [
                (
                    "        if self.use_qk_norm:\n            queries",
                    "        if self.use_qk_norm:\n            eps = self.qk_norm_eps\n            queries",
                ),
                ("weight=None, eps=1e-6)", "weight=None, eps=eps)"),
                (
                    "        self.use_qk_norm = ",
                    "        self.qk_norm_eps = args.rms_norm_eps\n        self.use_qk_norm = ",
                ),
            ]
        },
        {"models/llama4/modeling_llama4.py": "self.qk_norm = Llama4TextL2Norm(config.rms_norm_eps)"},
    ),
    Finding(
        "mlx-lm",
        "nanochat-norm-epsilon",
        "every norm has epsilon 1e-5, PyTorch's have `rms_norm_eps`, 1e-6",
        ("nanochat",),
        {
            "models/nanochat.py": [
                ("    return mx.fast.rms_norm(x, None, 1e-5)\n", "    return mx.fast.rms_norm(x, None, 1e-6)\n")
            ]
        },
        {
            "models/nanochat/configuration_nanochat.py": "rms_norm_eps: float = 1e-6",
            "models/nanochat/modeling_nanochat.py": "NanoChatRMSNorm(eps=config.rms_norm_eps)",
        },
    ),
    Finding(
        "mlx-lm",
        "nemotron-time-step",
        "time steps are not held above `time_step_min`",
        ("nemotron_h",),
        {
            "models/nemotron_h.py": [
                (
                    "self.time_step_limit = args.time_step_limit",
                    'self.time_step_limit = (args.time_step_min or 0.0, float("inf"))',
                )
            ]
        },
        {"models/nemotron_h/modeling_nemotron_h.py": 'self.time_step_limit = (config.time_step_min, float("inf"))'},
    ),
    Finding(
        "mlx-lm",
        "gemma3-embedding-scale",
        "the embeddings' scale is rounded to bfloat16 in float32, too",
        ("gemma3_text",),
        {
            "models/gemma3_text.py": [
                (
                    "mx.array(self.args.hidden_size**0.5, mx.bfloat16).astype(h.dtype)",
                    "mx.array(self.args.hidden_size**0.5, h.dtype)",
                )
            ]
        },
        {"models/gemma3/modeling_gemma3.py": "self.embed_scale.to(self.weight.dtype)"},
        fields={"hidden_size": 72},
    ),
    Finding(
        "mlx-lm",
        "gemma3n-shared-keys",
        "without a cache, layers that share keys and values make their own",
        ("gemma3n",),
        {
            "models/gemma3n.py": [
                (
                    "class LanguageModel(nn.Module):\n",
                    "class SharedKeys:\n"
                    "    offset = 0\n\n"
                    "    def update_and_fetch(self, keys, values):\n"
                    "        self.held = keys, values\n        return self.held\n\n"
                    "    def keys_and_values(self):\n        return self.held\n\n\n"
                    "class LanguageModel(nn.Module):\n",
                ),
                (
                    "            cache = [None] * len(self.layers)\n",
                    "            cache = [SharedKeys() for _ in self.layers]\n",
                ),
            ]
        },
        {"models/gemma3n/modeling_gemma3n.py": "key_states, value_states = shared_kv_states[self.layer_type]"},
    ),
    *lm_padding.FINDINGS,
]
FINDINGS = [replace(one, real=lm_sizes.REAL.get(one.name, ())) for one in _FOUND]
