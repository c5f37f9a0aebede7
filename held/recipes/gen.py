"""Writes convert/recipes/*.toml from compact descriptions (scratch tool; the files are then read by a person)."""
import ast, json, sys
from pathlib import Path
import types_ as T

OUT = Path("DIR")
TF = json.load(open("DIR"))
MLX = Path("DIR")

def toml(v):
    if isinstance(v, bool): return "true" if v else "false"
    if isinstance(v, str): return json.dumps(v, ensure_ascii=False)
    if isinstance(v, float): 
        r = repr(v)
        return r
    if isinstance(v, int): return str(v)
    if isinstance(v, (list, tuple)): return "[" + ", ".join(toml(x) for x in v) + "]"
    if isinstance(v, dict): return "{ " + ", ".join(f"{k} = {toml(x)}" for k, x in v.items()) + " }"
    raise TypeError(v)

KNOWN = {
 "vocab_size": ("size", "vocab"), "hidden_size": ("size", "hidden"), "intermediate_size": ("size", "ffn"),
 "num_hidden_layers": ("size", "layers"), "num_attention_heads": ("size", "heads"),
 "max_position_embeddings": ("size", None), "rms_norm_eps": ("positive", None), "layer_norm_eps": ("positive", None),
 "norm_eps": ("positive", None), "norm_epsilon": ("positive", None), "layer_norm_epsilon": ("positive", None),
 "tie_word_embeddings": ("flag", "tied"), "moe_intermediate_size": ("size", "moe_ffn"),
 "num_experts": ("size", "experts"), "num_experts_per_tok": ("size", None), "n_routed_experts": ("size", "experts"),
 "num_local_experts": ("size", "experts"), "norm_topk_prob": ("flag", None), "attention_bias": ("flag", "attention_bias"),
 "mlp_bias": ("flag", "mlp_bias"), "sliding_window": ("size_or_null", None), "routed_scaling_factor": ("positive", None),
 "first_k_dense_replace": ("count", "first_moe"), "n_shared_experts": ("size", "shared"), "n_group": ("size", None), "topk_group": ("size", None),
 "kv_lora_rank": ("size", "kv_rank"), "q_lora_rank": ("size_or_null", "q_rank"), "qk_rope_head_dim": ("size", "rope"),
 "qk_nope_head_dim": ("size", "nope"), "v_head_dim": ("size", "value"), "shared_expert_intermediate_size": ("size", "shared_ffn"),
 "logit_scale": ("number", None), "embedding_multiplier": ("number", None), "logits_scaling": ("number", None),
 "residual_multiplier": ("number", None), "attention_multiplier": ("number", None), "query_pre_attn_scalar": ("positive", None),
}

def number(v):
    return float(v) if isinstance(v, float) else v

def fields(t, spec):
    d = {**TF.get(spec.defaults or t, {}), **spec.tf}
    out = []
    for name in spec.fields:
        if isinstance(name, dict):
            out.append(name); continue
        if isinstance(name, str) and " " in name:
            out.append(name); continue
        if name is None:
            out.append(None); continue
        if name == "rope_theta":
            theta = d["rope_parameters"]["rope_theta"] if "rope_theta" in d.get("rope_parameters", {}) else d["rope_parameters"]["full_attention"]["rope_theta"]
            out.append({"path": "rope_theta", "also": ["rope_parameters.rope_theta"], "kind": "positive", "default": float(theta)}); continue
        if name == "rope_scaling":
            out.append({"path": "rope_scaling", "also": ["rope_parameters"], "kind": "any"}); continue
        if name == "rope_plain":
            out.append({"path": "rope_parameters.rope_type", "kind": "any", "only": ["default"], "why": spec.port + "'s model does not scale rotary positions"})
            out.append({"path": "rope_scaling", "kind": "null", "why": spec.port + "'s model does not scale rotary positions", "check": True}); continue
        if name == "partial_rotary_factor":
            out.append({"path": name, "also": ["rope_parameters.partial_rotary_factor"], "kind": "positive", "default": float(d["rope_parameters"]["partial_rotary_factor"])}); continue
        if name == "num_key_value_heads":
            f = {"path": name, "kind": "size_or_null", "dim": "kv_heads"}
            if TF.get(t, {}).get("kv_default") or spec.kv_default: f["default"] = d[name]
            f["null_means"] = "heads"; out.append(f); continue
        if name == "head_dim":
            f = {"path": name, "kind": "size_or_null", "dim": "head_dim"}
            if spec.head_default: f["default"] = d[name]
            f["null_means"] = "hidden / heads"; out.append(f); continue
        if name in ("hidden_act", "hidden_activation"):
            f = {"path": name, "kind": "text", "default": d[name], "only": [d[name], *spec.acts], "why": spec.port + "'s model has this activation"}
            out.append(f); continue
        if name in KNOWN:
            kind, dim = KNOWN[name]
        else:
            v = d[name]
            kind, dim = ("flag", None) if isinstance(v, bool) else ("text", None) if isinstance(v, str) else ("positive", None) if isinstance(v, float) else ("size", None) if isinstance(v, int) else ("any", None)
        f = {"path": name, "kind": kind}
        if dim: f["dim"] = dim
        if name in d and d[name] is not None: f["default"] = d[name] if kind not in ("positive", "number") else float(d[name])
        out.append(f)
    return out

def emit(name, spec):
    fs = fields(name, spec)
    L = [f"# {line}".rstrip() for line in spec.head.strip().splitlines()] + ["", "schema = 1", f"name = {toml(spec.name)}", f"description = {toml(spec.head.strip().splitlines()[0].split(', from transformers')[0] + ': transformers to ' + spec.port)}", f"layouts = {toml(spec.layouts)}",
         f"fits = {toml({'model_type': spec.types, **({'architectures': spec.archs} if spec.archs else {})})}"]
    if spec.dims:
        L += ["", "dims = ["] + [f"  {toml({'name': n, 'is': e})}," for n, e in spec.dims] + ["]"]
    if spec.require:
        L += ["", "require = ["] + [f"  {toml(r)}," for r in spec.require] + ["]"]
    L += ["", "[config]"]
    if spec.write: L += [f"write = {toml(spec.write)}"]
    if spec.drop: L += [f"drop = {toml(spec.drop)}"]
    L += ["fields = ["]
    for f in fs:
        if f is None: L.append(""); continue
        if isinstance(f, str): L.append(f"  # {f}"); continue
        f = {k: v for k, v in f.items() if k != "check"}
        c = f.pop("#", None)
        if c: L.append(f"  # {c}")
        L.append(f"  {toml(f)},")
    L += ["]", "", "[indices]"] + [f"{n} = {toml(v)}" for n, v in spec.indices.items()]
    if spec.quant:
        L += ["", "[quantize]", "can = [" + ", ".join(toml(x) for x in spec.quant[0]) + "]", "rules = ["]
        L += [f"  {toml(r)}," for r in spec.quant[1]] + ["]"]
    L += ["", "[table]", "rows = ["]
    for r in spec.rows:
        if isinstance(r, str):
            if L[-1] != "rows = [": L.append("")
            L.append(f"  # {r}"); continue
        L.append(f"  {toml(r)},")
    L += ["]", ""]
    (OUT / f"{spec.name}.toml").write_text("\n".join(L))

if __name__ == "__main__":
    only = sys.argv[1:]
    for name, spec in T.ALL.items():
        if only and name not in only: continue
        emit(name, spec)
    print(len(T.ALL))
