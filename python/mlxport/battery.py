"""The scenarios' names, in order. Whoever reads tables needs no MLX for them."""

from __future__ import annotations

TEXTUAL = ("prefill", "decode", "chunked", "turns", "batch", "padded", "long", "resume", "plain", "text")
LOOKS = ("resize", "non-square", "two-images", "tiles")
ALL = (*TEXTUAL, *LOOKS, "invariants")
# Run where it is asked for.
ASKED = ("bf16",)
