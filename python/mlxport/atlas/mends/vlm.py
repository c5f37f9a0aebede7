"""What is wrong in mlx-vlm's models."""

from __future__ import annotations

from dataclasses import replace

from mlxport.atlas.mends import vlm_copies, vlm_padding, vlm_pictures, vlm_sizes, vlm_text

_FOUND = [*vlm_copies.FINDINGS, *vlm_padding.FINDINGS, *vlm_text.FINDINGS, *vlm_pictures.FINDINGS]
FINDINGS = [replace(one, real=vlm_sizes.REAL.get(one.name, ())) for one in _FOUND]
