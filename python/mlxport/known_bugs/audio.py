"""Bugs of mlx-audio."""

from __future__ import annotations

from mlxport.known_bugs.bug import Bug

_NO_REFERENCE = "transformers has no such model: there is no PyTorch side that `check` could run"

BUGS = [
    Bug(
        "aud-granite-pointwise",
        "mlx-audio PR #715",
        "mlx-audio",
        "granite_speech",
        "pointwise convolutions are turned only where their last axis is the longer one",
        "load",
        ("up_conv", "down_conv"),
        {
            "stt/models/granite_speech/granite_speech.py": [
                (
                    "                if (depthwise and v.shape[1] == 1) or (\n                    not depthwise and v.shape[2] == 1\n                ):",
                    "                if v.shape[-1] > v.shape[-2]:",
                )
            ]
        },
    ),
    Bug(
        "aud-kokoro-istft",
        "mlx-audio PR #859",
        "mlx-audio",
        "kokoro",
        "the inverse transform is normalized by the sum of windows, not of their squares",
        "prefill",
        # The module is all that is checked.
        ("logits",),
        {
            "tts/models/kitten_tts/istftnet.py": [
                (
                    "                length=None,\n                normalized=True,\n",
                    "                length=None,\n                normalized=False,\n",
                )
            ]
        },
        module_class="InverseTransform",
    ),
    Bug(
        "aud-interp1d",
        "mlx-audio PR #859",
        "mlx-audio",
        "kokoro",
        "a source place below zero takes the last element",
        "prefill",
        ("logits",),
        {"tts/models/interpolate.py": [("                x = mx.maximum(x, 0.0)\n", "")]},
        module_class="Widened",
    ),
    Bug(
        "aud-s3gen-dropped",
        "mlx-audio 3a8f049b",
        "mlx-audio",
        "chatterbox",
        "190 weights are dropped in loading and stay random",
        "load",
        ("encoders",),
        unseen=_NO_REFERENCE,
    ),
]
