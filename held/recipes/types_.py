from dataclasses import dataclass, field
from typing import Any

L = "model.layers.{layer}."
ALL: dict[str, Any] = {}

@dataclass
class Spec:
    name: str
    types: list
    archs: list
    head: str
    fields: list
    rows: list
    dims: list = field(default_factory=list)
    require: list = field(default_factory=list)
    indices: dict = field(default_factory=dict)
    quant: Any = None
    layouts: list = field(default_factory=lambda: ["mlx-lm"])
    port: str = "mlx-lm"
    defaults: str = ""
    tf: dict = field(default_factory=dict)
    acts: list = field(default_factory=list)
    kv_default: bool = False
    head_default: bool = False
    write: str = ""
    drop: list = field(default_factory=list)

def r(frm, shape, to=None, **kw):
    row = {"from": frm}
    if shape is not None: row["shape"] = shape
    for k in ("dtype", "when", "optional", "op", "over", "view", "axis", "sizes", "order", "result"):
        if k in kw: row[k] = kw.pop(k)
    if row.get("op") != "drop": row["to"] = to if to is not None else frm
    row.update(kw)
    return row

def drop(frm, reason, **kw):
    return r(frm, None, optional=True, op="drop", reason=reason, **kw)

def head(vocab="vocab", emb="model.embed_tokens", hidden="hidden", lm="lm_head", to_emb=None, to_lm=None):
    te, tl = to_emb or emb, to_lm or lm
    return [
        r(f"{emb}.weight", [vocab, hidden], f"{te}.weight"),
        r(f"{lm}.weight", [vocab, hidden], f"{tl}.weight", when="!tied"),
        tied_head(vocab, emb, hidden, lm),
    ]

def tied_head(vocab="vocab", emb="model.embed_tokens", hidden="hidden", lm="lm_head", when="tied"):
    row = r(f"{lm}.weight", [vocab, hidden], **({"when": when} if when else {}), optional=True, op="drop", reason="tied")
    row["same_as"] = f"{emb}.weight"
    return row

def norms(*names, p=L, dim="hidden", bias=False, to=None):
    out = []
    for n in names:
        out.append(r(f"{p}{n}.weight", [dim], f"{(to or p)}{n}.weight"))
        if bias: out.append(r(f"{p}{n}.bias", [dim], f"{(to or p)}{n}.bias", **({"when": bias} if isinstance(bias, str) else {})))
    return out

def lin(name, out, inp, bias=None, to=None, **kw):
    to = to or name
    rows = [r(f"{name}.weight", [out, inp], f"{to}.weight", **kw)]
    if bias: rows.append(r(f"{name}.bias", [out], f"{to}.bias", **({"when": bias} if isinstance(bias, str) else {})))
    return rows

def attn(p=L + "self_attn.", bias=None, obias="same", q="q_width", kv="kv_width", hidden="hidden", o="o_proj", to=None, to_o=None):
    to = to or p
    obias = bias if obias == "same" else obias
    return (lin(p + "q_proj", q, hidden, bias, to + "q_proj") + lin(p + "k_proj", kv, hidden, bias, to + "k_proj") + lin(p + "v_proj", kv, hidden, bias, to + "v_proj")
            + lin(p + o, hidden, q, obias, to + (to_o or o)))

def mlp(p=L + "mlp.", ffn="ffn", bias=None, hidden="hidden", to=None):
    to = to or p
    return lin(p + "gate_proj", ffn, hidden, bias, to + "gate_proj") + lin(p + "up_proj", ffn, hidden, bias, to + "up_proj") + lin(p + "down_proj", hidden, ffn, bias, to + "down_proj")

def experts(p=L + "mlp.experts.{expert}.", to=L + "mlp.switch_mlp.", ffn="moe_ffn", hidden="hidden", names=("gate_proj", "up_proj", "down_proj")):
    out = []
    for src, dst in zip(names, ("gate_proj", "up_proj", "down_proj")):
        shape = [hidden, ffn] if dst == "down_proj" else [ffn, hidden]
        out.append(r(f"{p}{src}.weight", shape, f"{to}{dst}.weight", op="stack", over="expert"))
    return out

INV = drop(L + "self_attn.rotary_emb.inv_freq", "rotary frequencies are computed")
QW = [("q_width", "heads * head_dim"), ("kv_width", "kv_heads * head_dim")]
HD = [("head_dim", "hidden / heads")]
GQA = [{"check": "heads % kv_heads == 0", "why": "each key-value head serves the same number of heads"}]
DIV = [{"check": "hidden % heads == 0", "why": "heads divide the width"}]
LAYER = {"layer": {"count": "layers"}}
MOE = {"layer": {"count": "layers"}, "expert": {"count": "experts"}}

def q(*can, rules=None):
    return (list(can), (rules or []) + [{"match": list(can)}])
ATT = "model.layers.*.self_attn.*_proj"
MLPQ = "model.layers.*.mlp.*_proj"
EMB = ["model.embed_tokens", "lm_head"]
STD = q(*EMB, ATT, MLPQ)
MOEQ = q(*EMB, ATT, "model.layers.*.mlp.gate", "model.layers.*.mlp.switch_mlp.*_proj")
SIZES = ["vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"]
ROPE_NOTE = "transformers 5 keeps it under rope_parameters, where mlx-lm does not look"

def no(path, kind, value, why, **kw):
    return {"path": path, "kind": kind, "default": value, "only": [value], "why": why, **kw}

def add(name, **kw):
    kw.setdefault("name", name.replace("_", "-"))
    kw.setdefault("types", [name])
    ALL[name] = Spec(**kw)

def says(title, mlx, tf=None, more=""):
    """The file's opening comment."""
    return (f"{title}, from transformers' checkpoint to what mlx-lm loads strictly.\n\n"
            f"Answers to transformers' {tf} and to mlx_lm/models/{mlx}.py" + ("." if not more else f":\n{more}"))

# ---------------------------------------------------------------- Llama's kind
LLAMA_ROWS = [*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
              "Attention", *attn(bias="attention_bias"), "MLP", *mlp(bias="mlp_bias"), INV]
add("llama", archs=["LlamaForCausalLM"], head=says("Llama", "llama", "modeling_llama.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"],
    rows=LLAMA_ROWS)
add("mistral", archs=["MistralForCausalLM"],
    head=says("Mistral", "llama", "modeling_mistral.py", "which attends to everything before: past `sliding_window` its numbers are not PyTorch's. Most releases have no window."),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention", *attn(), "MLP", *mlp(), INV])
add("qwen2", archs=["Qwen2ForCausalLM"], head=says("Qwen2 and Qwen2.5", "qwen2", "modeling_qwen2.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=STD, kv_default=True,
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "hidden_act",
            no("use_sliding_window", "flag", False, "mlx-lm's model has full attention")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention: biases on query, key and value alone", *attn(bias=True, obias=None, q="hidden"), "MLP", *mlp(), INV])
QK = norms("self_attn.q_norm", "self_attn.k_norm", dim="head_dim")
add("qwen3", archs=["Qwen3ForCausalLM"], head=says("Qwen3", "qwen3", "modeling_qwen3.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "hidden_act",
            no("attention_bias", "flag", False, "mlx-lm's model has no biases"), no("use_sliding_window", "flag", False, "mlx-lm's model has full attention")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention", *attn(), *QK, "MLP", *mlp()])
add("qwen3_moe", archs=["Qwen3MoeForCausalLM"], head=says("Qwen3-MoE", "qwen3_moe", "modeling_qwen3_moe.py"),
    dims=QW, require=GQA, kv_default=True,
    indices={"layer": {"count": "layers"}, "expert": {"count": "experts"},
             "dense": {"count": "layers", "where": "i in mlp_only || (i + 1) % step != 0", "may_be_empty": True},
             "moe": {"count": "layers", "where": "!(i in mlp_only) && (i + 1) % step == 0", "may_be_empty": True}},
    quant=q(*EMB, ATT, MLPQ, "model.layers.*.mlp.gate", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*SIZES, "head_dim", "moe_intermediate_size",
            {"path": "num_experts", "also": ["num_local_experts"], "kind": "size", "dim": "experts", "default": 128},
            "num_experts_per_tok",
            {"path": "decoder_sparse_step", "kind": "size", "dim": "step", "default": 1},
            {"path": "mlp_only_layers", "kind": "counts", "dim": "mlp_only", "default": []},
            "norm_topk_prob", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "hidden_act",
            no("attention_bias", "flag", False, "mlx-lm's model has no biases"), no("use_sliding_window", "flag", False, "mlx-lm's model has full attention")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention", *attn(), *QK, "Dense layers", *mlp("model.layers.{dense}.mlp."),
          "Experts: one tensor each becomes one bank", r("model.layers.{moe}.mlp.gate.weight", ["experts", "hidden"]),
          *experts("model.layers.{moe}.mlp.experts.{expert}.", "model.layers.{moe}.mlp.switch_mlp.")])
add("qwen2_moe", archs=["Qwen2MoeForCausalLM"],
    head=says("Qwen2-MoE", "qwen2_moe", "modeling_qwen2_moe.py", "which has experts in every layer, biases on query, key and value alone, and does not renormalize the chosen experts' weights."),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=MOE, kv_default=True,
    quant=q(*EMB, ATT, "model.layers.*.mlp.gate", "model.layers.*.mlp.shared_expert_gate", "model.layers.*.mlp.shared_expert.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*SIZES, "moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "num_experts_per_tok",
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", "hidden_act",
            "What mlx-lm's model does not do must not be asked for.",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own"),
            no("decoder_sparse_step", "size", 1, "mlx-lm's model has experts in every layer"),
            no("mlp_only_layers", "counts", [], "mlx-lm's model has experts in every layer") | {"only": [[]]},
            no("norm_topk_prob", "flag", False, "mlx-lm's model does not renormalize"),
            no("use_sliding_window", "flag", False, "mlx-lm's model has full attention"),
            no("qkv_bias", "flag", True, "mlx-lm's model has these biases")],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), r("model.norm.weight", ["hidden"]),
          *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias=True, obias=None, q="hidden"),
          "Experts: one tensor each becomes one bank", r(L + "mlp.gate.weight", ["experts", "hidden"]), *experts(),
          "The shared expert and its gate", *mlp(L + "mlp.shared_expert.", "shared_ffn"), r(L + "mlp.shared_expert_gate.weight", [1, "hidden"])])
# ---------------------------------------------------------------- Gemma
TIED = {"path": "tie_word_embeddings", "kind": "flag", "default": True, "only": [True], "why": "mlx-lm's model has no head of its own"}
GEMMA_HEAD = [r("model.embed_tokens.weight", ["vocab", "hidden"]), tied_head(when=None)]
add("gemma", archs=["GemmaForCausalLM"],
    head=says("Gemma", "gemma", "modeling_gemma.py", "which takes the exact GELU where PyTorch takes its tanh form."),
    dims=QW, require=GQA, indices=LAYER, quant=q("model.embed_tokens", ATT, MLPQ), kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", TIED,
            no("attention_bias", "flag", False, "mlx-lm's model has no biases")],
    rows=[*GEMMA_HEAD, r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(), "MLP", *mlp(), INV])
add("gemma2", archs=["Gemma2ForCausalLM"],
    head=says("Gemma 2", "gemma2", "modeling_gemma2.py", "which attends to everything before in every layer: past `sliding_window` its numbers are not PyTorch's."),
    dims=QW, require=GQA, indices=LAYER, quant=q("model.embed_tokens", ATT, MLPQ), kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", TIED, "query_pre_attn_scalar",
            "attn_logit_softcapping", "final_logit_softcapping", "hidden_activation",
            no("attention_bias", "flag", False, "mlx-lm's model has no biases")],
    rows=[*GEMMA_HEAD, r("model.norm.weight", ["hidden"]),
          *norms("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"), "Attention", *attn(), "MLP", *mlp(), INV])
GEMMA3_FIELDS = [*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "query_pre_attn_scalar",
            {"path": "rope_theta", "also": ["rope_parameters.full_attention.rope_theta"], "kind": "positive", "default": 1000000.0},
            {"path": "rope_local_base_freq", "also": ["rope_parameters.sliding_attention.rope_theta"], "kind": "positive", "default": 10000.0},
            "sliding_window",
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["sliding_attention", "full_attention"], "#": "mlx-lm counts layers, transformers names them."},
            {"path": "sliding_window_pattern", "also": ["_sliding_window_pattern"], "kind": "size", "dim": "pattern", "default": "index_of(types, 1) + 1"},
            "hidden_activation", no("attention_bias", "flag", False, "mlx-lm's model has no biases"),
            {"path": "attn_logit_softcapping", "kind": "null", "why": "mlx-lm's model has no soft caps"},
            {"path": "final_logit_softcapping", "kind": "null", "why": "mlx-lm's model has no soft caps"}]
# ---------------------------------------------------------------- joined projections
add("phi3", archs=["Phi3ForCausalLM"], head=says("Phi-3", "phi3", "modeling_phi3.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", {"path": "original_max_position_embeddings", "kind": "size", "default": 4096}, "rms_norm_eps", "rope_theta", "partial_rotary_factor", "rope_plain",
            "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Query, key and value are one matrix, gate and up another", *lin(L + "self_attn.qkv_proj", "q_width + 2 * kv_width", "hidden"), *lin(L + "self_attn.o_proj", "hidden", "q_width"),
          *lin(L + "mlp.gate_up_proj", "2 * ffn", "hidden"), *lin(L + "mlp.down_proj", "hidden", "ffn"), INV])
