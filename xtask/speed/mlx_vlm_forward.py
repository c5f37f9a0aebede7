"""One forward pass of mlx-vlm's DeepSeek-OCR in float32 on the CPU: mlx_vlm_forward.py RELEASE INPUTS.safetensors.

RELEASE is a PyTorch release, INPUTS a recording's inputs: what `mlxport parity --mode cumulative` computes, too. Prints seconds and peak memory;
loading is counted apart.
"""
import json, pathlib, resource, runpy, sys, time
import mlx.core as mx

mx.set_default_device(mx.cpu)
script = pathlib.Path(__file__).resolve().parents[2] / "fixtures/capture/scripts/mlx_vlm_deepseek_ocr.py"
port = runpy.run_path(str(script), {"SETTINGS": {"release": sys.argv[1], "inputs": sys.argv[2]}})
begun = time.perf_counter()
model, fed = port["model"](), port["inputs"]()
model = model[0] if isinstance(model, tuple) else model
model.eval(); mx.eval(model.parameters(), fed)
loaded = time.perf_counter()
pixels = [fed[name].astype(mx.float32) for name in ("images_crop", "images_ori")]
out = model(fed["input_ids"], pixel_values=pixels, images_spatial_crop=fed["images_spatial_crop"], images_seq_mask=fed["images_seq_mask"])
mx.eval(out.logits)
done = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps({"load_s": loaded - begun, "forward_s": done - loaded, "peak_bytes": peak, "dtype": str(out.logits.dtype)}))
