"""Findings in what mlx-vlm makes of pictures."""

from __future__ import annotations

from mlxport.atlas.mends.finding import Finding

_PORT = "mlx-vlm"

# Cubic weights as PyTorch's samplers have them (a = -0.75); places beyond the edge are the edge's.
_CUBIC = """def cubic_taps(place, size):
    at = ((place + 1) * size - 1) / 2
    low = mx.floor(at)
    t = (at - low)[:, None]
    d = mx.abs(mx.arange(-1, 3) - t)
    near = (1.25 * d - 2.25) * d * d + 1
    far = ((-0.75 * d + 3.75) * d - 6) * d + 3
    taps = mx.clip(low.astype(mx.int32)[:, None] + mx.arange(-1, 3), 0, size - 1)
    return taps, mx.where(d <= 1, near, far)


def sampled(table, rows, columns):
    height, width, _ = table.shape
    (iy, wy), (ix, wx) = cubic_taps(rows, height), cubic_taps(columns, width)
    values = table[iy[:, :, None], ix[:, None, :]]
    return ((values * wx[:, None, :, None]).sum(2) * wy[:, :, None]).sum(1)


"""
_SAMPLED = [
    (
        "            interpolated_embed_fp32 = grid_sample(\n                pos_embed_2d.transpose(0, 2, 3, 1),\n                grid,\n            )\n",
        "            adapted_pos_embed_fp32 = sampled(\n                pos_embed_2d[0].transpose(1, 2, 0), norm_h, norm_w\n            )\n",
    ),
    ("            adapted_pos_embed_fp32 = interpolated_embed_fp32.squeeze(0).squeeze(1)\n", ""),
]
_EYES = "models/{}/vision.py"
_LAST_NORM = [
    (
        "self.post_layernorm = nn.LayerNorm(config.hidden_size)",
        "self.post_layernorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)",
    )
]
_SAM3_NORM = [("nn.LayerNorm(d, eps=config.layer_norm_eps)", "nn.LayerNorm(d)")]

