"""mlx-vlm's speed on a directory that `mlxport convert` wrote: mlx_vlm_speed.py MODEL_DIR cpu|gpu [STEPS].

Only its model code is imported: decoding is the loop that its generator runs (next step begun before the last token is read).
"""
import importlib, importlib.util, json, pathlib, sys, types
import mlx.core as mx
import mlx.nn as nn
from common import Results, decode_rate, median, picture, prompt

directory, device = sys.argv[1:3]
steps = int(sys.argv[3]) if len(sys.argv) > 3 else 128
mx.set_default_device(mx.cpu if device == "cpu" else mx.gpu)
# The package's own __init__ wants libraries for audio and serving.
root = pathlib.Path(importlib.util.find_spec("mlx_vlm").submodule_search_locations[0])
for name, path in (("mlx_vlm", root), ("mlx_vlm.models", root / "models")):
    package = types.ModuleType(name); package.__path__ = [str(path)]; sys.modules[name] = package
for name in ("processing_deepseekocr",):
    stub = types.ModuleType(f"mlx_vlm.models.deepseekocr.{name}"); sys.modules[stub.__name__] = stub
    stub.__getattr__ = lambda _: object
ds = importlib.import_module("mlx_vlm.models.deepseekocr")
cache_of = importlib.import_module("mlx_vlm.models.cache")
config = json.loads((pathlib.Path(directory) / "config.json").read_text())
model_config = ds.ModelConfig.from_dict(config)
for field, kind in (("text_config", ds.TextConfig), ("vision_config", ds.VisionConfig), ("projector_config", ds.ProjectorConfig)):
    value = config.get(field, config.get("language_config") if field == "text_config" else None)
    if isinstance(value, dict):
        setattr(model_config, field, kind.from_dict(value))
model = ds.Model(model_config)
weights = {}
for path in sorted(pathlib.Path(directory).glob("*.safetensors")):
    weights.update(mx.load(str(path)))
if "quantization" in config:
    q = config["quantization"]
    nn.quantize(model, group_size=q["group_size"], bits=q["bits"], class_predicate=lambda path, module: hasattr(module, "to_quantized") and f"{path}.scales" in weights)
model.load_weights(list(weights.items()), strict=True)
model.eval(); mx.eval(model.parameters())
language, results = model.language_model, Results()
repeats = 7 if device == "gpu" else 3
new_cache = lambda: [cache_of.KVCache() for _ in language.model.layers]


def vision():
    whole, tiles = (mx.array(x.copy()).astype(mx.bfloat16) for x in picture())
    ids = mx.zeros((1, 903), mx.int32)
    def run():
        out = model.get_input_embeddings(ids, (tiles, whole), mx.array([[2, 3]]), mx.ones((1, 903), mx.bool_))
        mx.eval(getattr(out, "inputs_embeds", out))
    return median(repeats, run)


def forward(ids, cache):
    return language(ids, cache=cache).logits[:, -1]


def prefill():
    mx.eval(forward(mx.array([prompt(0)]), new_cache()))


if device == "gpu":
    results.put("vision_s", vision())
results.put("prefill_s", median(repeats, prefill))
for batch in (1, 8, 32) if device == "gpu" else (1,):
    cache = new_cache()
    chosen = mx.argmax(forward(mx.array([prompt(number) for number in range(batch)]), cache), axis=-1)
    mx.async_eval(chosen)
    def run(count):
        global chosen
        for _ in range(count):
            next_one = mx.argmax(forward(chosen[:, None], cache), axis=-1)
            mx.async_eval(next_one)
            chosen.tolist()
            chosen = next_one
    results.put(f"decode_{batch}_tokens_per_s", decode_rate(batch, steps, run))
results.put("peak_bytes", float(mx.get_peak_memory()))
results.show()
