"""Built-in recipes, each held against the converters of mlx-lm and mlx-vlm on small random models."""