FINDINGS = [
    Finding(
        _PORT,
        "glm4v-positions",
        "the table of a picture's positions is resized bilinearly, with zeros around it",
        ("glm4v", "glm4v_moe"),
        {
            "models/glm4v/vision.py": [
                *_SAMPLED,
                ("class Glm4vVisionEmbeddings(nn.Module):", f"{_CUBIC}class Glm4vVisionEmbeddings(nn.Module):"),
            ],
            "models/glm4v_moe/vision.py": [
                *_SAMPLED,
                ("class Glm4vVisionEmbeddings(nn.Module):", f"{_CUBIC}class Glm4vVisionEmbeddings(nn.Module):"),
            ],
        },
        {
            "models/glm4v/modeling_glm4v.py": 'pos_embed_2d, grid, mode=self.interpolated_method, align_corners=False, padding_mode="border"'
        },
    ),
    Finding(
        _PORT,
        "glm4v-norm-eps",
        "the norms of the vision tower's blocks have epsilon 1e-6, PyTorch's `rms_norm_eps`, 1e-5",
        ("glm4v", "glm4v_moe"),
        {
            _EYES.format(kind): [
                ("nn.RMSNorm(config.hidden_size, eps=1e-6)", "nn.RMSNorm(config.hidden_size, eps=config.rms_norm_eps)")
            ]
            for kind in ("glm4v", "glm4v_moe")
        },
        {"models/glm4v/modeling_glm4v.py": "self.norm1 = Glm4vRMSNorm(config.hidden_size, eps=config.rms_norm_eps)"},
    ),
    Finding(
        _PORT,
        "glm4v-chunk-positions",
        "later pieces of a prompt with pictures have positions of text",
        ("glm4v", "glm4v_moe"),
        {
            f"models/{kind}/language.py": [
                (
                    "            if is_prefill or self._rope_deltas is None:\n",
                    "            end = cache_offset + inputs.shape[1]\n"
                    "            known = 0 if self._position_ids is None else self._position_ids.shape[-1]\n"
                    "            in_prompt = cache_offsets is None and end <= known\n"
                    "            if is_prefill or in_prompt or self._rope_deltas is None:\n",
                )
            ]
            for kind in ("glm4v", "glm4v_moe")
        },
        {"models/glm4v/modeling_glm4v.py": "position_ids = self.compute_3d_position_ids("},
        scenario="chunked",
    ),
    Finding(
        _PORT,
        "glm4v-many-pictures",
        "from the third of four and more pictures on, pictures see each other",
        ("glm4v",),
        {
            "models/glm4v/vision.py": [
                (
                    "            mx.split(tensor, [lengths[0], sum(lengths[:2])], axis=2)\n",
                    "            mx.split(tensor, cu_seqlens[1:-1].tolist(), axis=2)\n",
                )
            ]
        },
        {
            "models/glm4v/modeling_glm4v.py": "torch.split(tensor, lengths.tolist(), dim=2) for tensor in (query_states, key_states, value_states)"
        },
        scenario="tiles",
    ),
    Finding(
        _PORT,
        "last-norm-eps",
        "the vision tower's last norm has epsilon 1e-5, PyTorch's 1e-6",
        ("gemma3", "idefics3", "smolvlm", "aya_vision"),
        {_EYES.format(kind): _LAST_NORM for kind in ("gemma3", "idefics3", "aya_vision")},
        {
            "models/siglip/modeling_siglip.py": "self.post_layernorm = nn.LayerNorm(embed_dim, eps=config.layer_norm_eps)",
            "models/idefics3/modeling_idefics3.py": "self.post_layernorm = nn.LayerNorm(embed_dim, eps=config.layer_norm_eps)",
        },
    ),
    Finding(
        _PORT,
        "gemma3-picture-scale",
        "picture features are divided by the root of 2048, whatever the text's width",
        ("gemma3",),
        {
            "models/gemma3/gemma3.py": [
                (
                    "                self.config.hidden_size,\n",
                    "                self.config.text_config.hidden_size,\n",
                ),
                (
                    "scaled_image_features = image_features / (hidden_size**0.5)",
                    "scaled_image_features = image_features / mx.array(hidden_size**0.5, mx.bfloat16).astype(image_features.dtype)",
                ),
            ]
        },
        {
            "models/gemma3/modeling_gemma3.py": "inputs_embeds = inputs_embeds.masked_scatter(special_image_mask, image_features)"
        },
    ),
    Finding(
        _PORT,
        "gemma3-picture-mask",
        "with a picture, nothing is causal; in mlx-vlm's own generation a picture's tokens do not see each other",
        ("gemma3",),
        {
            "models/gemma3/gemma3.py": [
                (
                    "        attention_mask_expanded_1 = mx.expand_dims(attention_mask, 1)\n"
                    "        attention_mask_expanded_2 = mx.expand_dims(attention_mask, 2)\n"
                    "        final_attention_mask_4d = attention_mask_expanded_1 * attention_mask_expanded_2\n"
                    "        final_attention_mask_4d = final_attention_mask_4d\n"
                    "        final_attention_mask_4d = mx.expand_dims(final_attention_mask_4d, 1)\n",
                    "        # Which later tokens are of the same picture: they are seen, too.\n"
                    "        before = mx.pad(image_mask, [(0, 0), (1, 0)])[:, :-1]\n"
                    "        number = mx.where(image_mask, mx.cumsum((image_mask & ~before).astype(mx.int32), axis=1), 0)\n"
                    "        same = image_mask[:, :, None] & (number[:, :, None] == number[:, None, :])\n"
                    "        final_attention_mask_4d = mx.triu(same, 1)[:, None]\n",
                ),
                ("            mask=attention_mask,\n", "            attention_mask_4d=attention_mask,\n"),
                (
                    "    @property\n    def layers(self):\n",
                    "    def chunked_prefill_policy(self, *, draft_model=None, prefill_kwargs=None, **_):\n"
                    "        # A picture's tokens see each other: they are read at once.\n"
                    '        return draft_model is None and (prefill_kwargs or {}).get("attention_mask_4d") is None\n\n'
                    "    @property\n    def layers(self):\n",
                ),
            ],
            "models/gemma3/language.py": [
                (
                    "        mask: mx.array = None,\n        cache=None,\n    ):\n",
                    "        mask: mx.array = None,\n        cache=None,\n        same_picture=None,\n    ):\n",
                ),
                (
                    "                h, cache[self.sliding_window_pattern - 1]\n",
                    "                h, cache[self.sliding_window_pattern - 1], return_array=same_picture is not None\n",
                ),
                (
                    "                    window_size=self.window_size,\n",
                    "                    window_size=self.window_size,\n                    return_array=same_picture is not None,\n",
                ),
                (
                    "        for i, (layer, c) in enumerate(zip(self.layers, cache)):\n",
                    "        if mask is None and same_picture is not None:\n"
                    "            global_mask = global_mask | same_picture\n"
                    "            if sliding_window_mask is not None:\n"
                    "                sliding_window_mask = sliding_window_mask | same_picture\n\n"
                    "        for i, (layer, c) in enumerate(zip(self.layers, cache)):\n",
                ),
                (
                    "        out = self.model(inputs, inputs_embeds=inputs_embeds, mask=mask, cache=cache)\n",
                    "        out = self.model(\n"
                    '            inputs, inputs_embeds=inputs_embeds, mask=mask, cache=cache, same_picture=kwargs.get("attention_mask_4d")\n'
                    "        )\n",
                ),
            ],
        },
        {"models/gemma3/modeling_gemma3.py": "or_mask_function=blockwise_overlay(padded_block_sequence_ids),"},
    ),
    Finding(
        _PORT,
        "qwen3-vl-moe-gelu",
        "the two forms of GELU are exchanged in the vision tower",
        ("qwen3_vl_moe",),
        {
            _EYES.format("qwen3_vl_moe"): [
                (
                    'nn.Linear(self.hidden_size, self.hidden_size)\n        self.act_fn = nn.GELU(approx="tanh")',
                    "nn.Linear(self.hidden_size, self.hidden_size)\n        self.act_fn = nn.GELU()",
                ),
                (
                    "nn.Linear(hidden_dim, dim, bias=True)\n        self.act_fn = nn.GELU()",
                    'nn.Linear(hidden_dim, dim, bias=True)\n        self.act_fn = nn.GELU(approx="tanh")',
                ),
            ]
        },
        {
            "models/qwen3_vl_moe/configuration_qwen3_vl_moe.py": 'hidden_act: str = "gelu_pytorch_tanh"',
            "models/qwen3_vl_moe/modeling_qwen3_vl_moe.py": "self.act_fn = nn.GELU()",
        },
    ),
    Finding(
        _PORT,
        "paddleocr-norm-eps",
        "the projector's norm has epsilon 1e-6, PyTorch's 1e-5",
        ("paddleocr_vl",),
        {
            _EYES.format("paddleocr_vl"): [
                ("self.pre_norm = nn.LayerNorm(dim, eps=1e-6)", "self.pre_norm = nn.LayerNorm(dim, eps=1e-5)")
            ]
        },
        {
            "models/paddleocr_vl/modeling_paddleocr_vl.py": "self.pre_norm = torch.nn.LayerNorm(config.vision_config.hidden_size, eps=1e-05)"
        },
    ),
    Finding(
        _PORT,
        "sam3-norm-eps",
        "the DETR's norms have epsilon 1e-6, PyTorch's 1e-5",
        ("sam3_video",),
        {f"models/sam3/{file}.py": _SAM3_NORM for file in ("decoder", "encoder", "geometry", "segmentation")},
        {"models/sam3/modeling_sam3.py": "self.vision_layer_norm = nn.LayerNorm(self.hidden_size)"},
    ),
    Finding(
        _PORT,
        "gelu-precise",
        '`GELU(approx="precise")`, which is the tanh form, where PyTorch has the exact GELU',
        ("modernbert", "internvl"),
        {
            "models/modernbert/modernbert.py": [('nn.GELU(approx="precise")', "nn.GELU()")],
            "models/internvl/internvl.py": [('nn.GELU(approx="precise")', "nn.GELU()")],
            "models/internvl_chat/vision.py": [('nn.GELU(approx="precise")', "nn.GELU()")],
        },
        {
            "models/modernbert/configuration_modernbert.py": 'hidden_activation: str = "gelu"',
            "models/internvl/configuration_internvl.py": 'hidden_act: str = "gelu"',
        },
    ),
    Finding(
        _PORT,
        "aya-logit-scale",
        "logits are multiplied by the text model's `logit_scale`; transformers' models with pictures leave it out",
        ("aya_vision", "cohere2_vision"),
        {"models/aya_vision/language.py": [("        out = out * self.model.config.logit_scale\n", "")]},
        {"models/aya_vision/modeling_aya_vision.py": "logits = self.lm_head("},
    ),
]
