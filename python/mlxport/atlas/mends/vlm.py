"""What is wrong in mlx-vlm's models."""

from __future__ import annotations

from mlxport.atlas.mends.finding import Finding

FINDINGS: list[Finding] = []
