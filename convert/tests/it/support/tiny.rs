//! Small releases of the same architecture, written out key by key and independently of the recipe.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::weights::Weights;
use super::{Shapes, Stored, release_dtype, safetensors_bytes};

/// What may differ between small releases.
#[derive(Debug, Clone)]
pub struct Tiny {
    pub layers: u64,
    pub first_dense: u64,
    pub moe_every: u64,
    pub experts: u64,
    pub shared: u64,
    pub heads: u64,
    pub kv_heads: u64,
    pub window: u64,
    pub globals: Vec<u64>,
}

impl Default for Tiny {
    fn default() -> Self {
        Self {
            layers: 3,
            first_dense: 1,
            moe_every: 1,
            experts: 4,
            shared: 2,
            heads: 4,
            kv_heads: 2,
            window: 3,
            globals: vec![1],
        }
    }
}

const HIDDEN: u64 = 16;
const MOE: u64 = 6;
const CLIP: u64 = 12;
const SAM: u64 = 8;

impl Tiny {
    pub fn config(&self) -> Value {
        json!({
            "model_type": "deepseek_vl_v2",
            "architectures": ["DeepseekOCRForCausalLM"],
            "vocab_size": 32, "hidden_size": HIDDEN, "intermediate_size": 20, "moe_intermediate_size": MOE,
            "num_hidden_layers": self.layers, "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads, "n_shared_experts": self.shared, "n_routed_experts": self.experts,
            "num_experts_per_tok": 2, "first_k_dense_replace": self.first_dense, "moe_layer_freq": self.moe_every,
            "use_mla": false, "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 1,
            "language_config": { "hidden_size": HIDDEN, "vocab_size": 32, "topk_method": "greedy" },
            "projector_config": { "input_dim": 2 * CLIP, "n_embed": HIDDEN, "projector_type": "linear" },
            "vision_config": { "width": {
                "clip-l-14-224": { "layers": 2, "width": CLIP, "heads": 3, "image_size": 28, "patch_size": 14 },
                "sam_vit_b": {
                    "layers": 2, "width": SAM, "heads": 2, "image_size": 64, "patch_size": 16,
                    "window_size": self.window, "global_attn_indexes": self.globals, "neck_channels": 5,
                    "downsample_channels": [7, CLIP],
                },
            } },
        })
    }

    pub fn shapes(&self) -> Shapes {
        let mut shapes = Shapes::new();
        let mut put = |key: String, shape: &[u64]| assert!(shapes.insert(key, shape.to_vec()).is_none());
        put("lm_head.weight".into(), &[32, HIDDEN]);
        put("model.embed_tokens.weight".into(), &[32, HIDDEN]);
        put("model.norm.weight".into(), &[HIDDEN]);
        put("model.image_newline".into(), &[HIDDEN]);
        put("model.view_seperator".into(), &[HIDDEN]);
        put("model.projector.layers.weight".into(), &[HIDDEN, 2 * CLIP]);
        put("model.projector.layers.bias".into(), &[HIDDEN]);
        for layer in 0..self.layers {
            self.decoder_layer(&format!("model.layers.{layer}"), layer, &mut put);
        }
        for layer in 0..2 {
            clip_layer(&format!("model.vision_model.transformer.layers.{layer}"), &mut put);
        }
        let clip = "model.vision_model";
        put(format!("{clip}.embeddings.class_embedding"), &[CLIP]);
        put(format!("{clip}.embeddings.patch_embedding.weight"), &[CLIP, 3, 14, 14]);
        put(format!("{clip}.embeddings.position_embedding.weight"), &[5, CLIP]);
        put(format!("{clip}.embeddings.position_ids"), &[1, 5]);
        linear_like(format!("{clip}.pre_layrnorm"), &[CLIP], &mut put);
        for block in 0..2 {
            self.sam_block(block, &mut put);
        }
        sam_rest(&mut put);
        shapes
    }

    fn decoder_layer(&self, at: &str, layer: u64, put: &mut impl FnMut(String, &[u64])) {
        let kv = HIDDEN / self.heads * self.kv_heads;
        put(format!("{at}.input_layernorm.weight"), &[HIDDEN]);
        put(format!("{at}.post_attention_layernorm.weight"), &[HIDDEN]);
        for (name, rows) in [("q", HIDDEN), ("k", kv), ("v", kv), ("o", HIDDEN)] {
            put(format!("{at}.self_attn.{name}_proj.weight"), &[rows, HIDDEN]);
        }
        let mut mlp = |at: String, width: u64| {
            put(format!("{at}.gate_proj.weight"), &[width, HIDDEN]);
            put(format!("{at}.up_proj.weight"), &[width, HIDDEN]);
            put(format!("{at}.down_proj.weight"), &[HIDDEN, width]);
        };
        if self.experts == 0 || layer < self.first_dense || !layer.is_multiple_of(self.moe_every) {
            return mlp(format!("{at}.mlp"), 20);
        }
        for expert in 0..self.experts {
            mlp(format!("{at}.mlp.experts.{expert}"), MOE);
        }
        if self.shared > 0 {
            mlp(format!("{at}.mlp.shared_experts"), MOE * self.shared);
        }
        put(format!("{at}.mlp.gate.weight"), &[self.experts, HIDDEN]);
    }

