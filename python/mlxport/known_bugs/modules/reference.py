"""PyTorch's side of single modules: what a vocoder does at its end, and how it widens sequences."""

from __future__ import annotations

import torch


class InverseTransform(torch.nn.Module):
    """Magnitudes and angles of frames [batch, frequencies, frames] to sound [batch, samples]."""

    def __init__(self) -> None:
        super().__init__()
        self.window = torch.nn.Buffer(torch.hann_window(20, periodic=True), persistent=False)

    @staticmethod
    def inputs(seed: int) -> dict[str, torch.Tensor]:
        """13 frames of 11 frequencies."""
        drawn = torch.Generator().manual_seed(seed)
        sound = torch.randn(2, 60, generator=drawn)
        window = torch.hann_window(20, periodic=True)
        made = torch.stft(sound, 20, 5, 20, window=window, return_complex=True)
        return {"magnitude": made.abs(), "phase": made.angle()}

    def forward(self, magnitude: torch.Tensor, phase: torch.Tensor) -> torch.Tensor:
        """The sound."""
        made = torch.complex(magnitude * torch.cos(phase), magnitude * torch.sin(phase))
        return torch.istft(made, 20, 5, 20, window=self.window.to(magnitude.dtype))


class Widened(torch.nn.Module):
    """A sequence [batch, channels, length] to three times its length."""

    @staticmethod
    def inputs(seed: int) -> dict[str, torch.Tensor]:
        """7 places of 4 channels."""
        return {"x": torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(seed))}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Between places by straight lines."""
        return torch.nn.functional.interpolate(x, size=21, mode="linear", align_corners=False)
