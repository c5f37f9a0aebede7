"""Where mlx-lm's models take padding for text, or raise an error at it: batches of sequences of unequal lengths."""

from __future__ import annotations

from mlxport.atlas.mends.finding import Finding

# What the masked layers of other models of mlx-lm do: nothing enters at padding, and the last states kept are the text's own.
_KEPT = (
    "        {state} = x_full[:, -(K - 1) :, :]\n",
    "        if cache is not None and cache.lengths is not None:\n"
    "            ends = mx.clip(cache.lengths, 0, x.shape[1])[:, None, None]\n"
    "            kept = ends + mx.arange(K - 1)[None, :, None]\n"
    "            {state} = mx.take_along_axis(x_full, kept, axis=1)\n"
    "        else:\n            {state} = x_full[:, -(K - 1) :, :]\n",
)


def _kept(state: str) -> tuple[str, str]:
    return _KEPT[0].format(state=state), _KEPT[1].format(state=state)


_MASKED = (
    "        K = self.conv_kernel_size\n",
    "        if mask is not None:\n            x = mx.where(mask[..., None], x, 0)\n        K = self.conv_kernel_size\n",
)

# What mlx-vlm's copy of RecurrentGemma has, too.
GRIFFIN = [
    (
        "    def __call__(self, x, cache=None):\n        B, L, C = x.shape\n        groups",
        "    def __call__(self, x, cache=None, mask=None, lengths=None):\n        B, L, C = x.shape\n"
        "        if mask is not None:\n            x = mx.where(mask[..., None], x, 0)\n        groups",
    ),
    (
        "        return y, x[:, -K + 1 :, :]\n",
        "        if lengths is not None:\n"
        "            kept = mx.clip(lengths, 0, L)[:, None] + mx.arange(K - 1)\n"
        "            return y, mx.take_along_axis(x, kept[..., None], axis=1)\n"
        "        return y, x[:, -K + 1 :, :]\n",
    ),
    (
        "        x: mx.array,\n        cache=None,\n    ):\n        B, L, _ = x.shape\n\n        def apply_block_linear",
        "        x: mx.array,\n        cache=None,\n        mask=None,\n    ):\n        B, L, _ = x.shape\n\n        def apply_block_linear",
    ),
    (
        "            multiplier[:, 0, :] = 1.0\n        normalized_x = gated_x * multiplier.astype(x.dtype)\n",
        "            first = 0 if mask is None else mx.argmax(mask, axis=1)[:, None]\n"
        "            begins = mx.arange(L)[None] == first\n"
        "            multiplier = mx.where(begins[..., None], 1.0, multiplier)\n"
        "        normalized_x = gated_x * multiplier.astype(x.dtype)\n"
        "        if mask is not None:\n"
        "            normalized_x = mx.where(mask[..., None], normalized_x, 0)\n"
        "            a = mx.where(mask[..., None], a, 1)\n",
    ),
    (
        "        x, cache[0] = self.conv_1d(x=x, cache=cache[0])\n        x, cache[1] = self.rg_lru(x=x, cache=cache[1])\n",
        '        lengths = getattr(cache, "lengths", None)\n'
        "        x, cache[0] = self.conv_1d(x, cache[0], mask, lengths)\n"
        "        x, cache[1] = self.rg_lru(x=x, cache=cache[1], mask=mask)\n"
        "        if isinstance(cache, ArraysCache):\n            cache.advance(x.shape[1])\n",
    ),
    (
        "        for i, block in enumerate(self.layers):\n            x = block(x, mask=mask, cache=cache[i])\n",
        '        recurrent = [b.temporal_block_type == "recurrent" for b in self.layers]\n'
        "        masks = [mask, create_ssm_mask(x, cache[recurrent.index(True)])]\n"
        "        for i, block in enumerate(self.layers):\n            x = block(x, mask=masks[recurrent[i]], cache=cache[i])\n",
    ),
]

