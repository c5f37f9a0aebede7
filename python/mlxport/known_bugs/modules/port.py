"""mlx-audio's side of single modules, in a frame that makes them classes of their own."""

from __future__ import annotations

import importlib
from typing import Any

import mlx.core as mx
import mlx.nn as nn


class InverseTransform(nn.Module):
    """The end of Kokoro's and KittenTTS's vocoder."""

    def __init__(self, _config: Any) -> None:
        super().__init__()
        # An extra package: where it is not installed, the type checker cannot resolve a plain import.
        vocoder: Any = importlib.import_module("mlx_audio.tts.models.kitten_tts.istftnet")
        self._transform = vocoder.MLXSTFT(filter_length=20, hop_length=5, win_length=20)

    def __call__(self, magnitude: mx.array, phase: mx.array) -> mx.array:
        """The sound."""
        return self._transform.inverse(magnitude, phase).reshape(magnitude.shape[0], -1)


class Widened(nn.Module):
    """How its vocoders widen sequences."""

    def __init__(self, _config: Any) -> None:
        super().__init__()
        self._widen = importlib.import_module("mlx_audio.tts.models.interpolate").interpolate1d

    def __call__(self, x: mx.array) -> mx.array:
        """Between places by straight lines."""
        return self._widen(x, 21, mode="linear", align_corners=False)
