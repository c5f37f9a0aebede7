"""What the device allows, for the pictures and prompts of common.py: limits.py cuda. Needs torch.

Measures memory bandwidth (a large tensor read once) and the rate of bfloat16 products, and divides by them the bytes a decoding step must read
(each active weight once, the cache once) and the products a picture needs. Shapes are the release's.
"""
import json, sys, time
import torch
from common import PROMPT_TOKENS

HIDDEN, LAYERS, EXPERTS, CHOSEN, INNER, SHARED, DENSE, VOCABULARY = 1280, 12, 64, 6, 896, 2, 6848, 129_280


def best(run, repeats=20):
    run(); torch.cuda.synchronize()
    seconds = []
    for _ in range(repeats):
        begun = time.perf_counter()
        run(); torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return min(seconds)


def step_bytes(batch, seen):
    """Bytes in bfloat16 that one step of `batch` texts of `seen` tokens reads: experts as often as chance has some text choose them."""
    met = EXPERTS * (1 - (1 - CHOSEN / EXPERTS) ** batch)
    attention = 4 * HIDDEN * HIDDEN
    mixture = 3 * HIDDEN * INNER * (met + SHARED) + 2 * EXPERTS * HIDDEN
    weights = LAYERS * attention + 3 * HIDDEN * DENSE + (LAYERS - 1) * mixture + HIDDEN * VOCABULARY
    return 2 * (weights + batch * seen * LAYERS * 2 * HIDDEN)


def vision_flops():
    """Products of SAM ViT-B, its two last convolutions, CLIP-L and the projector on 1024² and six tiles of 640²."""
    def view(edge):
        grid = edge // 16
        tokens, down = grid * grid, (grid // 4) ** 2
        sam = 12 * (12 * 768 ** 2 * tokens)
        padded = -(-grid // 14) * 14
        sam += 8 * 2 * 768 * 14 * 14 * padded * padded + 4 * 2 * 768 * tokens * tokens
        neck = 768 * 256 * tokens + 9 * 256 * 256 * tokens + 9 * 256 * 512 * tokens // 4 + 9 * 512 * 1024 * down
        clip = 24 * (12 * 1024 ** 2 * (down + 1) + 2 * 1024 * (down + 1) ** 2)
        return 2 * (3 * 256 * 768 * tokens + sam + neck + clip + 2048 * HIDDEN * down)
    return view(1024) + 6 * view(640)


tensor = torch.zeros(1 << 32, dtype=torch.uint8, device="cuda").view(torch.float32)
bandwidth = tensor.numel() * 4 / best(lambda: tensor.sum())
a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
rate = 2 * 8192 ** 3 / best(lambda: a @ b)
limits = {"bandwidth_bytes_per_s": bandwidth, "bfloat16_flop_per_s": rate, "vision_flop": vision_flops(), "vision_s": vision_flops() / rate}
for batch in (1, 8, 32):
    limits[f"decode_{batch}_bytes"] = step_bytes(batch, PROMPT_TOKENS + 96)
    limits[f"decode_{batch}_tokens_per_s"] = batch * bandwidth / limits[f"decode_{batch}_bytes"]
print(json.dumps(limits), file=sys.stdout)