FINDINGS = [
    Finding(
        "mlx-lm",
        "mamba-padding",
        "state-space layers read padding as text",
        ("mamba", "falcon_mamba", "jamba"),
        {
            "models/mamba.py": [
                ("from .base import BaseModelArgs\n", "from .base import BaseModelArgs, create_ssm_mask\n"),
                (
                    "    def _process_sequence(self, x, conv_cache, state_cache):\n",
                    "    def _process_sequence(self, x, conv_cache, state_cache, cache, mask):\n",
                ),
                _MASKED,
                _kept("new_conv_cache"),
                (
                    "            y_t, current_state = self.ssm_step(x[:, t], A, current_state)\n",
                    "            y_t, new_state = self.ssm_step(x[:, t], A, current_state)\n"
                    "            if mask is not None:\n"
                    "                held = 0 if current_state is None else current_state\n"
                    "                new_state = mx.where(mask[:, t, None, None], new_state, held)\n"
                    "            current_state = new_state\n",
                ),
                (
                    "    def __call__(self, x, cache):\n        if cache",
                    "    def __call__(self, x, cache, mask=None):\n        if cache",
                ),
                (
                    "            x, conv_cache, state_cache\n        )\n",
                    "            x, conv_cache, state_cache, cache, mask\n        )\n",
                ),
                (
                    "            cache[1] = new_state_cache\n",
                    "            cache[1] = new_state_cache\n            cache.advance(x.shape[1])\n",
                ),
                (
                    "    def __call__(self, x: mx.array, cache):\n        return self.mixer(self.norm(x), cache) + x\n",
                    "    def __call__(self, x: mx.array, cache, mask=None):\n        return self.mixer(self.norm(x), cache, mask) + x\n",
                ),
                (
                    "        for layer, c in zip(self.layers, cache):\n            x = layer(x, c)\n",
                    "        mask = create_ssm_mask(x, cache[0])\n"
                    "        for layer, c in zip(self.layers, cache):\n            x = layer(x, c, mask)\n",
                ),
            ],
            "models/jamba.py": [
                (
                    "    def ssm_step(self, x, A, state=None):\n",
                    "    def ssm_step(self, x, A, state=None, mask=None):\n",
                ),
                (
                    "                new_state[:, t] = fma(state, dtA[:, t], new_state[:, t])\n",
                    "                new_state[:, t] = fma(state, dtA[:, t], new_state[:, t])\n"
                    "            if mask is not None:\n"
                    "                held = 0 if state is None else state\n"
                    "                new_state[:, t] = mx.where(mask[:, t, None, None], new_state[:, t], held)\n",
                ),
                (
                    "    def _process_sequence(self, x, conv_state, ssm_state):\n",
                    "    def _process_sequence(self, x, conv_state, ssm_state, cache, mask):\n",
                ),
                _MASKED,
                _kept("conv_state"),
                ("self.ssm_step(x, A, ssm_state)", "self.ssm_step(x, A, ssm_state, mask)"),
                (
                    "    def __call__(self, x, cache):\n        if cache",
                    "    def __call__(self, x, cache, mask=None):\n        if cache",
                ),
                (
                    "            x, conv_state, ssm_state\n        )\n",
                    "            x, conv_state, ssm_state, cache, mask\n        )\n",
                ),
                (
                    "            cache[1] = ssm_state\n",
                    "            cache[1] = ssm_state\n            cache.advance(x.shape[1])\n",
                ),
                (
                    "            h = self.mamba(self.input_layernorm(x), cache)\n",
                    "            h = self.mamba(self.input_layernorm(x), cache, mask)\n",
                ),
            ],
        },
        {
            "models/mamba/modeling_mamba.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)",
            "models/falcon_mamba/modeling_falcon_mamba.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)",
            "models/jamba/modeling_jamba.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)",
        },
        scenario="batch",
    ),
    Finding(
        "mlx-lm",
        "recurrent-gemma-padding",
        "the recurrent layers read padding as text",
        ("recurrent_gemma",),
        {
            "models/recurrent_gemma.py": [
                (
                    "from .base import BaseModelArgs, create_attention_mask, scaled_dot_product_attention\n",
                    "from .base import (\n    BaseModelArgs,\n    create_attention_mask,\n    create_ssm_mask,\n    scaled_dot_product_attention,\n)\n",
                ),
                *GRIFFIN,
            ]
        },
        {"models/recurrent_gemma/modeling_recurrent_gemma.py": "reset = position_ids[:, :, None] == 0"},
        scenario="batch",
    ),
    Finding(
        "mlx-lm",
        "olmo-hybrid-padding",
        "the convolutions of the linear attention read padding as text",
        ("olmo_hybrid",),
        {
            "models/olmo_hybrid.py": [
                (
                    "        if cache_slot is not None:\n            cache_slot[slot_idx] = mx.contiguous(padded[:, -n_keep:, :])\n",
                    "        if cache_slot is not None and cache_slot.lengths is not None:\n"
                    "            kept = mx.clip(cache_slot.lengths, 0, S)[:, None] + mx.arange(n_keep)\n"
                    "            cache_slot[slot_idx] = mx.take_along_axis(padded, kept[..., None], axis=1)\n"
                    "        elif cache_slot is not None:\n            cache_slot[slot_idx] = mx.contiguous(padded[:, -n_keep:, :])\n",
                ),
                (
                    "        v = self.v_proj(x)\n\n        conv_q_state",
                    "        v = self.v_proj(x)\n        if mask is not None:\n"
                    "            q, k, v = (mx.where(mask[..., None], part, 0) for part in (q, k, v))\n\n        conv_q_state",
                ),
            ]
        },
        {
            "models/olmo_hybrid/modeling_olmo_hybrid.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)"
        },
        scenario="batch",
    ),
    Finding(
        "mlx-lm",
        "nemotron-padding",
        "the state after a prompt padded at the right is that after its padding",
        ("nemotron_h",),
        {
            "models/nemotron_h.py": [
                (
                    "            self.time_step_limit,\n            mask,\n        )\n",
                    "            self.time_step_limit,\n            mask,\n"
                    "            cache.lengths if cache else None,\n        )\n",
                )
            ]
        },
        {"models/nemotron_h/modeling_nemotron_h.py": "apply_mask_to_padding_states(hidden_states, attention_mask)"},
        scenario="padded",
    ),
    Finding(
        "mlx-lm",
        "bigcode-batch-positions",
        "positions of a batch raise an error",
        ("gpt_bigcode",),
        {
            "models/gpt_bigcode.py": [
                (
                    "            position_ids = mx.array(np.arange(cache[0].offset, cache[0].offset + L))\n",
                    "            offset = mx.array(cache[0].offset)\n"
                    "            position_ids = mx.maximum(mx.arange(L) + offset[..., None], 0)\n",
                )
            ]
        },
        {"models/gpt_bigcode/modeling_gpt_bigcode.py": "position_ids = position_ids.unsqueeze(0)"},
        scenario="batch",
    ),
]