add("glm4", archs=["Glm4ForCausalLM"], head=says("GLM-4 (0414)", "glm4", "modeling_glm4.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "partial_rotary_factor", "rope_plain", "attention_bias", "hidden_act",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own")],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), r("model.norm.weight", ["hidden"]),
          *norms("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm"),
          "Attention", *attn(bias="attention_bias", obias=None), "Gate and up are one matrix", *lin(L + "mlp.gate_up_proj", "2 * ffn", "hidden"), *lin(L + "mlp.down_proj", "hidden", "ffn"), INV])
add("glm", archs=["GlmForCausalLM"],
    head=says("GLM-4 (9B, 2024)", "glm", "modeling_glm.py", "which rotates the whole head, PyTorch `partial_rotary_factor` of it."),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", "attention_bias", "hidden_act", "tie_word_embeddings"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention", *attn(bias="attention_bias", obias=None), "Gate and up are one matrix", *lin(L + "mlp.gate_up_proj", "2 * ffn", "hidden"), *lin(L + "mlp.down_proj", "hidden", "ffn"), INV])
# ---------------------------------------------------------------- GPT-2's kind
GH = "h.{layer}."
def conv1d(name, i, o, to):
    return [r(f"{name}.weight", [i, o], f"{to}.weight", op="transpose"), r(f"{name}.bias", [o], f"{to}.bias")]
add("gpt2", archs=["GPT2LMHeadModel"],
    head=says("GPT-2", "gpt2", "modeling_gpt2.py", "The release's matrices are [in, out], MLX's [out, in]. Releases have no prefix; what transformers saves has `transformer.`, which comes off by itself."),
    indices=LAYER, quant=q("model.wte", "model.wpe", "model.h.*.attn.*", "model.h.*.mlp.*"),
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 50257}, {"path": "n_positions", "kind": "size", "dim": "positions", "default": 1024},
            {"path": "n_ctx", "kind": "size", "default": "positions", "#": "transformers 5 writes no n_ctx; mlx-lm does not load without."},
            {"path": "n_embd", "kind": "size", "dim": "width", "default": 768}, {"path": "n_layer", "kind": "size", "dim": "layers", "default": 12}, {"path": "n_head", "kind": "size", "default": 12},
            {"path": "n_inner", "kind": "size_or_null", "dim": "ffn", "null_means": "4 * width"},
            "layer_norm_epsilon", no("activation_function", "text", "gelu_new", "mlx-lm's model has this activation") | {"only": ["gelu_new", "gelu_pytorch_tanh", "gelu_fast"]},
            {"path": "tie_word_embeddings", "kind": "flag", "default": True, "only": [True], "why": "mlx-lm's model has no head of its own"},
            no("scale_attn_weights", "flag", True, "mlx-lm's model scales them"), no("scale_attn_by_inverse_layer_idx", "flag", False, "mlx-lm's model does not")],
    rows=[r("wte.weight", ["vocab", "width"], "model.wte.weight"), r("wpe.weight", ["positions", "width"], "model.wpe.weight"),
          {**tied_head(emb="wte", hidden="width", when=None)},
          *norms("ln_1", "ln_2", p=GH, to="model." + GH, dim="width", bias=True), *norms("ln_f", p="", to="model.", dim="width", bias=True),
          "Attention", *conv1d(GH + "attn.c_attn", "width", "3 * width", "model." + GH + "attn.c_attn"), *conv1d(GH + "attn.c_proj", "width", "width", "model." + GH + "attn.c_proj"),
          "MLP", *conv1d(GH + "mlp.c_fc", "width", "ffn", "model." + GH + "mlp.c_fc"), *conv1d(GH + "mlp.c_proj", "ffn", "width", "model." + GH + "mlp.c_proj"),
          "Buffers of old releases", drop(GH + "attn.bias", "the causal mask"), drop(GH + "attn.masked_bias", "the causal mask")])
add("gpt_bigcode", archs=["GPTBigCodeForCausalLM"],
    head=says("GPT-BigCode (StarCoder, SantaCoder)", "gpt_bigcode", "modeling_gpt_bigcode.py", "which takes the exact GELU where PyTorch takes its tanh form."),
    indices=LAYER, quant=q("transformer.wte", "transformer.wpe", "lm_head", "transformer.h.*.attn.*", "transformer.h.*.mlp.*"),
    dims=[("kv_width", "multi_query * (width / heads) + !multi_query * width")], require=[{"check": "width % heads == 0", "why": "heads divide the width"}],
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 50257}, {"path": "n_positions", "kind": "size", "dim": "positions", "default": 1024},
            {"path": "n_embd", "kind": "size", "dim": "width", "default": 768}, {"path": "n_layer", "kind": "size", "dim": "layers", "default": 12}, {"path": "n_head", "kind": "size", "dim": "heads", "default": 12},
            {"path": "n_inner", "kind": "size_or_null", "dim": "ffn", "null_means": "4 * width"},
            {"path": "multi_query", "kind": "flag", "dim": "multi_query", "default": True, "only": [True], "why": "without it PyTorch's joined projection is ordered by head"},
            "layer_norm_epsilon", "tie_word_embeddings", no("scale_attn_weights", "flag", True, "mlx-lm's model scales them")],
    rows=[*head(emb="transformer.wte", hidden="width"), r("transformer.wpe.weight", ["positions", "width"]),
          *norms("ln_1", "ln_2", p="transformer." + GH, dim="width", bias=True), *norms("ln_f", p="transformer.", dim="width", bias=True),
          "Attention", *lin("transformer." + GH + "attn.c_attn", "width + 2 * kv_width", "width", True), *lin("transformer." + GH + "attn.c_proj", "width", "width", True),
          "MLP", *lin("transformer." + GH + "mlp.c_fc", "ffn", "width", True), *lin("transformer." + GH + "mlp.c_proj", "width", "ffn", True),
          drop("transformer." + GH + "attn.bias", "the causal mask"), drop("transformer." + GH + "attn.masked_bias", "the causal mask")])
add("gptj", archs=["GPTJForCausalLM"], head=says("GPT-J", "gptj", "modeling_gptj.py"),
    indices=LAYER, quant=q("model.wte", "lm_head", "model.h.*.attn.*", "model.h.*.mlp.*"),
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 50400}, {"path": "n_positions", "kind": "size", "default": 2048},
            {"path": "n_embd", "kind": "size", "dim": "width", "default": 4096}, {"path": "n_layer", "kind": "size", "dim": "layers", "default": 28}, {"path": "n_head", "kind": "size", "default": 16},
            {"path": "rotary_dim", "kind": "size", "default": 64},
            {"path": "n_inner", "kind": "size_or_null", "dim": "ffn", "null_means": "4 * width"},
            "layer_norm_epsilon", no("activation_function", "text", "gelu_new", "mlx-lm's model has this activation"),
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own")],
    rows=[r("transformer.wte.weight", ["vocab", "width"], "model.wte.weight"), *lin("lm_head", "vocab", "width", True),
          *norms("ln_1", p="transformer." + GH, to="model." + GH, dim="width", bias=True), *norms("ln_f", p="transformer.", to="model.", dim="width", bias=True),
          "Attention", *[x for n in ("q_proj", "k_proj", "v_proj", "out_proj") for x in lin("transformer." + GH + "attn." + n, "width", "width", to="model." + GH + "attn." + n)],
          "MLP", *lin("transformer." + GH + "mlp.fc_in", "ffn", "width", True, "model." + GH + "mlp.fc_in"), *lin("transformer." + GH + "mlp.fc_out", "width", "ffn", True, "model." + GH + "mlp.fc_out"),
          drop("transformer." + GH + "attn.bias", "the causal mask"), drop("transformer." + GH + "attn.masked_bias", "the causal mask")])
NX = "gpt_neox.layers.{layer}."
add("gpt_neox", archs=["GPTNeoXForCausalLM"],
    head=says("GPT-NeoX (Pythia)", "gpt_neox", "modeling_gpt_neox.py", "which takes GELU's tanh form where PyTorch takes the exact one."),
    indices=LAYER, quant=q("model.embed_in", "model.embed_out", "model.h.*.attention.*", "model.h.*.mlp.*"),
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 50432}, {"path": "hidden_size", "kind": "size", "dim": "hidden", "default": 6144}, {"path": "num_hidden_layers", "kind": "size", "dim": "layers", "default": 44},
            {"path": "num_attention_heads", "kind": "size", "default": 64}, {"path": "intermediate_size", "kind": "size", "dim": "ffn", "value": "4 * hidden", "why": "mlx-lm's model is four times as wide inside"},
            "max_position_embeddings", "layer_norm_eps",
            {"path": "rotary_emb_base", "also": ["rope_parameters.rope_theta"], "kind": "positive", "default": 10000.0, "#": "transformers 5 keeps these two under rope_parameters, where mlx-lm does not look."},
            {"path": "rotary_pct", "also": ["rope_parameters.partial_rotary_factor"], "kind": "positive", "default": 0.25}, "rope_plain", "use_parallel_residual",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own"), no("attention_bias", "flag", True, "mlx-lm's model has these biases")],
    rows=[r("gpt_neox.embed_in.weight", ["vocab", "hidden"], "model.embed_in.weight"), r("embed_out.weight", ["vocab", "hidden"], "model.embed_out.weight"),
          *norms("final_layer_norm", p="gpt_neox.", to="model.", bias=True), *norms("input_layernorm", "post_attention_layernorm", p=NX, to="model." + GH, bias=True),
          "Attention", *lin(NX + "attention.query_key_value", "3 * hidden", "hidden", True, "model." + GH + "attention.query_key_value"), *lin(NX + "attention.dense", "hidden", "hidden", True, "model." + GH + "attention.dense"),
          "MLP", *lin(NX + "mlp.dense_h_to_4h", "ffn", "hidden", True, "model." + GH + "mlp.dense_h_to_4h"), *lin(NX + "mlp.dense_4h_to_h", "hidden", "ffn", True, "model." + GH + "mlp.dense_4h_to_h"),
          "Buffers of old releases", drop(NX + "attention.bias", "the causal mask"), drop(NX + "attention.masked_bias", "the causal mask"), drop(NX + "attention.rotary_emb.inv_freq", "rotary frequencies are computed")])
# ---------------------------------------------------------------- OLMo, Granite, Cohere
add("olmo2", archs=["Olmo2ForCausalLM"], head=says("OLMo 2", "olmo2", "modeling_olmo2.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("post_attention_layernorm", "post_feedforward_layernorm"),
          "Attention: query and key are normalized over all heads together", *attn(bias="attention_bias"), r(L + "self_attn.q_norm.weight", ["q_width"]), r(L + "self_attn.k_norm.weight", ["kv_width"]), "MLP", *mlp()])
add("olmo3", archs=["Olmo3ForCausalLM"], head=says("OLMo 3", "olmo3", "modeling_olmo3.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", {"path": "rope_theta", "also": ["rope_parameters.rope_theta", "rope_parameters.full_attention.rope_theta", "rope_parameters.sliding_attention.rope_theta"], "kind": "positive", "default": 500000.0},
            "sliding_window", {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["sliding_attention", "full_attention"]},
            "tie_word_embeddings", "attention_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("post_attention_layernorm", "post_feedforward_layernorm"),
          "Attention: query and key are normalized over all heads together", *attn(bias="attention_bias"), r(L + "self_attn.q_norm.weight", ["q_width"]), r(L + "self_attn.k_norm.weight", ["kv_width"]), "MLP", *mlp()])
add("olmoe", archs=["OlmoeForCausalLM"], head=says("OLMoE", "olmoe", "modeling_olmoe.py"),
    dims=QW, require=GQA, indices=MOE, quant=MOEQ,
    fields=[*SIZES, "head_dim", "num_experts", "num_experts_per_tok", "norm_topk_prob", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias",
            {"path": "clip_qkv", "kind": "null", "why": "mlx-lm's model does not clip"}, "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias"),
          r(L + "self_attn.q_norm.weight", ["q_width"]), r(L + "self_attn.k_norm.weight", ["kv_width"]),
          "Experts: one tensor each becomes one bank", r(L + "mlp.gate.weight", ["experts", "hidden"]), *experts(ffn="ffn")])
