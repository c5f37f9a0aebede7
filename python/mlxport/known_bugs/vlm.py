"""Bugs of mlx-vlm: pictures, positions over pieces and pictures, masks, scaling, loading."""

from __future__ import annotations

from mlxport.known_bugs.bug import Bug, maker

_bug = maker("mlx-vlm")

_NORM = [("nn.LayerNorm(d, eps=config.layer_norm_eps)", "nn.LayerNorm(d)")]
# The norms of SAM 3's DETR have epsilon 1e-5 in PyTorch, 1e-6 in the port.
_SAM3 = {f"models/sam3/{file}.py": _NORM for file in ("decoder", "encoder", "geometry", "segmentation")}

BUGS = [
    _bug(
        "qwen2-visionmask",
        "mlx-vlm PR #704",
        "qwen2_vl",
        "pictures attend to each other",
        "prefill",
        "visual.blocks.0.attn",
        {
            "models/qwen2_vl/vision.py": [
                (
                    "            mx.split(tensor, cu_seqlens[1:-1].tolist(), axis=2) for tensor in (q, k, v)\n",
                    "            [tensor] for tensor in (q, k, v)\n",
                )
            ]
        },
    ),
    _bug(
        "qwen3-deepstack-row",
        "mlx-vlm PR #581",
        "qwen3_vl",
        "features of deeper layers are added to the first token",
        "prefill",
        "language_model#0.out|language_model.layers.0#0.out|language_model.layers.1.input_layernorm",
        {"models/qwen3_vl/language.py": [("np.where(batch_mask)[0]", "np.where(np.array(batch_mask)[None])[0]")]},
    ),
    _bug(
        "deepstack-chunk",
        "mlx-vlm#856, PR #1332",
        "qwen3_vl",
        "every piece adds the first piece's features again",
        "chunked",
        "language_model#0.out|language_model.layers.0#0.out|language_model.layers.1.input_layernorm",
        {
            "models/qwen3_vl/language.py": [
                (
                    "                    deepstack_visual_embeds = [\n                        embeds[indices] for embeds in deepstack_visual_embeds\n                    ]\n",
                    "                    del indices\n",
                )
            ]
        },
    ),
    _bug(
        "mrope-chunk",
        "mlx-vlm PR #1741",
        "qwen2_5_vl",
        "every piece has the first piece's positions",
        "chunked",
        "self_attn",
        {
            "models/qwen2_5_vl/language.py": [
                (
                    "                position_ids = position_ids[\n                    ..., cache_offset : cache_offset + seq_length\n                ]",
                    "                position_ids = position_ids[..., :seq_length]",
                )
            ]
        },
    ),
    _bug(
        "glmocr-chunkpos",
        "mlx-vlm#1021, PR #1214",
        "glm_ocr",
        "later pieces' positions are not the prompt's",
        "chunked",
        "self_attn",
        {
            "models/glm_ocr/language.py": [
                (
                    "                self._position_ids is not None\n                and cache_offsets is None\n",
                    "                cache_offset == 0\n                and self._position_ids is not None\n                and cache_offsets is None\n",
                )
            ]
        },
    ),
    _bug(
        "omni-pos0",
        "mlx-vlm#1983, PR #1993",
        "qwen3_omni_moe_thinker",
        "positions begin anew at every step",
        "text",
        "layers.0.self_attn",
        {
            "models/qwen3_omni_moe/language.py": [
                (
                    "                or (self._rope_deltas is None and rope_deltas_kw is None)\n                or cache is None\n",
                    "                or True\n",
                )
            ]
        },
    ),
    _bug(
        "gemma3-ropescale",
        "mlx-vlm PR #1927",
        "gemma3",
        "the rotary scaling of full layers is ignored",
        "text",
        "layers.5.self_attn",
        {
            "models/gemma3/language.py": [
                (
                    "            scaling_config=None if self.is_sliding else config.rope_scaling,\n",
                    "            scaling_config=None,\n",
                )
            ]
        },
        fields={
            "text_config.rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
            }
        },
    ),
    _bug(
        "glm4vmoe-rotate",
        "mlx-vlm PR #481",
        "glm4v_moe",
        "neighbouring pairs are rotated; PyTorch rotates halves",
        "text",
        "layers.0.self_attn",
        {"models/glm4v_moe/language.py": [('style="sectioned_half_split"', 'style="sectioned_even_odd"')]},
    ),
    _bug(
        "gemma4-embedder",
        "mlx-vlm PR #906",
        "gemma4",
        "the norm of picture features comes after their projection",
        "prefill",
        "embed_vision",
        {
            "models/gemma4/gemma4.py": [
                (
                    "        normed = self.embedding_pre_projection_norm(inputs_embeds)\n        return self.embedding_projection(normed)",
                    "        return self.embedding_pre_projection_norm(self.embedding_projection(inputs_embeds))",
                )
            ]
        },
    ),
    _bug(
        "dsv4-sharedclamp",
        "mlx-vlm PR #1469",
        "deepseek_v4",
        "the shared expert has no limit",
        "prefill",
        "shared_experts",
        {
            "models/deepseek_v4/language.py": [
                ("            swiglu_limit=config.swiglu_limit,\n", "            swiglu_limit=0.0,\n")
            ]
        },
        fields={"swiglu_limit": 0.3},
    ),
    _bug(
        "paddle-pos",
        "mlx-vlm PR #672",
        "paddleocr_vl",
        "one axis's positions turn every section",
        "prefill",
        "layers.0.self_attn",
        {
            "models/paddleocr_vl/language.py": [
                ("        mrope_section=mrope_section,\n", "        mrope_section=[sum(mrope_section)],\n")
            ]
        },
        # The projector's norm has epsilon 1e-5 in PyTorch, 1e-6 in the port.
        mends={
            "models/paddleocr_vl/vision.py": [
                ("self.pre_norm = nn.LayerNorm(dim, eps=1e-6)", "self.pre_norm = nn.LayerNorm(dim, eps=1e-5)")
            ]
        },
    ),
    _bug(
        "sam3-ropescale",
        "mlx-vlm#2103, PR #2128",
        "sam3_video",
        "global blocks' positions are not scaled to the window",
        "prefill",
        "backbone.layers.1",
        {"models/sam3/vision.py": [("            scale=config.window_size / feat_size,\n", "")]},
        mends=_SAM3,
    ),
    _bug(
        "sam3-groupnorm",
        "mlx-vlm 0.7.9",
        "sam3_video",
        "groups are not PyTorch's: every n-th channel in place of neighbours",
        "prefill",
        "pixel_decoder.norms",
        {
            "models/sam3/segmentation.py": [
                ("nn.GroupNorm(8, hidden_size, pytorch_compatible=True)", "nn.GroupNorm(8, hidden_size)")
            ]
        },
        mends=_SAM3,
    ),
    _bug(
        "sam3-sanitize",
        "mlx-vlm#1545, PR #1550",
        "sam3_video",
        "converted convolutions are turned once more",
        "invariants",
        "projection|conv",
        {"models/sam3/sam3.py": [("        already_mlx = any(\n", "        already_mlx = False and any(\n")]},
    ),
    Bug(
        "vlm-molmo-scatter",
        "mlx-vlm PR #1783",
        "mlx-vlm",
        "molmo",
        "picture features go to row numbers",
        "prefill",
        ("embed",),
        unseen="transformers has no molmo: its PyTorch code is remote code, which is not at hand here",
    ),
    Bug(
        "vlm-aya-posadd",
        "mlx-vlm 0.7.0",
        "mlx-vlm",
        "aya_vision",
        "resized positions are added to what is not there",
        "prefill",
        ("embeddings",),
        unseen="the newest version raises an error in the same branch (`mx.array` has no `device`): no mended port to hold it against",
    ),
    Bug(
        "vlm-sam3-axial",
        "mlx-vlm 0.7.8",
        "mlx-vlm",
        "sam3_video",
        "columns' and rows' angles are exchanged in the tracker",
        "prefill",
        ("memory_attention",),
        unseen="`check` runs SAM 3's detector; nothing runs its tracker over frames yet",
    ),
    Bug(
        "vlm-nemotron-convtwice",
        "mlx-vlm PR #1743",
        "mlx-vlm",
        "nemotron_h_omni",
        "converted convolutions of the sound encoder are turned once more",
        "invariants",
        ("sound_encoder",),
        unseen="no small form of nemotron_h_omni, and no translation of its config, is known yet",
    ),
]
