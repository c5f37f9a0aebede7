"""Where mlx-vlm's copies of mlx-lm's models take padding for text, or raise an error at it."""

from __future__ import annotations

from mlxport.atlas.mends import lm_padding
from mlxport.atlas.mends.finding import Finding

_LM = {finding.name: finding for finding in lm_padding.FINDINGS}


def _copy(name: str, edits: dict) -> Finding:
    held = _LM[name]
    return Finding("mlx-vlm", name, held.title, held.types, edits, held.pytorch, held.scenario)


def _kept(state: str, full: str, width: str) -> tuple[str, str]:
    """The last states kept are the text's own, not the padding's."""
    plain = f"        {state} = {full}[:, -({width} - 1) :, :]\n"
    return plain, (
        "        if cache is not None and cache.lengths is not None:\n"
        f"            kept = mx.clip(cache.lengths, 0, x.shape[1])[:, None] + mx.arange({width} - 1)\n"
        f"            {state} = mx.take_along_axis({full}, kept[..., None], axis=1)\n"
        f"        else:\n    {plain}"
    )


_MASKED = "        if mask is not None:\n            x = mx.where(mask[..., None], x, 0)\n"
_MAMBA = [
    ("from ..base import LanguageModelOutput\n", "from ..base import LanguageModelOutput, create_ssm_mask\n"),
    (
        "    def _process_sequence(self, x, convolution_cache, state_cache):\n",
        "    def _process_sequence(self, x, convolution_cache, state_cache, cache, mask):\n",
    ),
    ("        kernel_size = self.conv_kernel_size\n", f"{_MASKED}        kernel_size = self.conv_kernel_size\n"),
    _kept("new_convolution_cache", "full_x", "kernel_size"),
    (
        "            output, current_state = self.ssm_step(\n"
        "                x[:, token_index], state_matrix, current_state\n            )\n",
        "            output, new_state = self.ssm_step(\n"
        "                x[:, token_index], state_matrix, current_state\n            )\n"
        "            if mask is not None:\n"
        "                held = 0 if current_state is None else current_state\n"
        "                new_state = mx.where(mask[:, token_index, None, None], new_state, held)\n"
        "            current_state = new_state\n",
    ),
    (
        "    def __call__(self, x, cache):\n        if cache",
        "    def __call__(self, x, cache, mask=None):\n        if cache",
    ),
    (
        "            x, convolution_cache, state_cache\n        )\n",
        "            x, convolution_cache, state_cache, cache, mask\n        )\n",
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
        "        for layer, layer_cache in zip(self.layers, cache):\n            hidden_states = layer(hidden_states, layer_cache)\n",
        "        mask = create_ssm_mask(hidden_states, cache[0])\n"
        "        for layer, layer_cache in zip(self.layers, cache):\n"
        "            hidden_states = layer(hidden_states, layer_cache, mask)\n",
    ),
]
_JAMBA = [
    ("    def ssm_step(self, x, A, state=None):\n", "    def ssm_step(self, x, A, state=None, mask=None):\n"),
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
    ("        K = self.conv_kernel_size\n", f"{_MASKED}        K = self.conv_kernel_size\n"),
    _kept("conv_state", "x_full", "K"),
    ("self.ssm_step(x, A, ssm_state)", "self.ssm_step(x, A, ssm_state, mask)"),
    (
        "    def __call__(self, x, cache):\n        if cache",
        "    def __call__(self, x, cache, mask=None):\n        if cache",
    ),
    (
        "            x, conv_state, ssm_state\n        )\n",
        "            x, conv_state, ssm_state, cache, mask\n        )\n",
    ),
    ("            cache[1] = ssm_state\n", "            cache[1] = ssm_state\n            cache.advance(x.shape[1])\n"),
    (
        "            h = self.mamba(self.input_layernorm(x), cache)\n",
        "            h = self.mamba(self.input_layernorm(x), cache, mask)\n",
    ),
]
_GRIFFIN = [("    create_attention_mask,\n", "    create_attention_mask,\n    create_ssm_mask,\n"), *lm_padding.GRIFFIN]

FINDINGS = [
    Finding(
        "mlx-vlm",
        "right-padding-mask",
        "in batches, state-space layers and linear attention read padding at the right as text",
        (
            "falcon_h1",
            "falcon_mamba",
            "granitemoehybrid",
            "jamba",
            "kimi_linear",
            "mamba",
            "mamba2",
            "nemotron_h",
            "qwen3_5_moe_text",
            "qwen3_5_text",
            "qwen3_next",
            "recurrent_gemma",
        ),
        {
            "models/cache.py": [
                (
                    "        if self.left_padding is not None:\n            pos = mx.arange(N)\n"
                    "            return pos >= self.left_padding[:, None]\n"
                    "        elif self.lengths is not None:\n            pos = mx.arange(N)\n"
                    "            return pos < self.lengths[:, None]\n        else:\n            return None\n",
                    "        mask, pos = None, mx.arange(N)\n"
                    "        if self.left_padding is not None:\n            mask = pos >= self.left_padding[:, None]\n"
                    "        if self.lengths is not None:\n            within = pos < self.lengths[:, None]\n"
                    "            mask = within if mask is None else mask & within\n        return mask\n",
                )
            ],
            # Its own way to that mask leaves as soon as nothing is padded at the left.
            "models/qwen3_5/language.py": [
                (
                    "                cache._qwen3_5_ssm_no_mask_batch_size = batch_size\n            return None\n",
                    "                cache._qwen3_5_ssm_no_mask_batch_size = batch_size\n                return None\n",
                )
            ],
        },
        {
            "models/falcon_h1/modeling_falcon_h1.py": "hidden_states = apply_mask_to_padding_states(hidden_states, attention_mask)"
        },
        scenario="padded",
    ),
    _copy("mamba-padding", {"models/mamba/language.py": _MAMBA, "models/jamba/language.py": _JAMBA}),
    _copy("recurrent-gemma-padding", {"models/recurrent_gemma/language.py": _GRIFFIN}),
    _copy(
        "bigcode-batch-positions",
        {
            "models/gpt_bigcode/language.py": [
                (
                    "            position_ids = mx.array(np.arange(cache[0].offset, cache[0].offset + L))\n",
                    "            offset = mx.array(cache[0].offset)\n"
                    "            position_ids = mx.maximum(mx.arange(L) + offset[..., None], 0)\n",
                )
            ]
        },
    ),
    Finding(
        "mlx-vlm",
        "nemotron-padding",
        "the state after a prompt padded at the right is that after its padding",
        ("nemotron_h",),
        {
            "models/nemotron_h/language.py": [
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
]
