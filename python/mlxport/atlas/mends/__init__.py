"""The causes that a person read out of the atlas's failures, each proved by a few lines with which the types pass; a page each."""

from mlxport.atlas.mends import lm, vlm

FINDINGS = [*lm.FINDINGS, *vlm.FINDINGS]
