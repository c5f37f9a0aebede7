"""Which model types have a built-in recipe, and what is known of their ports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Covered:
    """One model type of one port.

    `mend`: the port is known to compute something else than PyTorch (`mlxport.atlas.mends` names the line, `mended` the modules of
    mlx-vlm's); the logits are those of a port with that mended. `unlike`: why the port's logits cannot be PyTorch's at all; conversion and audit are held to account all the same.
    `text_alone`: why they cannot be with pictures; those of text alone are compared.
    `kept`: modules (a pattern) that the peer packs, or packs in so few bits as it should not, and ours do not: they are not compared where
    they are packed.
    `mixed`: false where the peer's mixtures pass over its banks of experts, for it asks their rows, not their columns.
    """

    model_type: str
    port: str = "mlx-lm"
    mend: bool = False
    unlike: str | None = None
    text_alone: str | None = None
    kept: str | None = None
    mixed: bool = True

    def recipe_in(self, folder: Path) -> Path:
        """The type's recipe file in a folder of them."""
        return folder / f"{self.model_type.replace('_', '-')}.toml"


_MLX_LM = (
    "afmoe", "apertus", "cohere", "cohere2", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5", "glm4", "glm4_moe", "gpt2", "gptj", "granite",
    "granitemoe", "helium", "hunyuan_v1_dense", "internlm3", "lfm2", "lfm2_moe", "llama", "mamba", "mamba2", "mellum", "minimax_m2", "ministral3",
    "mistral4", "mixtral", "nemotron", "olmo2", "olmo3", "olmoe", "phi", "phi3", "qwen2", "qwen2_moe", "qwen3", "qwen3_moe", "qwen3_next", "seed_oss",
    "smollm3", "stablelm",
)  # fmt: skip
_MENDED = ("gemma", "gemma3_text", "glm", "gpt_bigcode", "gpt_neox", "starcoder2")
_WINDOW = "the port attends past the window"
_MLX_VLM = (
    "glm_ocr", "idefics3", "llava", "qwen2_5_vl", "qwen2_vl", "qwen3_vl", "smolvlm",
)  # fmt: skip

COVERED: tuple[Covered, ...] = (
    *(Covered(name) for name in _MLX_LM),
    *(Covered(name, mend=True) for name in _MENDED),
    Covered("gemma2", unlike=_WINDOW),
    Covered("mistral", unlike=_WINDOW),
    *(Covered(name, "mlx-vlm") for name in _MLX_VLM),
    # mlx-vlm's converter does not ask the language model, which wants its routers in 8 bits.
    Covered("qwen3_vl_moe", "mlx-vlm", mend=True, kept="language_model.model.layers.*.mlp.gate"),
    Covered("paddleocr_vl", "mlx-vlm", kept="visual.embeddings.position_embedding"),
    Covered("gemma3", "mlx-vlm", text_alone="a picture's tokens see what is before them, in PyTorch the whole picture"),
    Covered("glm4v", "mlx-vlm", text_alone="the port resamples positions linearly, PyTorch bicubically"),
)


def chosen(names: list[str]) -> list[Covered]:
    """The types of these names (`qwen2`, or `mlx-vlm/qwen2_vl`), all without any; an unknown name is a ValueError."""
    if not names:
        return list(COVERED)
    found = []
    for name in names:
        fits = [c for c in COVERED if name in (c.model_type, f"{c.port}/{c.model_type}")]
        if not fits:
            raise ValueError(f"no built-in recipe is for {name!r}; known: {', '.join(c.model_type for c in COVERED)}")
        found += fits
    return found
