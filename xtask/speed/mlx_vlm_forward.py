"""One forward pass of mlx-vlm's DeepSeek-OCR in float32 on the CPU: mlx_vlm_forward.py RELEASE INPUTS.safetensors.

RELEASE is a PyTorch release, INPUTS a recording's inputs: what `mlxport parity --mode cumulative` computes, too. The weights are widened as they are
met, as record_mlx.py does it (MLX multiplies no bfloat16 experts on a CPU). Prints seconds, reading and widening included, and peak memory.
"""
import json, pathlib, resource, runpy, sys, time
import mlx.core as mx
from mlx.utils import tree_map

mx.set_default_device(mx.cpu)
script = pathlib.Path(__file__).resolve().parents[2] / "fixtures/capture/scripts/mlx_vlm_deepseek_ocr.py"
port = runpy.run_path(str(script), {"SETTINGS": {"release": sys.argv[1], "inputs": sys.argv[2]}})
begun = time.perf_counter()
model, fed = port["model"](), port["inputs"]()
model = model[0] if isinstance(model, tuple) else model
model.eval()
model.update(tree_map(lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x, model.parameters()))
pixels = [fed[name].astype(mx.float32) for name in ("images_crop", "images_ori")]
out = model(fed["input_ids"], pixel_values=pixels, images_spatial_crop=fed["images_spatial_crop"], images_seq_mask=fed["images_seq_mask"])
mx.eval(out.logits)
seconds = time.perf_counter() - begun
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"seconds": seconds, "peak_bytes": peak, "dtype": str(out.logits.dtype)}))