    fn sam_block(&self, block: u64, put: &mut impl FnMut(String, &[u64])) {
        let at = format!("model.sam_model.blocks.{block}");
        let global = self.window == 0 || self.globals.contains(&block);
        let rows = if global { 2 * 4 - 1 } else { 2 * self.window - 1 };
        put(format!("{at}.attn.rel_pos_h"), &[rows, SAM / 2]);
        put(format!("{at}.attn.rel_pos_w"), &[rows, SAM / 2]);
        linear_like(format!("{at}.norm1"), &[SAM], put);
        linear_like(format!("{at}.norm2"), &[SAM], put);
        linear_like(format!("{at}.attn.qkv"), &[3 * SAM, SAM], put);
        linear_like(format!("{at}.attn.proj"), &[SAM, SAM], put);
        linear_like(format!("{at}.mlp.lin1"), &[4 * SAM, SAM], put);
        linear_like(format!("{at}.mlp.lin2"), &[SAM, 4 * SAM], put);
    }

    /// The tensors with their bytes, in key order.
    pub fn tensors(&self) -> Vec<Stored> {
        self.shapes().into_iter().map(|(key, shape)| stored(key, shape)).collect()
    }

    /// Writes config.json and one model.safetensors.
    pub fn write(&self, directory: &Path) {
        write_release(directory, &self.config(), &self.tensors());
    }
}

/// Writes any release of one file.
pub fn write_release(directory: &Path, config: &Value, tensors: &[Stored]) {
    fs::create_dir_all(directory).expect("a directory");
    fs::write(directory.join("config.json"), config.to_string()).expect("config");
    fs::write(directory.join("model.safetensors"), safetensors_bytes(tensors)).expect("weights");
}

/// One tensor with its synthetic bytes.
pub fn stored(key: String, shape: Vec<u64>) -> Stored {
    let count: u64 = shape.iter().product();
    let dtype = release_dtype(&key);
    let bytes = if dtype == Dtype::I64 {
        (0..count as i64).flat_map(i64::to_le_bytes).collect()
    } else {
        let weights = Weights::of(&key, &shape);
        (0..count).flat_map(|at| weights.bf16(at).to_le_bytes()).collect()
    };
    (key, dtype, shape, bytes)
}

fn linear_like(at: String, shape: &[u64], put: &mut impl FnMut(String, &[u64])) {
    put(format!("{at}.weight"), shape);
    put(format!("{at}.bias"), &shape[..1]);
}

fn clip_layer(at: &str, put: &mut impl FnMut(String, &[u64])) {
    linear_like(format!("{at}.layer_norm1"), &[CLIP], put);
    linear_like(format!("{at}.layer_norm2"), &[CLIP], put);
    linear_like(format!("{at}.self_attn.qkv_proj"), &[3 * CLIP, CLIP], put);
    linear_like(format!("{at}.self_attn.out_proj"), &[CLIP, CLIP], put);
    linear_like(format!("{at}.mlp.fc1"), &[4 * CLIP, CLIP], put);
    linear_like(format!("{at}.mlp.fc2"), &[CLIP, 4 * CLIP], put);
}

fn sam_rest(put: &mut impl FnMut(String, &[u64])) {
    let sam = "model.sam_model";
    put(format!("{sam}.pos_embed"), &[1, 4, 4, SAM]);
    linear_like(format!("{sam}.patch_embed.proj"), &[SAM, 3, 16, 16], put);
    put(format!("{sam}.neck.0.weight"), &[5, SAM, 1, 1]);
    linear_like(format!("{sam}.neck.1"), &[5], put);
    put(format!("{sam}.neck.2.weight"), &[5, 5, 3, 3]);
    linear_like(format!("{sam}.neck.3"), &[5], put);
    put(format!("{sam}.net_2.weight"), &[7, 5, 3, 3]);
    put(format!("{sam}.net_3.weight"), &[CLIP, 7, 3, 3]);
}
