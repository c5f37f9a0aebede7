"""The released PyTorch code's speed: torch_speed.py CODE_DIR RELEASE_DIR cuda|cpu eager|sdpa [STEPS]. Needs torch and transformers 4.46.3.

`eager` is what the release does by itself (its images encoders call SDPA either way); `sdpa` puts transformers' LlamaSdpaAttention in the decoder.
"""
import importlib, sys, types, json, pathlib
import torch
from common import Results, decode_rate, median, picture, prompt

code, release, device, attention = sys.argv[1:5]
steps = int(sys.argv[5]) if len(sys.argv) > 5 else 64
package = types.ModuleType("released"); package.__path__ = [code]; sys.modules["released"] = package
v2 = importlib.import_module("released.modeling_deepseekv2")
if attention == "sdpa":
    from transformers.models.llama.modeling_llama import LlamaSdpaAttention
    v2.ATTENTION_CLASSES["mha_eager"] = LlamaSdpaAttention
ocr = importlib.import_module("released.modeling_deepseekocr")
config = ocr.DeepseekOCRConfig(**json.loads((pathlib.Path(release) / "config.json").read_text()))
config._attn_implementation = "eager"
with torch.device(device):
    torch.set_default_dtype(torch.bfloat16)
    model = ocr.DeepseekOCRForCausalLM(config)
torch.set_default_dtype(torch.float32)
from safetensors.torch import load_file
for path in sorted(pathlib.Path(release).glob("*.safetensors")):
    model.load_state_dict(load_file(str(path), device=device), strict=False)
model.eval()
sync = torch.cuda.synchronize if device == "cuda" else lambda: None
repeats = 5 if device == "cuda" else 1
results = Results()
zeros = [(torch.zeros(1, 3, 8, 8, device=device), torch.zeros(1, 3, 8, 8, device=device))]
inner = model.model


@torch.inference_mode()
def vision():
    whole, tiles = (torch.from_numpy(x.copy()).to(device, torch.bfloat16) for x in picture())
    def run():
        for view in (tiles, whole):
            sam = inner.sam_model(view)
            clip = inner.vision_model(view, sam)
            inner.projector(torch.cat((clip[:, 1:], sam.flatten(2).permute(0, 2, 1)), dim=-1))
        sync()
    return median(repeats, run)


@torch.inference_mode()
def forward(ids, past=None):
    out = model(input_ids=ids, past_key_values=past, use_cache=True, images=zeros, images_spatial_crop=torch.zeros(1, 2, dtype=torch.long))
    return out.logits[:, -1], out.past_key_values


def ids_of(batch):
    return torch.tensor([prompt(number) for number in range(batch)], device=device)


def prefill():
    forward(ids_of(1)); sync()


results.put("vision_s", vision())
results.put("prefill_s", median(repeats, prefill))
for batch in (1, 8, 32) if device == "cuda" else (1,):
    logits, past = forward(ids_of(batch))
    def run(count):
        global logits, past
        for _ in range(count):
            logits, past = forward(logits.argmax(-1, keepdim=True), past)
            logits.argmax(-1).tolist()
    results.put(f"decode_{batch}_tokens_per_s", decode_rate(batch, steps, run))
if device == "cuda":
    results.put("peak_bytes", float(torch.cuda.max_memory_allocated()))
results.show()