GRANITE_RULES = [{"match": ["model.layers.*.self_attn.o_proj", "model.layers.*.mlp.down_proj", "lm_head"], "bits": 8, "group_size": 64}]
MULT = ["embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling"]
add("granite", archs=["GraniteForCausalLM"], head=says("Granite 3", "granite", "modeling_granite.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=q(*EMB, ATT, MLPQ, rules=GRANITE_RULES),
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", *MULT, "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias", q="hidden"), "MLP", *mlp(bias="mlp_bias")])
add("cohere", archs=["CohereForCausalLM"], head=says("Cohere (Command R)", "cohere", "modeling_cohere.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=q("model.embed_tokens", ATT, MLPQ),
    fields=[*SIZES, "layer_norm_eps", "logit_scale", "rope_theta", "rope_plain", "attention_bias", {"path": "use_qk_norm", "kind": "flag", "dim": "qk_norm", "default": False}, TIED, "hidden_act"],
    rows=[*GEMMA_HEAD, r("model.norm.weight", ["hidden"]), *norms("input_layernorm"), "Attention", *attn(bias="attention_bias", q="hidden"),
          r(L + "self_attn.q_norm.weight", ["heads", "head_dim"], when="qk_norm"), r(L + "self_attn.k_norm.weight", ["kv_heads", "head_dim"], when="qk_norm"), "MLP", *mlp()])
add("cohere2", archs=["Cohere2ForCausalLM"], head=says("Cohere 2 (Command R7B, Command A)", "cohere2", "modeling_cohere2.py"),
    dims=QW, require=GQA, indices=LAYER, quant=q("model.embed_tokens", ATT, MLPQ), head_default=True,
    fields=[*SIZES, "head_dim", "layer_norm_eps", "logit_scale", "rope_theta", "rope_plain", "sliding_window",
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["sliding_attention", "full_attention"], "#": "mlx-lm counts layers, transformers 5 names them."},
            {"path": "sliding_window_pattern", "also": ["_sliding_window_pattern"], "kind": "size", "dim": "pattern", "default": "index_of(types, 1) + 1"},
            "attention_bias", TIED, "hidden_act"],
    rows=[*GEMMA_HEAD, r("model.norm.weight", ["hidden"]), *norms("input_layernorm"), "Attention", *attn(bias="attention_bias"), "MLP", *mlp()])
add("smollm3", archs=["SmolLM3ForCausalLM"], head=says("SmolLM3", "smollm3", "modeling_smollm3.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=STD, kv_default=True,
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", {"path": "no_rope_layer_interval", "kind": "size", "default": 4}, {"path": "no_rope_layers", "kind": "any"},
            "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act", no("use_sliding_window", "flag", False, "mlx-lm's model has full attention")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias", q="hidden"), "MLP", *mlp(bias="mlp_bias")])
# ---------------------------------------------------------------- others
add("starcoder2", archs=["Starcoder2ForCausalLM"],
    head=says("StarCoder2", "starcoder2", "modeling_starcoder2.py", "which takes the exact GELU where PyTorch takes its tanh form, and attends to everything before where PyTorch has a window."),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=q(*EMB, ATT, "model.layers.*.mlp.*"), kv_default=True,
    fields=[*SIZES, "max_position_embeddings", "norm_epsilon", "rope_theta", "rope_plain", "tie_word_embeddings", no("use_bias", "flag", True, "mlx-lm's model has biases")],
    rows=[*head(), *norms("norm", p="model.", bias=True), *norms("input_layernorm", "post_attention_layernorm", bias=True), "Attention", *attn(bias=True, q="hidden"),
          "MLP", *lin(L + "mlp.c_fc", "ffn", "hidden", True), *lin(L + "mlp.c_proj", "hidden", "ffn", True), INV])
add("stablelm", archs=["StableLmForCausalLM"], head=says("StableLM", "stablelm", "modeling_stablelm.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, quant=STD, kv_default=True,
    indices={"layer": {"count": "layers"}, "head": {"count": "heads", "where": "i >= 0"}, "kv_head": {"count": "kv_heads", "where": "i >= 0"}},
    fields=[*SIZES, "max_position_embeddings", "layer_norm_eps", "rope_theta", "partial_rotary_factor", "rope_plain", {"path": "use_qkv_bias", "kind": "flag", "dim": "qkv_bias", "default": False},
            {"path": "qk_layernorm", "kind": "flag", "dim": "qk_norm", "default": False}, {"path": "use_parallel_residual", "kind": "flag", "dim": "parallel", "default": False},
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own"), "hidden_act"],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), *norms("norm", p="model.", bias=True), *norms("input_layernorm", bias=True),
          r(L + "post_attention_layernorm.weight", ["hidden"], when="!parallel"), r(L + "post_attention_layernorm.bias", ["hidden"], when="!parallel"),
          "Attention", *attn(bias="qkv_bias", obias=None, q="hidden"), r(L + "self_attn.q_layernorm.norms.{head}.weight", ["head_dim"], when="qk_norm"), r(L + "self_attn.k_layernorm.norms.{kv_head}.weight", ["head_dim"], when="qk_norm"), "MLP", *mlp(), INV])
add("phi", archs=["PhiForCausalLM"], head=says("Phi-1.5 and Phi-2", "phi", "modeling_phi.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=q(*EMB, ATT, "model.layers.*.self_attn.dense", "model.layers.*.mlp.fc*"),
    fields=[*SIZES, "max_position_embeddings", "layer_norm_eps", "rope_theta", "partial_rotary_factor", "rope_plain", no("qk_layernorm", "flag", False, "mlx-lm's model has no such norm"),
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own"), "hidden_act"],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), *lin("lm_head", "vocab", "hidden", True), *norms("final_layernorm", p="model.", bias=True), *norms("input_layernorm", bias=True),
          "Attention", *attn(bias=True, q="hidden", o="dense"), "MLP", *lin(L + "mlp.fc1", "ffn", "hidden", True), *lin(L + "mlp.fc2", "hidden", "ffn", True), INV])
add("internlm3", archs=["InternLM3ForCausalLM"], head=says("InternLM3", "internlm3", "modeling_internlm3.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=STD, kv_default=True,
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain",
            {"path": "qkv_bias", "also": ["attention_bias"], "kind": "flag", "dim": "qkv_bias", "default": False, "#": "transformers has other names for the two."}, {"path": "bias", "also": ["mlp_bias"], "kind": "flag", "dim": "mlp_bias", "default": False}, "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="qkv_bias", q="hidden"), "MLP", *mlp(bias="mlp_bias"), INV])
add("helium", archs=["HeliumForCausalLM"], head=says("Helium", "helium", "modeling_helium.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias", obias=None), "MLP", *mlp(bias="mlp_bias"), INV])
add("nemotron", archs=["NemotronForCausalLM"], head=says("Nemotron (Minitron)", "nemotron", "modeling_nemotron.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "norm_eps", "rope_theta", "partial_rotary_factor", "rope_plain", "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act"],
    rows=[*head(), *norms("norm", p="model.", bias=True), *norms("input_layernorm", "post_attention_layernorm", bias=True), "Attention", *attn(bias="attention_bias"),
          "MLP", *lin(L + "mlp.up_proj", "ffn", "hidden", "mlp_bias"), *lin(L + "mlp.down_proj", "hidden", "ffn", "mlp_bias"), INV])
add("hunyuan_v1_dense", archs=["HunYuanDenseV1ForCausalLM"], head=says("Hunyuan dense (V1)", "hunyuan_v1_dense", "modeling_hunyuan_v1_dense.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", {"path": "rope_scaling", "kind": "any"}, "tie_word_embeddings", "attention_bias", "hidden_act",
            no("use_qk_norm", "flag", True, "PyTorch's model always has these norms")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias"),
          *norms("self_attn.query_layernorm", "self_attn.key_layernorm", dim="head_dim"), "MLP", *mlp(), INV])
add("ernie4_5", archs=["Ernie4_5ForCausalLM"], head=says("ERNIE 4.5, dense", "ernie4_5", "modeling_ernie4_5.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", "tie_word_embeddings", {"path": "use_bias", "kind": "flag", "dim": "bias", "default": False}, "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="bias"), "MLP", *mlp(bias="bias")])
add("seed_oss", archs=["SeedOssForCausalLM"], head=says("Seed-OSS", "seed_oss", "modeling_seed_oss.py"),
    dims=QW, require=GQA, indices=LAYER, quant=STD, kv_default=True, head_default=True,
    fields=[*SIZES, "head_dim", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", {"path": "attention_out_bias", "kind": "flag", "dim": "out_bias", "default": False}, "mlp_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias", obias="out_bias"), "MLP", *mlp(bias="mlp_bias")])
# ---------------------------------------------------------------- mixtures of experts
add("mixtral", archs=["MixtralForCausalLM"], head=says("Mixtral", "mixtral", "modeling_mixtral.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=MOE, kv_default=True,
    quant=q(*EMB, ATT, "model.layers.*.block_sparse_moe.gate", "model.layers.*.block_sparse_moe.switch_mlp.*_proj"),
    fields=[*SIZES, "num_local_experts", "num_experts_per_tok", "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_plain", "tie_word_embeddings", "hidden_act",
            {"path": "sliding_window", "kind": "null", "why": "mlx-lm's model has full attention"}],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(q="hidden"),
          "Experts: one tensor each becomes one bank", r(L + "block_sparse_moe.gate.weight", ["experts", "hidden"]),
          *experts(L + "block_sparse_moe.experts.{expert}.", L + "block_sparse_moe.switch_mlp.", "ffn", names=("w1", "w3", "w2"))])
add("minimax_m2", archs=["MiniMaxM2ForCausalLM"], head=says("MiniMax-M2", "minimax", "modeling_minimax_m2.py"),
    dims=QW, require=GQA, indices=MOE, kv_default=True,
    quant=q(*EMB, ATT, "model.layers.*.block_sparse_moe.gate", "model.layers.*.block_sparse_moe.switch_mlp.*_proj"),
    fields=[*SIZES, "head_dim", "num_local_experts", "num_experts_per_tok", "max_position_embeddings", "rms_norm_eps", "rope_theta",
            {"path": "partial_rotary_factor", "also": ["rope_parameters.partial_rotary_factor"], "kind": "positive", "dim": "rotary", "share_of": "head_dim", "default": 1.0},
            {"path": "rotary_dim", "kind": "size", "value": "rotary", "#": "mlx-lm does not load without these two."},
            {"path": "shared_intermediate_size", "kind": "count", "default": 0}, "rope_plain", "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention: query and key are normalized over all heads together", *attn(),
          r(L + "self_attn.q_norm.weight", ["q_width"]), r(L + "self_attn.k_norm.weight", ["kv_width"]),
          "Experts: one tensor each becomes one bank", r(L + "block_sparse_moe.gate.weight", ["experts", "hidden"]), r(L + "block_sparse_moe.e_score_correction_bias", ["experts"]),
          *experts(L + "block_sparse_moe.experts.{expert}.", L + "block_sparse_moe.switch_mlp.", "ffn", names=("w1", "w3", "w2"))])
GR = L + "block_sparse_moe."
add("granitemoe", archs=["GraniteMoeForCausalLM"], head=says("Granite 3, mixture of experts", "granitemoe", "modeling_granitemoe.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER,
    quant=q(*EMB, ATT, "model.layers.*.block_sparse_moe.router.layer", "model.layers.*.block_sparse_moe.switch_mlp.*_proj",
            rules=[{"match": ["model.layers.*.self_attn.o_proj", "model.layers.*.block_sparse_moe.router.layer", "lm_head"], "bits": 8, "group_size": 64}]),
    fields=[*SIZES, "num_local_experts", "num_experts_per_tok", "max_position_embeddings", "rms_norm_eps", *MULT, "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(bias="attention_bias", q="hidden"),
          "Experts: gate and up lie in one bank", r(GR + "router.layer.weight", ["experts", "hidden"]),
          r(GR + "input_linear.weight", ["experts", "2 * ffn", "hidden"], [GR + "switch_mlp.gate_proj.weight", GR + "switch_mlp.up_proj.weight"], op="split", axis=1),
          r(GR + "output_linear.weight", ["experts", "hidden", "ffn"], GR + "switch_mlp.down_proj.weight")])
DS = "model.layers.{moe}.mlp."
DENSE_MOE = {"layer": {"count": "layers"}, "dense": {"count": "layers", "where": "i < first_moe", "may_be_empty": True}, "moe": {"count": "layers", "where": "i >= first_moe", "may_be_empty": True}, "expert": {"count": "experts"}}
NEXTN = [{"path": "num_nextn_predict_layers", "kind": "count", "dim": "nextn", "default": 0}]
def latent(bias="attention_bias"):
    p = L + "self_attn."
    return [r(p + "q_proj.weight", ["heads * (nope + rope)", "hidden"], when="!q_rank"),
            r(p + "q_a_proj.weight", ["q_rank", "hidden"], when="q_rank"), *([r(p + "q_a_proj.bias", ["q_rank"], when=f"q_rank && {bias}")] if bias else []), r(p + "q_a_layernorm.weight", ["q_rank"], when="q_rank"), r(p + "q_b_proj.weight", ["heads * (nope + rope)", "q_rank"], when="q_rank"),
            *lin(p + "kv_a_proj_with_mqa", "kv_rank + rope", "hidden", bias), r(p + "kv_a_layernorm.weight", ["kv_rank"])]
KVB = r(L + "self_attn.kv_b_proj.weight", ["heads * (nope + value)", "kv_rank"], [L + "self_attn.embed_q.weight", L + "self_attn.unembed_out.weight"],
        op="split", view=["heads", "nope + value", "kv_rank"], axis=1, sizes=["nope", "value"], order=[[0, 2, 1], [0, 1, 2]])
LATENT_FIELDS = ["vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "n_shared_experts", "n_routed_experts",
                 "num_experts_per_tok", "routed_scaling_factor", "kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "first_k_dense_replace"]
add("deepseek_v2", archs=["DeepseekV2ForCausalLM"], head=says("DeepSeek-V2", "deepseek_v2", "modeling_deepseek_v2.py"),
    indices=DENSE_MOE, quant=q(*EMB, "model.layers.*.self_attn.{q,o,q_b,kv_b,q_a}_proj", "model.layers.*.self_attn.kv_a_proj_with_mqa", MLPQ, "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*LATENT_FIELDS, {"path": "topk_method", "kind": "text", "default": "greedy", "only": ["greedy", "group_limited_greedy"]}, {"path": "n_group", "kind": "size_or_null"}, {"path": "topk_group", "kind": "size_or_null"},
            no("moe_layer_freq", "size", 1, "PyTorch's model has experts in every later layer"), no("norm_topk_prob", "flag", False, "mlx-lm's model does not renormalize"),
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "attention_bias", "hidden_act",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own")],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Latent attention", *latent(), r(L + "self_attn.kv_b_proj.weight", ["heads * (nope + value)", "kv_rank"]), *lin(L + "self_attn.o_proj", "hidden", "heads * value", "attention_bias"),
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(DS + "gate.weight", ["experts", "hidden"]), *experts(DS + "experts.{expert}.", DS + "switch_mlp."),
          "Shared experts are one", *mlp(DS + "shared_experts.", "shared * moe_ffn"), INV])
add("deepseek_v3", archs=["DeepseekV3ForCausalLM"], types=["deepseek_v3"],
    head=says("DeepSeek-V3 and R1", "deepseek_v3", "modeling_deepseek_v3.py", "which holds keys and values of the latent attention apart (embed_q, unembed_out)."),
    indices={**DENSE_MOE, "extra": {"count": "layers + 1", "where": "i >= layers"}}, quant=q(*EMB, "model.layers.*.self_attn.{q,o,q_a,q_b}_proj", "model.layers.*.self_attn.kv_a_proj_with_mqa", "model.layers.*.self_attn.{embed_q,unembed_out}", MLPQ, "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*LATENT_FIELDS, no("topk_method", "text", "noaux_tc", "PyTorch's model chooses so"), no("scoring_func", "text", "sigmoid", "PyTorch's model scores so"), "n_group", "topk_group", "norm_topk_prob",
            no("moe_layer_freq", "size", 1, "PyTorch's model has experts in every later layer"),
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "attention_bias", "hidden_act",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own")],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Latent attention: keys transposed, values as they are", *latent(), KVB, *lin(L + "self_attn.o_proj", "hidden", "heads * value", "attention_bias"),
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(DS + "gate.weight", ["experts", "hidden"]), r(DS + "gate.e_score_correction_bias", ["experts"]), *experts(DS + "experts.{expert}.", DS + "switch_mlp."),
          "Shared experts are one", *mlp(DS + "shared_experts.", "shared * moe_ffn"), INV, "The layer that predicts a second token", drop("model.layers.{extra}.*", "mlx-lm's model has no prediction layer")])
# ---------------------------------------------------------------- the rest
add("gemma3_text", archs=["Gemma3ForCausalLM"], head=says("Gemma 3, text alone", "gemma3_text", "modeling_gemma3.py"),
    dims=QW, require=GQA + [{"check": "(count_of(types, 1) > 0) == (layers >= pattern)", "why": "mlx-lm has every so manieth layer attend to everything"}],
    indices={"layer": {"count": "layers"}}, quant=q(*EMB, ATT, MLPQ), kv_default=True, head_default=True,
    fields=[*GEMMA3_FIELDS, {"path": "tie_word_embeddings", "kind": "flag", "dim": "tied", "default": True}],
    rows=[*head(), r("model.norm.weight", ["hidden"]),
          *norms("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm"), "Attention", *attn(), *QK, "MLP", *mlp()])
CONV1 = dict(op="permute", order=[0, 2, 1])
B = "backbone.layers.{layer}."
add("mamba", archs=["MambaForCausalLM"], head=says("Mamba", "mamba", "modeling_mamba.py"),
    indices=LAYER, quant=q("backbone.embeddings", "lm_head", "backbone.layers.*.mixer.{in_proj,x_proj,dt_proj,out_proj}"),
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 50280}, {"path": "hidden_size", "kind": "size", "dim": "hidden", "default": 768},
            {"path": "state_size", "kind": "size", "dim": "state", "default": 16}, {"path": "num_hidden_layers", "kind": "size", "dim": "layers", "default": 32},
            {"path": "expand", "kind": "size", "dim": "expand", "default": 2}, {"path": "intermediate_size", "kind": "size", "dim": "inner", "default": "expand * hidden"},
            {"path": "conv_kernel", "kind": "size", "dim": "kernel", "default": 4}, {"path": "use_bias", "kind": "flag", "dim": "bias", "default": False}, {"path": "use_conv_bias", "kind": "flag", "dim": "conv_bias", "default": True},
            {"path": "time_step_rank", "kind": "size", "dim": "rank"}, {"path": "tie_word_embeddings", "kind": "flag", "dim": "tied", "default": True}, "hidden_act",
            no("layer_norm_epsilon", "positive", 1e-5, "mlx-lm's model has this epsilon")],
    rows=[*head(emb="backbone.embeddings"), r("backbone.norm_f.weight", ["hidden"]), r(B + "norm.weight", ["hidden"]),
          "The mixer", *lin(B + "mixer.in_proj", "2 * inner", "hidden", "bias"), r(B + "mixer.conv1d.weight", ["inner", 1, "kernel"], **CONV1), r(B + "mixer.conv1d.bias", ["inner"], when="conv_bias"),
          r(B + "mixer.x_proj.weight", ["rank + 2 * state", "inner"]), *lin(B + "mixer.dt_proj", "inner", "rank", True), r(B + "mixer.A_log", ["inner", "state"]), r(B + "mixer.D", ["inner"]),
          *lin(B + "mixer.out_proj", "hidden", "inner", "bias")])
M2 = [r(B + "mixer.A_log", ["heads"]), r(B + "mixer.D", ["heads"]), r(B + "mixer.dt_bias", ["heads"])]
add("mamba2", archs=["Mamba2ForCausalLM"], head=says("Mamba 2", "mamba2", "modeling_mamba2.py"),
    indices=LAYER, quant=q("backbone.embeddings", "lm_head", "backbone.layers.*.mixer.{in_proj,out_proj}"),
    dims=[("inner", "heads * head_dim"), ("channels", "inner + 2 * groups * state")],
    fields=[{"path": "vocab_size", "kind": "size", "dim": "vocab", "default": 32768}, {"path": "hidden_size", "kind": "size", "dim": "hidden", "default": 4096},
            {"path": "state_size", "kind": "size", "dim": "state", "default": 128}, {"path": "num_hidden_layers", "kind": "size", "dim": "layers", "default": 64},
            {"path": "num_heads", "kind": "size", "dim": "heads", "default": 128}, {"path": "head_dim", "kind": "size", "dim": "head_dim", "default": 64}, {"path": "n_groups", "kind": "size", "dim": "groups", "default": 8},
            {"path": "intermediate_size", "kind": "size", "value": "heads * head_dim", "why": "mlx-lm does not load without it; it is the heads' width", "#": "transformers writes none."},
            {"path": "conv_kernel", "kind": "size", "dim": "kernel", "default": 4}, {"path": "use_bias", "kind": "flag", "dim": "bias", "default": False}, {"path": "use_conv_bias", "kind": "flag", "dim": "conv_bias", "default": True},
            "layer_norm_epsilon", {"path": "time_step_rank", "kind": "any", "default": 256},
            {"path": "time_step_limit", "kind": "any"},
            {"path": "tie_word_embeddings", "kind": "flag", "dim": "tied", "default": False}, "hidden_act"],
    rows=[*head(emb="backbone.embeddings"), r("backbone.norm_f.weight", ["hidden"]), r(B + "norm.weight", ["hidden"]),
          "The mixer", *lin(B + "mixer.in_proj", "inner + channels + heads", "hidden", "bias"), r(B + "mixer.conv1d.weight", ["channels", 1, "kernel"], **CONV1), r(B + "mixer.conv1d.bias", ["channels"], when="conv_bias"),
          *M2, r(B + "mixer.norm.weight", ["inner"]), *lin(B + "mixer.out_proj", "hidden", "inner", "bias")])
LTYPES = {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["conv", "full_attention"]}
def lfm(conv="model.layers.{conv}.conv.", att="model.layers.{attention}.self_attn."):
    return [r(f"{conv}conv.weight", ["hidden", 1, "kernel"], **CONV1), r(f"{conv}conv.bias", ["hidden"], when="conv_bias"), *lin(f"{conv}in_proj", "3 * hidden", "hidden", "conv_bias"), *lin(f"{conv}out_proj", "hidden", "hidden", "conv_bias"),
            "Attention layers", *attn(att, q="hidden", o="out_proj"), r(f"{att}q_layernorm.weight", ["head_dim"]), r(f"{att}k_layernorm.weight", ["head_dim"])]
LIDX = {"layer": {"count": "layers"}, "conv": {"count": "layers", "where": "types[i] == 0", "may_be_empty": True}, "attention": {"count": "layers", "where": "types[i] == 1", "may_be_empty": True}}
add("lfm2", archs=["Lfm2ForCausalLM"], head=says("LFM2", "lfm2", "modeling_lfm2.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LIDX,
    quant=q("model.embed_tokens", "model.layers.*.self_attn.*_proj", "model.layers.*.conv.{in_proj,out_proj}", "model.layers.*.feed_forward.*"),
    fields=["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "norm_eps", LTYPES,
            {"path": "conv_bias", "kind": "flag", "dim": "conv_bias", "default": False}, {"path": "conv_L_cache", "kind": "size", "dim": "kernel", "default": 3},
            {"path": "block_dim", "kind": "size", "value": "hidden", "#": "transformers 5 renames or leaves out what mlx-lm does not load without."},
            {"path": "block_ff_dim", "also": ["intermediate_size"], "kind": "size", "dim": "ffn", "default": 12288},
            {"path": "block_multiple_of", "kind": "size", "dim": "multiple", "default": 256},
            {"path": "block_ffn_dim_multiplier", "kind": "positive", "default": 1.0, "only": [1.0], "why": "this recipe knows no other"},
            {"path": "block_auto_adjust_ff_dim", "kind": "flag", "dim": "adjusts", "default": True},
            {"path": "rope_theta", "also": ["rope_parameters.rope_theta"], "kind": "positive", "default": 1000000.0}, {"path": "tie_word_embeddings", "also": ["tie_embedding"], "kind": "flag", "default": True, "only": [True], "why": "mlx-lm's model has no head of its own"}],
    rows=[*GEMMA_HEAD, r("model.embedding_norm.weight", ["hidden"]), *norms("operator_norm", "ffn_norm"),
          "Feed-forward", *[r(L + f"feed_forward.{n}.weight", s) for n, s in (("w1", ["inner", "hidden"]), ("w3", ["inner", "hidden"]), ("w2", ["hidden", "inner"]))], "Convolution layers", *lfm()])
ALL["lfm2"].dims += [("cut", "2 * ffn / 3"), ("inner", "adjusts * (multiple * ((cut + multiple - 1) / multiple)) + !adjusts * ffn")]
add("lfm2_moe", archs=["Lfm2MoeForCausalLM"], head=says("LFM2, mixture of experts", "lfm2_moe", "modeling_lfm2_moe.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA,
    indices={**LIDX, "dense": {"count": "layers", "where": "i < dense_layers", "may_be_empty": True}, "moe": {"count": "layers", "where": "i >= dense_layers", "may_be_empty": True}, "expert": {"count": "experts"}},
    quant=q("model.embed_tokens", "model.layers.*.self_attn.*_proj", "model.layers.*.conv.{in_proj,out_proj}", "model.layers.*.feed_forward.*_proj", "model.layers.*.feed_forward.gate", "model.layers.*.feed_forward.switch_mlp.*_proj",
            rules=[{"match": "model.layers.*.feed_forward.gate", "bits": 8, "group_size": 64}]),
    fields=["vocab_size", "hidden_size", "intermediate_size", "moe_intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "num_experts", "num_experts_per_tok", "norm_topk_prob", "routed_scaling_factor",
            "max_position_embeddings", "norm_eps", LTYPES, {"path": "use_expert_bias", "kind": "flag", "dim": "expert_bias", "default": True}, {"path": "num_dense_layers", "kind": "count", "dim": "dense_layers", "default": 2},
            {"path": "conv_bias", "kind": "flag", "dim": "conv_bias", "default": False}, {"path": "conv_L_cache", "kind": "size", "dim": "kernel", "default": 3},
            {"path": "rope_theta", "also": ["rope_parameters.rope_theta"], "kind": "positive", "default": 1000000.0}, {"path": "tie_word_embeddings", "also": ["tie_embedding"], "kind": "flag", "default": True, "only": [True], "why": "mlx-lm's model has no head of its own"}],
    rows=[*GEMMA_HEAD, r("model.embedding_norm.weight", ["hidden"]), *norms("operator_norm", "ffn_norm"),
          "Dense layers", *[r("model.layers.{dense}.feed_forward." + f"{a}.weight", s, "model.layers.{dense}.feed_forward." + f"{b}.weight") for a, b, s in (("w1", "gate_proj", ["ffn", "hidden"]), ("w3", "up_proj", ["ffn", "hidden"]), ("w2", "down_proj", ["hidden", "ffn"]))],
          "Experts: one tensor each becomes one bank", r("model.layers.{moe}.feed_forward.gate.weight", ["experts", "hidden"]), r("model.layers.{moe}.feed_forward.expert_bias", ["experts"], when="expert_bias", keep_dtype="mlx-lm keeps it apart from the weights' dtype"),
          *experts("model.layers.{moe}.feed_forward.experts.{expert}.", "model.layers.{moe}.feed_forward.switch_mlp.", names=("w1", "w3", "w2")),
          "Convolution layers", *lfm()])
add("glm4_moe", archs=["Glm4MoeForCausalLM"], head=says("GLM-4.5", "glm4_moe", "modeling_glm4_moe.py"),
    dims=QW, require=GQA, indices={**DENSE_MOE, "extra": {"count": "layers + 1", "where": "i >= layers"}}, kv_default=True,
    quant=q(*EMB, ATT, MLPQ, "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*SIZES, "head_dim", "moe_intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace",
            no("topk_method", "text", "noaux_tc", "PyTorch's model chooses so"), no("scoring_func", "text", "sigmoid", "PyTorch's model scores so"),
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "partial_rotary_factor", "rope_scaling", "attention_bias", {"path": "use_qk_norm", "kind": "flag", "dim": "qk_norm", "default": False}, "hidden_act",
            no("tie_word_embeddings", "flag", False, "mlx-lm's model has a head of its own")],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"]), r("lm_head.weight", ["vocab", "hidden"]), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention", *attn(bias="attention_bias", obias=None), *[dict(x, when="qk_norm") for x in QK],
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(DS + "gate.weight", ["experts", "hidden"]),
          r(DS + "gate.e_score_correction_bias", ["experts"], keep_dtype="mlx-lm keeps it apart from the weights' dtype"), *experts(DS + "experts.{expert}.", DS + "switch_mlp."),
          "Shared experts are one", *mlp(DS + "shared_experts.", "shared * moe_ffn"), "The layer that predicts a second token", drop("model.layers.{extra}.*", "mlx-lm's model has no prediction layer")])
add("dots1", archs=["Dots1ForCausalLM"], head=says("dots.llm1", "dots1", "modeling_dots1.py"),
    dims=QW, require=GQA, indices=DENSE_MOE, kv_default=True,
    quant=q(*EMB, ATT, MLPQ, "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.experts.*_proj"),
    fields=[*SIZES, "head_dim", "moe_intermediate_size", "n_routed_experts", "n_shared_experts", "num_experts_per_tok", "n_group", "topk_group", "norm_topk_prob", "routed_scaling_factor", "first_k_dense_replace",
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", no("attention_bias", "flag", False, "mlx-lm's model has no biases"), "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(), *QK,
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(DS + "gate.weight", ["experts", "hidden"]), r(DS + "gate.e_score_correction_bias", ["experts"]),
          *experts(DS + "experts.{expert}.", DS + "experts."), "Shared experts are one", *mlp(DS + "shared_experts.", "shared * moe_ffn")])
KEEP = "mlx-lm keeps it apart from the weights' dtype"
for row in ALL["deepseek_v3"].rows:
    if isinstance(row, dict) and row["from"].endswith("e_score_correction_bias"): row["keep_dtype"] = KEEP
add("afmoe", archs=["AfmoeForCausalLM"], head=says("Trinity (AFMoE)", "afmoe", "modeling_afmoe.py"),
    dims=QW, require=GQA, kv_default=True, head_default=True,
    indices={"layer": {"count": "layers"}, "dense": {"count": "layers", "where": "i < dense_layers", "may_be_empty": True}, "moe": {"count": "layers", "where": "i >= dense_layers", "may_be_empty": True}, "expert": {"count": "experts"}},
    quant=q(*EMB, ATT, MLPQ, "model.layers.*.mlp.router.gate", "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.experts.*_proj", rules=[{"match": "model.layers.*.mlp.router.gate", "bits": 8, "group_size": 64}]),
    fields=[*SIZES, "head_dim", "moe_intermediate_size", "num_experts", "num_experts_per_tok", {"path": "num_shared_experts", "kind": "count", "dim": "shared", "default": 2}, {"path": "num_dense_layers", "kind": "count", "dim": "dense_layers", "default": 1},
            no("route_norm", "flag", True, "PyTorch's model renormalizes"), {"path": "route_scale", "kind": "positive", "default": 1.0}, no("score_func", "text", "sigmoid", "PyTorch's model scores so"), no("n_group", "size", 1, "PyTorch's model has one group"), no("topk_group", "size", 1, "PyTorch's model has one group"),
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["sliding_attention", "full_attention"]}, "sliding_window", {"path": "mup_enabled", "kind": "flag", "default": False},
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "hidden_act", no("attention_bias", "flag", False, "mlx-lm's model has no biases")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm", "pre_mlp_layernorm", "post_mlp_layernorm"), "Attention, with a gate", *attn(), *lin(L + "self_attn.gate_proj", "q_width", "hidden"), *QK,
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(DS + "router.gate.weight", ["experts", "hidden"]), r(DS + "expert_bias", ["experts"], keep_dtype=KEEP),
          *experts(DS + "experts.{expert}.", DS + "experts."), "Shared experts are one", *[dict(x, when="shared") for x in mlp(DS + "shared_experts.", "shared * moe_ffn")]])
add("mellum", archs=["MellumForCausalLM"], head=says("Mellum", "mellum", "modeling_mellum.py"),
    dims=QW, require=GQA, kv_default=True, head_default=True, indices=MOE,
    quant=q(*EMB, ATT, "model.layers.*.mlp.gate", "model.layers.*.mlp.switch_mlp.*_proj", rules=[{"match": "model.layers.*.mlp.gate", "bits": 8, "group_size": 64}]),
    fields=[*SIZES, "head_dim", "moe_intermediate_size", {"path": "num_experts", "also": ["num_local_experts"], "kind": "size", "dim": "experts", "default": 64}, "num_experts_per_tok", "norm_topk_prob",
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["sliding_attention", "full_attention"]}, "sliding_window", {"path": "rope_parameters", "kind": "any"},
            "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "hidden_act", no("attention_bias", "flag", False, "mlx-lm's model has no biases")],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(), *QK, "Experts: one tensor each becomes one bank", r(L + "mlp.gate.weight", ["experts", "hidden"]), *experts()])
add("ministral3", archs=["Ministral3ForCausalLM"], head=says("Ministral 3", "ministral3", "modeling_ministral3.py"),
    dims=QW, require=GQA, kv_default=True, head_default=True, indices=LAYER, quant=STD,
    fields=[*SIZES, "head_dim", {"path": "rope_parameters", "kind": "any"}, {"path": "sliding_window", "kind": "null", "why": "mlx-lm's model has full attention unless layer_types says otherwise"}, "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"), "Attention", *attn(), "MLP", *mlp(), INV])
add("apertus", archs=["ApertusForCausalLM"], head=says("Apertus", "apertus", "modeling_apertus.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim")], require=DIV + GQA, indices=LAYER, quant=STD,
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "tie_word_embeddings", "attention_bias",
            no("mlp_bias", "flag", False, "PyTorch's model has no such biases"), no("post_norm", "flag", False, "PyTorch's model normalizes before"), no("qk_norm", "flag", True, "PyTorch's model always has these norms"), "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("attention_layernorm", "feedforward_layernorm"), "Attention", *attn(bias="attention_bias", q="hidden"), *QK,
          "MLP, and xIELU's two numbers without their axis", *lin(L + "mlp.up_proj", "ffn", "hidden"), *lin(L + "mlp.down_proj", "hidden", "ffn"),
          *[r(L + f"mlp.act_fn.{n}", [1], op="permute", order=[0], result=[]) for n in ("alpha_p", "alpha_n")],
          *[r(L + f"mlp.act_fn.{n}", []) for n in ("beta", "eps")]])
add("mistral4", archs=["Mistral4ForCausalLM"], head=says("Mistral 4, text alone", "mistral4", "modeling_mistral4.py", "which holds keys and values of the latent attention apart (embed_q, unembed_out)."),
    indices=DENSE_MOE, quant=q(*EMB, "model.layers.*.self_attn.{q,o,q_a,q_b}_proj", "model.layers.*.self_attn.kv_a_proj_with_mqa", "model.layers.*.self_attn.{embed_q,unembed_out}", MLPQ, "model.layers.*.mlp.gate", "model.layers.*.mlp.shared_experts.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*LATENT_FIELDS, "n_group", "topk_group", "norm_topk_prob", "max_position_embeddings", "rms_norm_eps", {"path": "rope_parameters", "kind": "any"}, "attention_bias", "tie_word_embeddings", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Latent attention: keys transposed, values as they are", *latent(), KVB, *lin(L + "self_attn.o_proj", "hidden", "heads * value", "attention_bias"),
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: gate and up lie in one bank", r(DS + "gate.weight", ["experts", "hidden"]),
          r(DS + "experts.gate_up_proj", ["experts", "2 * moe_ffn", "hidden"], [DS + "switch_mlp.gate_proj.weight", DS + "switch_mlp.up_proj.weight"], op="split", axis=1), r(DS + "experts.down_proj", ["experts", "hidden", "moe_ffn"], DS + "switch_mlp.down_proj.weight"),
          "Shared experts are one", *mlp(DS + "shared_experts.", "shared * moe_ffn")])
GH_ = "model.layers.{layer}."
MB, AT = "model.layers.{mamba}.mamba.", "model.layers.{attention}.self_attn."
add("granitemoehybrid", archs=["GraniteMoeHybridForCausalLM"], head=says("Granite 4", "granitemoehybrid", "modeling_granitemoehybrid.py"),
    dims=HD + [("kv_width", "kv_heads * head_dim"), ("inner", "mamba_heads * mamba_dim"), ("channels", "inner + 2 * groups * state")], require=DIV + GQA,
    indices={"layer": {"count": "layers"}, "mamba": {"count": "layers", "where": "types[i] == 0", "may_be_empty": True}, "attention": {"count": "layers", "where": "types[i] == 1", "may_be_empty": True}},
    quant=q(*EMB, ATT, "model.layers.*.mamba.{in_proj,out_proj}", "model.layers.*.block_sparse_moe.router.layer", "model.layers.*.block_sparse_moe.switch_mlp.*_proj", "model.layers.*.shared_mlp.*_linear", MLPQ,
            rules=[{"match": "model.layers.*.block_sparse_moe.router.layer", "bits": 8, "group_size": 64}]),
    fields=[*SIZES, "max_position_embeddings", "rms_norm_eps", *MULT,
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["mamba", "attention"], "words": {"linear_attention": "mamba", "full_attention": "attention"}, "#": "transformers 5 has other words for the two kinds of layers."},
            {"path": "num_local_experts", "kind": "count", "dim": "experts", "default": 8}, {"path": "num_experts_per_tok", "kind": "count", "default": 2}, {"path": "shared_intermediate_size", "kind": "size", "dim": "shared_ffn", "default": 1024},
            {"path": "mamba_n_heads", "kind": "size", "dim": "mamba_heads", "default": 128}, {"path": "mamba_d_head", "kind": "any", "default": 64}, {"path": "mamba_d_state", "kind": "size", "dim": "state", "default": 256},
            {"path": "mamba_d_conv", "kind": "size", "dim": "kernel", "default": 4}, {"path": "mamba_n_groups", "kind": "size", "dim": "groups", "default": 1}, {"path": "mamba_conv_bias", "kind": "flag", "dim": "conv_bias", "default": True},
            {"path": "mamba_proj_bias", "kind": "flag", "dim": "proj_bias", "default": False}, "rope_theta", {"path": "position_embedding_type", "kind": "any", "default": "nope"}, {"path": "time_step_limit", "kind": "any"},
            "tie_word_embeddings", "attention_bias", "hidden_act"],
    rows=[*head(), r("model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm"),
          "Attention layers", *attn(AT, bias="attention_bias", q="hidden"),
          "Mamba layers", *lin(MB + "in_proj", "inner + channels + mamba_heads", "hidden", "proj_bias"), r(MB + "conv1d.weight", ["channels", 1, "kernel"], **CONV1), r(MB + "conv1d.bias", ["channels"], when="conv_bias"),
          r(MB + "A_log", ["mamba_heads"]), r(MB + "D", ["mamba_heads"]), r(MB + "dt_bias", ["mamba_heads"]), r(MB + "norm.weight", ["inner"]), *lin(MB + "out_proj", "hidden", "inner", "proj_bias"),
          "Experts: gate and up lie in one bank", r(GR + "router.layer.weight", ["experts", "hidden"], when="experts"),
          r(GR + "input_linear.weight", ["experts", "2 * ffn", "hidden"], [GR + "switch_mlp.gate_proj.weight", GR + "switch_mlp.up_proj.weight"], when="experts", op="split", axis=1),
          r(GR + "output_linear.weight", ["experts", "hidden", "ffn"], GR + "switch_mlp.down_proj.weight", when="experts"),
          "The shared MLP; without experts it is the MLP", r(L + "shared_mlp.input_linear.weight", ["2 * shared_ffn", "hidden"], when="experts"), r(L + "shared_mlp.output_linear.weight", ["hidden", "shared_ffn"], when="experts"),
          r(L + "shared_mlp.input_linear.weight", ["2 * shared_ffn", "hidden"], [L + "mlp.gate_proj.weight", L + "mlp.up_proj.weight"], when="!experts", op="split", axis=0), r(L + "shared_mlp.output_linear.weight", ["hidden", "shared_ffn"], L + "mlp.down_proj.weight", when="!experts")])
for f in ALL["granitemoehybrid"].fields:
    if isinstance(f, dict) and f["path"] == "mamba_d_head": f.update(kind="size", dim="mamba_dim")
LINEAR, FULL, EV = "model.layers.{linear}.linear_attn.", "model.layers.{full}.self_attn.", "model.layers.{moe}.mlp."
def plus(row):
    row = dict(row); to = row.pop("to"); row["op"] = "add"; row["number"] = 1; row["to"] = to; return row
add("qwen3_next", archs=["Qwen3NextForCausalLM"], head=says("Qwen3-Next", "qwen3_next", "modeling_qwen3_next.py", "which holds most norms as weight + 1, and has experts in every layer."),
    dims=QW + [("key_width", "linear_key_heads * linear_key_dim"), ("value_width", "linear_value_heads * linear_value_dim"), ("channels", "2 * key_width + value_width")], require=GQA, kv_default=True, head_default=True,
    indices={"layer": {"count": "layers"}, "linear": {"count": "layers", "where": "(i + 1) % interval != 0", "may_be_empty": True}, "full": {"count": "layers", "where": "(i + 1) % interval == 0", "may_be_empty": True},
             "dense": {"count": "layers", "where": "i in mlp_only || (i + 1) % step != 0", "may_be_empty": True}, "moe": {"count": "layers", "where": "!(i in mlp_only) && (i + 1) % step == 0", "may_be_empty": True}, "expert": {"count": "experts"}},
    quant=q(*EMB, ATT, "model.layers.*.linear_attn.{in_proj_qkvz,in_proj_ba,out_proj}", MLPQ, "model.layers.*.mlp.{gate,shared_expert_gate}", "model.layers.*.mlp.shared_expert.*_proj", "model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*SIZES, "head_dim", "moe_intermediate_size", "shared_expert_intermediate_size", "num_experts", "num_experts_per_tok", "norm_topk_prob",
            {"path": "decoder_sparse_step", "kind": "size", "dim": "step", "default": 1}, {"path": "mlp_only_layers", "kind": "counts", "dim": "mlp_only", "default": []},
            {"path": "layer_types", "kind": "texts", "dim": "types", "only": ["linear_attention", "full_attention"], "#": "mlx-lm counts layers, transformers names them."},
            {"path": "full_attention_interval", "kind": "size", "dim": "interval", "default": "index_of(types, 1) + 1"},
            *[{"path": f"linear_{a}", "kind": "size", "dim": f"linear_{b}", "default": v} for a, b, v in (("num_key_heads", "key_heads", 16), ("num_value_heads", "value_heads", 32), ("key_head_dim", "key_dim", 128), ("value_head_dim", "value_dim", 128), ("conv_kernel_dim", "kernel", 4))],
            "max_position_embeddings", "rms_norm_eps", "rope_theta", "partial_rotary_factor", "rope_scaling", "tie_word_embeddings", "hidden_act", no("attention_bias", "flag", False, "mlx-lm's model has no biases")],
    rows=[*head(), plus(r("model.norm.weight", ["hidden"])), *[plus(x) for x in norms("input_layernorm", "post_attention_layernorm")],
          "Full attention: queries and their gates lie in one matrix", *[dict(x, shape=["2 * q_width", "hidden"]) if "q_proj" in x["from"] else x for x in attn(FULL)], *[plus(dict(x, **{"from": x["from"].replace("{layer}", "{full}"), "to": x["to"].replace("{layer}", "{full}")})) for x in QK],
          "Linear attention", r(LINEAR + "in_proj_qkvz.weight", ["2 * key_width + 2 * value_width", "hidden"]), r(LINEAR + "in_proj_ba.weight", ["2 * linear_value_heads", "hidden"]),
          r(LINEAR + "conv1d.weight", ["channels", 1, "linear_kernel"], **CONV1), r(LINEAR + "dt_bias", ["linear_value_heads"]), r(LINEAR + "A_log", ["linear_value_heads"]), r(LINEAR + "norm.weight", ["linear_value_dim"]), r(LINEAR + "out_proj.weight", ["hidden", "value_width"]),
          "Dense layers", *mlp("model.layers.{dense}.mlp."), "Experts: one tensor each becomes one bank", r(EV + "gate.weight", ["experts", "hidden"]), *experts(EV + "experts.{expert}.", EV + "switch_mlp."),
          "The shared expert and its gate", *mlp(EV + "shared_expert.", "shared_ffn"), r(EV + "shared_expert_gate.weight", [1, "hidden"]), drop("mtp.*", "mlx-lm's model has no prediction layer")])
# ---------------------------------------------------------------- mlx-vlm
import json as _json
_TF = _json.load(open("DIR"))
def vsays(title, mlx, tf, more=""):
    return (f"{title}, from transformers' checkpoint to what mlx-vlm loads strictly.\n\n"
            f"Answers to transformers' {tf} and to mlx_vlm/models/{mlx}/" + ("." if not more else f":\n{more}"))
def f_(path, kind, dim=None, default=None, also=None, **kw):
    out = {"path": path}
    if also: out["also"] = also
    out["kind"] = kind
    if dim: out["dim"] = dim
    if default is not None: out["default"] = default
    out.update(kw); return out
SCALING = dict(kind="object_or_null", without=["rope_theta", "partial_rotary_factor"], adds={"type": "rope_type"})
TEXT = [("vocab_size", "size", "vocab"), ("hidden_size", "size", "hidden"), ("intermediate_size", "size", "ffn"), ("num_hidden_layers", "size", "layers"), ("num_attention_heads", "size", "heads"), ("num_key_value_heads", "size_or_null", "kv_heads"),
        ("max_position_embeddings", "size", None), ("rms_norm_eps", "positive", None)]
def text_fields(t, top=False, inside="text_config", skip=()):
    """The text part's fields; `top`: the port reads them at the top."""
    d = _TF[t].get("text_config", {})
    out = []
    for name, kind, dim in TEXT:
        if name in skip: continue
        path, also = (name, [f"{inside}.{name}"]) if top else (f"{inside}.{name}", None)
        out.append(f_(path, kind, dim, d.get(name) if kind != "positive" else float(d[name]), also, **({"null_means": "heads"} if kind == "size_or_null" else {})))
    return out
def vfields(t, *names):
    d = _TF[t]["vision_config"]
    out = []
    for name, kind, dim in names:
        v = d.get(name)
        out.append(f_(f"vision_config.{name}", kind, dim, (float(v) if kind in ("positive", "number") else v) if v is not None else None))
    return out
LM = "language_model.model.layers.{layer}."
def qlm(*more, vision=None):
    can = ["language_model.lm_head", "language_model.model.embed_tokens", "language_model.model.layers.*.self_attn.*_proj", "language_model.model.layers.*.mlp.*_proj", *more]
    return q(*can)
def moved(rows, src, dst):
    """Rows written for one prefix, with the source's prefix another."""
    out = []
    for x in rows:
        if isinstance(x, str): out.append(x); continue
        x = dict(x); x["from"] = x["from"].replace(dst, src, 1); out.append(x)
    return out
def vhead(src_lm="lm_head", src_emb="model.embed_tokens", tied="tied"):
    return [r(f"{src_emb}.weight", ["vocab", "hidden"], "language_model.model.embed_tokens.weight"),
            r(f"{src_lm}.weight", ["vocab", "hidden"], "language_model.lm_head.weight", when=f"!{tied}"), tied_head(emb=src_emb, lm=src_lm, when=tied)]
CONV3 = dict(op="permute", order=[0, 2, 3, 4, 1])
VB, VT = "visual.blocks.{block}.", "vision_tower.blocks.{block}."
BLOCKS = {"layer": {"count": "layers"}, "block": {"count": "depth"}}
MODEL_TYPE = lambda t: f_("vision_config.model_type", "text", None, t, words={f"{t}_vision": t}, **{"#": "mlx-vlm knows the pictures' part by the name of the whole."})
CHANNELS = f_("vision_config.in_channels", "size", "channels", 3, ["vision_config.in_chans"])
TIEDF = f_("tie_word_embeddings", "flag", "tied", False, ["text_config.tie_word_embeddings"])
def add_vlm(name, **kw):
    kw.setdefault("layouts", ["mlx-vlm"]); kw.setdefault("port", "mlx-vlm"); add(name, **kw)
def qwen_text(p="model.layers.{layer}.", bias=True):
    return [r("model.norm.weight", ["hidden"], "language_model.model.norm.weight"), *norms("input_layernorm", "post_attention_layernorm", p=p, to=LM),
            "Attention", *attn(p + "self_attn.", bias=bias, obias=None, q="q_width", to=LM + "self_attn."), "MLP", *mlp(p + "mlp.", to=LM + "mlp.")]
MROPE = [f_("rope_theta", "positive", None, 1000000.0, ["text_config.rope_parameters.rope_theta", "text_config.rope_theta", "rope_parameters.rope_theta"]),
         {"path": "rope_scaling", "also": ["text_config.rope_parameters", "text_config.rope_scaling", "rope_parameters"], **SCALING}]
def merger(src="visual.merger.mlp.", dst="vision_tower.merger.mlp."):
    return [x for n, s in (("0", ["joined", "joined"]), ("2", ["out", "joined"])) for x in (r(f"{src}{n}.weight", s, f"{dst}{n}.weight"), r(f"{src}{n}.bias", [s[0]], f"{dst}{n}.bias"))]
V2DIMS = [("head_dim", "hidden / heads"), ("q_width", "heads * head_dim"), ("kv_width", "kv_heads * head_dim"), ("joined", "merge * merge * width")]
add_vlm("qwen2_vl", archs=["Qwen2VLForConditionalGeneration"], head=vsays("Qwen2-VL", "qwen2_vl", "modeling_qwen2_vl.py", "which reads the text's fields at the top, where older releases have them."),
    dims=[*V2DIMS, ("inner", "width * mlp_ratio"), ("out", "vision_out")], require=DIV + GQA, indices=BLOCKS, quant=qlm(),
    fields=[*text_fields("qwen2_vl", top=True), *MROPE, TIEDF, f_("use_sliding_window", "flag", None, False, ["text_config.use_sliding_window"], only=[False], why="mlx-vlm's model has full attention"),
            MODEL_TYPE("qwen2_vl"), CHANNELS, *vfields("qwen2_vl", ("depth", "size", "depth"), ("embed_dim", "size", "width"), ("hidden_size", "size", "vision_out"), ("num_heads", "size", None), ("mlp_ratio", "size", "mlp_ratio"), ("patch_size", "size", "patch"),
            ("spatial_merge_size", "size", "merge"), ("temporal_patch_size", "size", "frames"))],
    rows=[*vhead(), *qwen_text(), "Pictures: the patches' convolution has its axes turned", r("visual.patch_embed.proj.weight", ["width", "channels", "frames", "patch", "patch"], "vision_tower.patch_embed.proj.weight", **CONV3),
          *norms("norm1", "norm2", p=VB, to=VT, dim="width", bias=True), *lin(VB + "attn.qkv", "3 * width", "width", True, VT + "attn.qkv"), *lin(VB + "attn.proj", "width", "width", True, VT + "attn.proj"),
          *lin(VB + "mlp.fc1", "inner", "width", True, VT + "mlp.fc1"), *lin(VB + "mlp.fc2", "width", "inner", True, VT + "mlp.fc2"), *norms("ln_q", p="visual.merger.", to="vision_tower.merger.", dim="width", bias=True), *merger()])
add_vlm("qwen2_5_vl", archs=["Qwen2_5_VLForConditionalGeneration"], head=vsays("Qwen2.5-VL", "qwen2_5_vl", "modeling_qwen2_5_vl.py", "which reads the text's fields at the top, where older releases have them."),
    dims=V2DIMS, require=DIV + GQA, indices=BLOCKS, quant=qlm(),
    fields=[*text_fields("qwen2_5_vl", top=True), *MROPE, TIEDF, f_("use_sliding_window", "flag", None, False, ["text_config.use_sliding_window"], only=[False], why="mlx-vlm's model has full attention"),
            MODEL_TYPE("qwen2_5_vl"), CHANNELS, *vfields("qwen2_5_vl", ("depth", "size", "depth"), ("hidden_size", "size", "width"), ("intermediate_size", "size", "inner"), ("out_hidden_size", "size", "out"), ("num_heads", "size", None), ("patch_size", "size", "patch"),
            ("spatial_merge_size", "size", "merge"), ("temporal_patch_size", "size", "frames"), ("window_size", "size", None), ("tokens_per_second", "size", None), ("fullatt_block_indexes", "counts", None))],
    rows=[*vhead(), *qwen_text(), "Pictures: the patches' convolution has its axes turned", r("visual.patch_embed.proj.weight", ["width", "channels", "frames", "patch", "patch"], "vision_tower.patch_embed.proj.weight", **CONV3),
          *norms("norm1", "norm2", p=VB, to=VT, dim="width"), *lin(VB + "attn.qkv", "3 * width", "width", True, VT + "attn.qkv"), *lin(VB + "attn.proj", "width", "width", True, VT + "attn.proj"),
          *mlp(VB + "mlp.", "inner", True, "width", VT + "mlp."), *norms("ln_q", p="visual.merger.", to="vision_tower.merger.", dim="width"), *merger()])
Q3 = "model.language_model.layers.{layer}."
Q3B = "model.visual.blocks.{block}."
def qwen3_vision():
    s, d = "model.visual.", "vision_tower."
    out = ["Pictures: the patches' convolution has its axes turned", r(s + "patch_embed.proj.weight", ["width", "channels", "frames", "patch", "patch"], d + "patch_embed.proj.weight", **CONV3), r(s + "patch_embed.proj.bias", ["width"], d + "patch_embed.proj.bias"),
           r(s + "pos_embed.weight", ["positions", "width"], d + "pos_embed.weight"), *norms("norm1", "norm2", p=Q3B, to=VT, dim="width", bias=True),
           *lin(Q3B + "attn.qkv", "3 * width", "width", True, VT + "attn.qkv"), *lin(Q3B + "attn.proj", "width", "width", True, VT + "attn.proj"), *lin(Q3B + "mlp.linear_fc1", "inner", "width", True, VT + "mlp.linear_fc1"), *lin(Q3B + "mlp.linear_fc2", "width", "inner", True, VT + "mlp.linear_fc2")]
    for part, dim in (("merger.", "width"), ("deepstack_merger_list.{deep}.", "joined")):
        out += [*norms("norm", p=s + part, to=d + part, dim=dim, bias=True), *lin(s + part + "linear_fc1", "joined", "joined", True, d + part + "linear_fc1"), *lin(s + part + "linear_fc2", "out", "joined", True, d + part + "linear_fc2")]
    return out
def q3fields(t):
    return [f_("text_config.head_dim", "size", "head_dim", 128), {"path": "text_config.rope_theta", "also": ["text_config.rope_parameters.rope_theta"], "kind": "positive", "default": 500000.0},
            {"path": "text_config.rope_scaling", "also": ["text_config.rope_parameters"], **SCALING}, TIEDF, f_("text_config.attention_bias", "flag", None, False, only=[False], why="mlx-vlm's model has no biases"),
            MODEL_TYPE(t), CHANNELS, *vfields(t, ("depth", "size", "depth"), ("hidden_size", "size", "width"), ("intermediate_size", "size", "inner"), ("out_hidden_size", "size", "out"), ("num_heads", "size", None), ("patch_size", "size", "patch"),
            ("spatial_merge_size", "size", "merge"), ("temporal_patch_size", "size", "frames"), ("num_position_embeddings", "size", "positions"), ("deepstack_visual_indexes", "counts", "deep_layers"))]
DEEP = {**BLOCKS, "deep": {"count": "len(deep_layers)", "may_be_empty": True}}
Q3ATT = [r("model.language_model.norm.weight", ["hidden"], "language_model.model.norm.weight"), *norms("input_layernorm", "post_attention_layernorm", p=Q3, to=LM), "Attention", *attn(Q3 + "self_attn.", to=LM + "self_attn."),
         *norms("self_attn.q_norm", "self_attn.k_norm", p=Q3, to=LM, dim="head_dim")]
add_vlm("qwen3_vl", archs=["Qwen3VLForConditionalGeneration"], head=vsays("Qwen3-VL", "qwen3_vl", "modeling_qwen3_vl.py"),
    dims=[*QW, ("joined", "merge * merge * width")], require=GQA, indices=DEEP, quant=qlm(),
    fields=[*text_fields("qwen3_vl"), *q3fields("qwen3_vl")],
    rows=[*vhead(src_emb="model.language_model.embed_tokens"), *Q3ATT, "MLP", *mlp(Q3 + "mlp.", to=LM + "mlp."), *qwen3_vision()])
add_vlm("qwen3_vl_moe", archs=["Qwen3VLMoeForConditionalGeneration"], head=vsays("Qwen3-VL, mixture of experts", "qwen3_vl_moe", "modeling_qwen3_vl_moe.py"),
    dims=[*QW, ("joined", "merge * merge * width")], require=GQA, indices=DEEP, quant=qlm("language_model.model.layers.*.mlp.gate", "language_model.model.layers.*.mlp.switch_mlp.*_proj"),
    fields=[*text_fields("qwen3_vl_moe"), f_("text_config.moe_intermediate_size", "size", "moe_ffn", 1408), f_("text_config.num_experts", "size", "experts", 60, ["text_config.num_local_experts"]), f_("text_config.num_experts_per_tok", "size", None, 4), f_("text_config.norm_topk_prob", "flag", None, True),
            f_("text_config.decoder_sparse_step", "size", None, 1, only=[1], why="this recipe has experts in every layer"), f_("text_config.mlp_only_layers", "counts", None, [], only=[[]], why="this recipe has experts in every layer"), *q3fields("qwen3_vl_moe")],
    rows=[*vhead(src_emb="model.language_model.embed_tokens"), *Q3ATT, "Experts: releases have [in, out]; gate and up lie in one bank", r(Q3 + "mlp.gate.weight", ["experts", "hidden"], LM + "mlp.gate.weight"),
          r(Q3 + "mlp.experts.gate_up_proj", ["experts", "hidden", "2 * moe_ffn"], [LM + "mlp.switch_mlp.gate_proj.weight", LM + "mlp.switch_mlp.up_proj.weight"], op="split", axis=2, order=[0, 2, 1]),
          r(Q3 + "mlp.experts.down_proj", ["experts", "moe_ffn", "hidden"], LM + "mlp.switch_mlp.down_proj.weight", op="permute", order=[0, 2, 1]), *qwen3_vision()])
# CLIP's and SigLIP's kind
def siglip(src, dst, bias=True, post=True, cls=False):
    e = "encoder.layers.{block}."
    out = [*([r(src + "embeddings.class_embedding", ["width"], dst + "embeddings.class_embedding")] if cls else []),
           r(src + "embeddings.patch_embedding.weight", ["width", "channels", "patch", "patch"], dst + "embeddings.patch_embedding.weight", op="conv_oihw_to_ohwi"), *([r(src + "embeddings.patch_embedding.bias", ["width"], dst + "embeddings.patch_embedding.bias")] if bias else []),
           r(src + "embeddings.position_embedding.weight", ["positions", "width"], dst + "embeddings.position_embedding.weight"), drop(src + "embeddings.position_ids", "positions are counted"),
           *norms("layer_norm1", "layer_norm2", p=src + e, to=dst + e, dim="width", bias=True), *attn(src + e + "self_attn.", True, "same", "width", "width", "width", "out_proj", dst + e + "self_attn."),
           *lin(src + e + "mlp.fc1", "inner", "width", True, dst + e + "mlp.fc1"), *lin(src + e + "mlp.fc2", "width", "inner", True, dst + e + "mlp.fc2"), *norms("post_layernorm", p=src, to=dst, dim="width", bias=True)]
    if cls: out += norms("pre_layrnorm", p=src, to=dst, dim="width", bias=True)
    return out
def sfields(*defaults):
    hidden, inner, layers, heads, image, patch, eps = defaults
    return [f_("vision_config.hidden_size", "size", "width", hidden), f_("vision_config.intermediate_size", "size", "inner", inner), f_("vision_config.num_hidden_layers", "size", "depth", layers), f_("vision_config.num_attention_heads", "size", None, heads),
            f_("vision_config.image_size", "size", "image", image), f_("vision_config.patch_size", "size", "patch", patch), f_("vision_config.num_channels", "size", "channels", 3), f_("vision_config.layer_norm_eps", "positive", None, eps)]
SDIMS = [("head_dim", "hidden / heads"), ("q_width", "hidden"), ("kv_width", "kv_heads * head_dim")]
def llama_fields(t, defaults, **kw):
    """A Llama as the text part: its own class's defaults."""
    d = _TF["llama"] | defaults
    out = []
    for name, kind, dim in TEXT:
        v = d[name] if kind != "positive" else float(d[name])
        out.append(f_("text_config." + name, kind, dim, None if name == "num_key_value_heads" else v, **({"null_means": "heads"} if kind == "size_or_null" else {})))
    return out + [{"path": "text_config.rope_theta", "also": ["text_config.rope_parameters.rope_theta"], "kind": "positive", "default": 10000.0}]
LLP = "language_model.model.layers.{layer}."
def llama_rows(src="language_model.model.layers.{layer}.", norm="language_model.model.norm", to=LLP, to_norm=None):
    return [r(f"{norm}.weight", ["hidden"], f"{to_norm or norm}.weight"), *norms("input_layernorm", "post_attention_layernorm", p=src, to=to), "Attention", *attn(src + "self_attn.", q="hidden", to=to + "self_attn."), "MLP", *mlp(src + "mlp.", to=to + "mlp."),
            drop(src + "self_attn.rotary_emb.inv_freq", "rotary frequencies are computed")]
add_vlm("llava", archs=["LlavaForConditionalGeneration"], head=vsays("LLaVA 1.5", "llava", "modeling_llava.py", "with a Llama and a CLIP within."),
    dims=[*SDIMS, ("positions", "(image / patch) * (image / patch) + 1")], require=DIV + GQA, indices=BLOCKS, quant=qlm(),
    fields=[f_("text_config.model_type", "text", None, "llama", only=["llama"], why="this recipe is for Llamas"), *llama_fields("llava", {}), f_("text_config.rope_parameters.rope_type", "any", only=["default"], why="mlx-vlm's model does not scale rotary positions"), f_("text_config.tie_word_embeddings", "flag", None, False, only=[False], why="this recipe is for a head of its own"),
            f_("image_token_index", "size", None, 32000, ["image_token_id"]), f_("vision_config.model_type", "text", None, "clip_vision_model", only=["clip_vision_model"], why="this recipe is for CLIP"), *sfields(1024, 4096, 24, 16, 336, 14, 1e-5)],
    rows=[r("language_model.model.embed_tokens.weight", ["vocab", "hidden"]), r("language_model.lm_head.weight", ["vocab", "hidden"]), *llama_rows(),
          "Pictures: the patches' convolution has its axes turned", *siglip("vision_tower.vision_model.", "vision_tower.vision_model.", bias=False, cls=True),
          "The projector", *lin("multi_modal_projector.linear_1", "hidden", "width", True), *lin("multi_modal_projector.linear_2", "hidden", "hidden", True)])
def idefics(t, title, vdef, tdef):
    add_vlm(t, archs=[{"idefics3": "Idefics3ForConditionalGeneration", "smolvlm": "SmolVLMForConditionalGeneration"}[t]], head=vsays(title, "idefics3", f"modeling_{t}.py"),
        dims=[*SDIMS, ("positions", "(image / patch) * (image / patch)"), ("joined", "width * scale * scale")], require=DIV + GQA, indices=BLOCKS, quant=q("language_model.lm_head", "language_model.embed_tokens", "language_model.layers.*.self_attn.*_proj", "language_model.layers.*.mlp.*_proj", "connector.modality_projection.proj"),
        fields=[f_("text_config.model_type", "text", None, "llama", only=["llama"], why="this recipe is for Llamas"), *llama_fields(t, tdef), f_("text_config.rope_parameters.rope_type", "any", only=["default"], why="mlx-vlm's model does not scale rotary positions"),
                f_("tie_word_embeddings", "flag", "tied", False, ["text_config.tie_word_embeddings"]), f_("scale_factor", "size", "scale", 2), *sfields(*vdef)],
        rows=[r("model.text_model.embed_tokens.weight", ["vocab", "hidden"], "language_model.embed_tokens.weight"), r("lm_head.weight", ["vocab", "hidden"], "language_model.lm_head.weight"),
              *llama_rows("model.text_model.layers.{layer}.", "model.text_model.norm", "language_model.layers.{layer}.", "language_model.norm"),
              "Pictures: the patches' convolution has its axes turned", *siglip("model.vision_model.", "vision_model."), "The connector", r("model.connector.modality_projection.proj.weight", ["hidden", "joined"], "connector.modality_projection.proj.weight")])
idefics("idefics3", "Idefics3", (1152, 3072, 12, 16, 224, 32, 1e-6), {})
idefics("smolvlm", "SmolVLM", (1152, 3072, 12, 16, 224, 32, 1e-6), {})
GL = "model.language_model.layers.{layer}."
GLM_TEXT = [r("model.language_model.norm.weight", ["hidden"], "language_model.model.norm.weight"), *norms("input_layernorm", "post_attention_layernorm", "post_self_attn_layernorm", "post_mlp_layernorm", p=GL, to=LM)]
GLM_MLP = ["Gate and up are one matrix", *lin(GL + "mlp.gate_up_proj", "2 * ffn", "hidden", None, LM + "mlp.gate_up_proj"), *lin(GL + "mlp.down_proj", "hidden", "ffn", None, LM + "mlp.down_proj")]
def glm_vision(bias, extra, mlp_dim, merger_dim):
    s, d = "model.visual.", "vision_tower."
    b = Q3B
    return ["Pictures: both convolutions have their axes turned", r(s + "patch_embed.proj.weight", ["width", "channels", "frames", "patch", "patch"], d + "patch_embed.proj.weight", **CONV3), r(s + "patch_embed.proj.bias", ["width"], d + "patch_embed.proj.bias"),
            r(s + "downsample.weight", ["out", "width", "merge", "merge"], d + "downsample.weight", op="conv_oihw_to_ohwi"), r(s + "downsample.bias", ["out"], d + "downsample.bias"), *extra,
            r(s + "post_layernorm.weight", ["width"], d + "post_layernorm.weight"), *norms("norm1", "norm2", p=b, to=VT, dim="width"), *lin(b + "attn.qkv", "3 * width", "width", bias, VT + "attn.qkv"), *lin(b + "attn.proj", "width", "width", bias, VT + "attn.proj"), *mlp(b + "mlp.", mlp_dim, bias, "width", VT + "mlp."),
            r(s + "merger.proj.weight", ["out", "out"], d + "merger.proj.weight"), *norms("post_projection_norm", p=s + "merger.", to=d + "merger.", dim="out", bias=True), *mlp(s + "merger.", merger_dim, None, "out", d + "merger.")]
GLMV = (("depth", "size", "depth"), ("hidden_size", "size", "width"), ("num_heads", "size", "vision_heads"), ("intermediate_size", "size", "inner"), ("out_hidden_size", "size", "out"), ("patch_size", "size", "patch"), ("image_size", "size", "image"), ("spatial_merge_size", "size", "merge"), ("temporal_patch_size", "size", "frames"), ("rms_norm_eps", "positive", None), ("attention_bias", "flag", "vision_bias"))
GLMKEEP = ["extra"]
add_vlm("glm_ocr", archs=["GlmOcrForConditionalGeneration"], head=vsays("GLM-OCR", "glm_ocr", "modeling_glm_ocr.py"),
    dims=[*QW, ("vision_head", "width / vision_heads"), ("merged", "out * channels")], require=GQA, indices={**BLOCKS, "extra": {"count": "layers + 1", "where": "i >= layers"}}, quant=q("language_model.lm_head", "language_model.model.embed_tokens", "language_model.model.layers.*.self_attn.*_proj", "language_model.model.layers.*.mlp.*_proj"),
    fields=[*text_fields("glm_ocr"), f_("text_config.head_dim", "size", "head_dim", 128), f_("text_config.rope_parameters", "any"), f_("tie_word_embeddings", "flag", None, False, ["text_config.tie_word_embeddings"], only=[False], why="mlx-vlm's model has a head of its own"), f_("text_config.attention_bias", "flag", None, False, only=[False], why="mlx-vlm's model has no biases"), CHANNELS, *vfields("glm_ocr", *GLMV)],
    rows=[r("model.language_model.embed_tokens.weight", ["vocab", "hidden"], "language_model.model.embed_tokens.weight"), r("lm_head.weight", ["vocab", "hidden"], "language_model.lm_head.weight"), *GLM_TEXT, "Attention", *attn(GL + "self_attn.", to=LM + "self_attn."), *GLM_MLP,
          *glm_vision("vision_bias", [], "inner", "merged"), *norms("attn.q_norm", "attn.k_norm", p=Q3B, to=VT, dim="vision_head"), "The layer that predicts a second token", drop("model.language_model.layers.{extra}.*", "mlx-vlm's model has no prediction layer")])
add_vlm("glm4v", archs=["Glm4vForConditionalGeneration"], head=vsays("GLM-4.1V", "glm4v", "modeling_glm4v.py"),
    dims=[("head_dim", "hidden / heads"), *QW, ("positions", "(image / patch) * (image / patch)")], require=GQA, indices=BLOCKS, quant=qlm(),
    fields=[*text_fields("glm4v"), {"path": "text_config.rope_theta", "also": ["text_config.rope_parameters.rope_theta"], "kind": "positive", "default": 10000.0}, {"path": "text_config.partial_rotary_factor", "also": ["text_config.rope_parameters.partial_rotary_factor"], "kind": "positive", "default": 0.5},
            {"path": "text_config.rope_scaling", "also": ["text_config.rope_parameters"], **SCALING}, f_("tie_word_embeddings", "flag", None, False, ["text_config.tie_word_embeddings"], only=[False], why="mlx-vlm's model has a head of its own"), f_("text_config.attention_bias", "flag", None, True, only=[True], why="mlx-vlm's model has these biases"),
            MODEL_TYPE("glm4v"), CHANNELS, *vfields("glm4v", *GLMV)],
    rows=[r("model.language_model.embed_tokens.weight", ["vocab", "hidden"], "language_model.model.embed_tokens.weight"), r("lm_head.weight", ["vocab", "hidden"], "language_model.lm_head.weight"), *GLM_TEXT, "Attention", *attn(GL + "self_attn.", True, None, to=LM + "self_attn."), *GLM_MLP,
          *glm_vision("vision_bias", [r("model.visual.post_conv_layernorm.weight", ["width"], "vision_tower.post_conv_layernorm.weight"), r("model.visual.embeddings.position_embedding.weight", ["positions", "width"], "vision_tower.embeddings.position_embedding.weight")], "out", "inner")])
PV, PT = "visual.vision_model.encoder.layers.{block}.", "visual.layers.{block}."
add_vlm("paddleocr_vl", archs=["PaddleOCRVLForConditionalGeneration"], head=vsays("PaddleOCR-VL", "paddleocr_vl", "modeling_paddleocr_vl.py", "which reads the text's fields at the top, where older releases have them, and holds the pictures' query, key and value in one matrix."),
    dims=[*QW, ("positions", "(image / patch) * (image / patch)"), ("joined", "width * merge * merge")], require=GQA, indices=BLOCKS, quant=qlm(),
    fields=[*text_fields("paddleocr_vl", top=True), f_("head_dim", "size", "head_dim", 128, ["text_config.head_dim"]), f_("rope_theta", "positive", None, 500000.0, ["text_config.rope_parameters.rope_theta", "text_config.rope_theta", "rope_parameters.rope_theta"]), {"path": "rope_scaling", "also": ["text_config.rope_parameters", "text_config.rope_scaling", "rope_parameters"], **SCALING},
            f_("use_bias", "flag", None, False, ["text_config.use_bias"], only=[False], why="this recipe knows no biases"), f_("tie_word_embeddings", "flag", None, False, ["text_config.tie_word_embeddings"], only=[False], why="mlx-vlm's model has a head of its own"), MODEL_TYPE("paddleocr_vl"), *sfields(1152, 4304, 27, 16, 384, 14, 1e-6), f_("vision_config.spatial_merge_size", "size", "merge", 2)],
    rows=[r("model.embed_tokens.weight", ["vocab", "hidden"], "language_model.model.embed_tokens.weight"), r("lm_head.weight", ["vocab", "hidden"], "language_model.lm_head.weight"), *qwen_text(bias=None),
          "Pictures: the patches' convolution has its axes turned", r("visual.vision_model.embeddings.patch_embedding.weight", ["width", "channels", "patch", "patch"], "visual.embeddings.patch_embedding.weight", op="conv_oihw_to_ohwi"), r("visual.vision_model.embeddings.patch_embedding.bias", ["width"], "visual.embeddings.patch_embedding.bias"),
          r("visual.vision_model.embeddings.position_embedding.weight", ["positions", "width"], "visual.embeddings.position_embedding.weight"), *norms("post_layernorm", p="visual.vision_model.", to="visual.", dim="width", bias=True),
          *norms("layer_norm1", "layer_norm2", p=PV, to=PT, dim="width", bias=True),
          {"from": [PV + f"self_attn.{n}_proj.weight" for n in "qkv"], "shape": ["width", "width"], "op": "concat", "axis": 0, "to": PT + "self_attn.qkv.weight"}, {"from": [PV + f"self_attn.{n}_proj.bias" for n in "qkv"], "shape": ["width"], "op": "concat", "axis": 0, "to": PT + "self_attn.qkv.bias"},
          *lin(PV + "self_attn.out_proj", "width", "width", True, PT + "self_attn.out_proj"), *lin(PV + "mlp.fc1", "inner", "width", True, PT + "mlp.fc1"), *lin(PV + "mlp.fc2", "width", "inner", True, PT + "mlp.fc2"),
          "The projector", *norms("pre_norm", p="mlp_AR.", to="visual.projector.", dim="width", bias=True), *lin("mlp_AR.linear_1", "joined", "joined", True, "visual.projector.linear_1"), *lin("mlp_AR.linear_2", "hidden", "joined", True, "visual.projector.linear_2"),
          "What mlx-vlm's model has no use for", drop("visual.vision_model.head.*", "a pooling head that is not used"), drop("visual.vision_model.embeddings.packing_position_embedding.weight", "a table that is not used"), drop("visual.vision_model.embeddings.position_ids", "positions are counted")])
G3 = "language_model.model.layers.{layer}."
add_vlm("gemma3", archs=["Gemma3ForConditionalGeneration"], head=vsays("Gemma 3", "gemma3", "modeling_gemma3.py", "which has a head of its own; PyTorch's is the embedding, so it is written twice."),
    dims=[*QW, ("positions", "(image / patch) * (image / patch)")], require=GQA, indices=BLOCKS, quant=qlm(),
    fields=[*text_fields("gemma3"), f_("text_config.head_dim", "size", "head_dim", 256), f_("text_config.query_pre_attn_scalar", "positive", None, 256.0), f_("text_config.rope_global_base_freq", "positive", None, 1000000.0, ["text_config.rope_parameters.full_attention.rope_theta", "text_config.rope_theta"]),
            f_("text_config.rope_local_base_freq", "positive", None, 10000.0, ["text_config.rope_parameters.sliding_attention.rope_theta"]), f_("text_config.sliding_window", "size", None, 4096), f_("text_config.layer_types", "texts", "types", None, only=["sliding_attention", "full_attention"]),
            f_("text_config.sliding_window_pattern", "size", "pattern", "index_of(types, 1) + 1", ["text_config._sliding_window_pattern"]), f_("vision_config.model_type", "text", None, "siglip_vision_model", only=["siglip_vision_model"], why="this recipe is for SigLIP"), *sfields(768, 3072, 12, 12, 224, 16, 1e-6)],
    rows=[r("language_model.model.embed_tokens.weight", ["vocab", "hidden"], ["language_model.model.embed_tokens.weight", "language_model.lm_head.weight"]), tied_head(emb="language_model.model.embed_tokens", lm="language_model.lm_head", when=None), tied_head(emb="language_model.model.embed_tokens", when=None),
          r("language_model.model.norm.weight", ["hidden"]), *norms("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm", p=G3),
          "Attention", *attn(G3 + "self_attn."), *norms("self_attn.q_norm", "self_attn.k_norm", p=G3, dim="head_dim"), "MLP", *mlp(G3 + "mlp."), "Pictures: the patches' convolution has its axes turned", *siglip("vision_tower.vision_model.", "vision_tower.vision_model."),
          "The projector", r("multi_modal_projector.mm_input_projection_weight", ["width", "hidden"]), r("multi_modal_projector.mm_soft_emb_norm.weight", ["width"])])
# transformers 5 has one place for rotary settings; ports read two.
for name in ("gpt2", "gptj"):
    ALL[name].require = [*ALL[name].require, {"check": "ffn == 4 * width", "why": "mlx-lm's model is four times as wide inside"}]
ALL["internlm3"].archs = ["InternLM3ForCausalLM", "LlamaForCausalLM"]
for row in ALL["minimax_m2"].rows:
    if isinstance(row, dict) and str(row["from"]).endswith("e_score_correction_bias"): row["keep_dtype"] = KEEP
ALL["qwen3_moe"].quant[1].insert(0, {"match": "model.layers.*.mlp.gate", "bits": 8, "group_size": 64})
ALL["minimax_m2"].quant[1].insert(0, {"match": "model.layers.*.block_sparse_moe.gate", "bits": 8, "group_size": 64})
ALL["qwen3_next"].quant[1].insert(0, {"match": ["model.layers.*.mlp.gate", "model.layers.*.mlp.shared_expert_gate"], "bits": 8, "group_size": 64})
ALL["glm_ocr"].drop = ["text_config.bos_token_id", "vision_config.rope_parameters"]
ALL["glm_ocr"].head += "\nIts loader takes no field that its releases do not have."
ALL["gemma3"].fields.append(f_("text_config.mm_tokens_per_image", "size", None, 256, ["mm_tokens_per_image"]))
for name in ("llava", "idefics3", "smolvlm"):
    ALL[name].fields.append(f_("vocab_size", "size", None, "vocab", ["text_config.vocab_size"]))
ALL["paddleocr_vl"].quant = qlm("visual.projector.linear_*", "visual.layers.*.self_attn.{qkv,out_proj}", "visual.layers.*.mlp.fc*", "visual.embeddings.position_embedding")
del ALL["granitemoehybrid"]
for spec in ALL.values():
    for at, f in enumerate(spec.fields):
        if f == "rope_scaling":
            spec.fields[at] = {"path": "rope_scaling", "also": ["rope_parameters"], **SCALING, "null_where": {"rope_type": "default"}}
