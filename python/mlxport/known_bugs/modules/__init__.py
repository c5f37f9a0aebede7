"""Modules that are checked by themselves, where transformers has no model around them: PyTorch's side, and the port's in a frame."""
