//! A small release, its conversion, and ways to spoil one.

use std::collections::BTreeMap;
use std::path::Path;

use mlxport_audit::{Report, Request, audit};
use mlxport_convert::quantize::{Mode, Quantization, quantize};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// Width of the model.
pub const WIDTH: usize = 64;

/// A tensor in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

/// Key → tensor.
pub type Tensors = BTreeMap<String, Tensor>;

impl Tensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes: values.iter().flat_map(|v| v.to_le_bytes()).collect() }
    }

    pub fn values(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.bytes.as_chunks().0.iter().map(|&raw| f32::from_le_bytes(raw)).collect(),
            Dtype::F16 => self.bytes.as_chunks().0.iter().map(|&raw| half::f16::from_le_bytes(raw).to_f32()).collect(),
            _ => self.bytes.as_chunks().0.iter().map(|&raw| half::bf16::from_le_bytes(raw).to_f32()).collect(),
        }
    }

    /// The same with other values, rounded to its dtype.
    pub fn with(&self, values: &[f32]) -> Self {
        let bytes = match self.dtype {
            Dtype::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Dtype::F16 => values.iter().flat_map(|&v| half::f16::from_f32(v).to_le_bytes()).collect(),
            _ => values.iter().flat_map(|&v| half::bf16::from_f32(v).to_le_bytes()).collect(),
        };
        Self { bytes, ..self.clone() }
    }

    pub fn cast(&self, dtype: Dtype) -> Self {
        Self { dtype, ..self.clone() }.with(&self.values())
    }

    pub fn map(&self, change: impl Fn(f32) -> f32) -> Self {
        self.with(&self.values().into_iter().map(change).collect::<Vec<_>>())
    }

    /// Rows in another order.
    pub fn rows(&self, order: impl Fn(usize) -> usize) -> Self {
        let row = self.bytes.len() / self.shape[0];
        let bytes =
            (0..self.shape[0]).flat_map(|at| self.bytes[order(at) * row..(order(at) + 1) * row].to_vec()).collect();
        Self { bytes, ..self.clone() }
    }

    pub fn transposed(&self) -> Self {
        let (rows, columns, values) = (self.shape[0], self.shape[1], self.values());
        let turned: Vec<f32> = (0..rows * columns).map(|at| values[at % rows * columns + at / rows]).collect();
        Self { shape: vec![columns, rows], ..self.clone() }.with(&turned)
    }
}

/// Numbers that look like weights, from a seed.
pub fn noise(seed: u64, count: usize, scale: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| (next() + next() + next()) * scale).collect()
}

/// A mixture of experts of two layers in float32.
pub fn release() -> Tensors {
    let mut all = Tensors::new();
    let mut seed = 1;
    let mut put = |key: String, shape: &[usize]| {
        seed += 1;
        let count = shape.iter().product();
        let values = noise(seed, count, 0.1);
        let values: Vec<f32> = if key.contains("norm") { values.iter().map(|v| 1.0 + v).collect() } else { values };
        all.insert(key, Tensor::f32(shape, &values));
    };
    for name in ["model.embed_tokens.weight", "lm_head.weight"] {
        put(name.to_owned(), &[96, WIDTH]);
    }
    put("model.norm.weight".to_owned(), &[WIDTH]);
    for layer in 0..2 {
        let at = format!("model.layers.{layer}");
        for (name, rows) in [("q", 64), ("k", 64), ("v", 64), ("o", 64)] {
            put(format!("{at}.self_attn.{name}_proj.weight"), &[rows, WIDTH]);
        }
        put(format!("{at}.self_attn.q_proj.bias"), &[64]);
        for name in ["input_layernorm", "post_attention_layernorm"] {
            put(format!("{at}.{name}.weight"), &[WIDTH]);
        }
        put(format!("{at}.mlp.gate.weight"), &[12, WIDTH]);
        for expert in 0..12 {
            for (name, shape) in [("gate", [32, 64]), ("up", [32, 64]), ("down", [64, 32])] {
                put(format!("{at}.mlp.experts.{expert}.{name}_proj.weight"), &shape);
            }
        }
    }
    all
}

/// The release's config.
pub fn config() -> Value {
    json!({
        "model_type": "qwen3_moe", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
        "head_dim": 16, "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "vocab_size": 96, "num_experts": 12,
        "num_experts_per_tok": 2, "norm_topk_prob": true, "hidden_act": "silu", "transformers_version": "4.57.6"
    })
}

/// The release as mlx-lm lays it out, in a dtype.
pub fn converted(release: &Tensors, dtype: Dtype) -> Tensors {
    let mut all = Tensors::new();
    for (key, tensor) in release {
        match key.split_once(".experts.") {
            None => {
                all.insert(key.clone(), tensor.cast(dtype));
            }
            Some((parent, rest)) if rest.starts_with("0.") => {
                let name = &rest[2..];
                let bytes =
                    (0..12).flat_map(|e| release[&format!("{parent}.experts.{e}.{name}")].cast(dtype).bytes).collect();
                let shape = [vec![12], tensor.shape.clone()].concat();
                all.insert(format!("{parent}.switch_mlp.{name}"), Tensor { dtype, shape, bytes });
            }
            Some(_) => {}
        }
    }
    all
}

/// A tensor packed: codes, scales, biases under its module's name.
pub fn pack(all: &mut Tensors, key: &str, bits: u32, group: u32) {
    let tensor = all.remove(key).expect("there");
    let q = Quantization::new(Mode::Affine, Some(bits), Some(group)).expect("a quantization");
    let count = tensor.shape.iter().product::<usize>();
    let (groups, size) = (count / group as usize, tensor.dtype.bitsize() / 8);
    let mut parts = [vec![0; count * bits as usize / 8], vec![0; groups * size], vec![0; groups * size]];
    let [weight, scales, biases] = &mut parts;
    quantize(q, tensor.dtype, &tensor.bytes, weight, scales, biases).expect("finite");
    let module = key.strip_suffix(".weight").expect("a weight");
    let of = |last: usize| [&tensor.shape[..tensor.shape.len() - 1], &[last]].concat();
    let last = tensor.shape[tensor.shape.len() - 1];
    let [weight, scales, biases] = parts;
    all.insert(key.to_owned(), Tensor { dtype: Dtype::U32, shape: of(last * bits as usize / 32), bytes: weight });
    all.insert(
        format!("{module}.scales"),
        Tensor { dtype: tensor.dtype, shape: of(last / group as usize), bytes: scales },
    );
    all.insert(
        format!("{module}.biases"),
        Tensor { dtype: tensor.dtype, shape: of(last / group as usize), bytes: biases },
    );
}

/// The whole conversion at four bits in groups of 32, the router at eight in groups of 64; and its config.
pub fn packed(release: &Tensors, dtype: Dtype) -> (Tensors, Value) {
    let mut all = converted(release, dtype);
    let keys: Vec<String> =
        all.keys().filter(|key| key.ends_with("weight") && !key.contains("norm")).cloned().collect();
    let mut config = config();
    config["quantization"] = json!({"bits": 4, "group_size": 32, "mode": "affine"});
    for key in keys {
        if key.ends_with("mlp.gate.weight") {
            pack(&mut all, &key, 8, 64);
            config["quantization"][key.trim_end_matches(".weight")] = json!({"bits": 8, "group_size": 64});
        } else {
            pack(&mut all, &key, 4, 32);
        }
    }
    (all, config)
}

/// Writes a directory.
pub fn write(dir: &Path, tensors: &Tensors, config: &Value) {
    std::fs::create_dir_all(dir).expect("a directory");
    let views = tensors.iter().map(|(key, tensor)| {
        (key.clone(), TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("sound"))
    });
    let bytes = safetensors::serialize(views, None).expect("serializable");
    std::fs::write(dir.join("model.safetensors"), bytes).expect("writable");
    std::fs::write(dir.join("config.json"), config.to_string()).expect("writable");
}

/// Audits a conversion of [`release`].
pub fn audited(mlx: &Tensors, mlx_config: &Value) -> Report {
    audited_against(&release(), &config(), mlx, mlx_config)
}

/// Audits one set of tensors against another.
pub fn audited_against(release: &Tensors, config: &Value, mlx: &Tensors, mlx_config: &Value) -> Report {
    let dir = tempfile::tempdir().expect("a directory");
    let (one, other) = (dir.path().join("m"), dir.path().join("r"));
    write(&one, mlx, mlx_config);
    write(&other, release, config);
    audit(&request(&one, &other)).expect("a report")
}

/// A plain request.
pub fn request(mlx: &Path, release: &Path) -> Request {
    let names = (mlx.display().to_string(), release.display().to_string());
    Request {
        mlx: mlx.to_owned(),
        release: release.to_owned(),
        names,
        may_drop: Vec::new(),
        recipe: None,
        strict: false,
        memory: 64 << 20,
    }
}

/// The report has one fault of this kind, whose keys are these, and nothing else that fails.
pub fn expect_fault(report: &Report, kind: &str, keys: &[&str]) {
    let text = mlxport_audit::text(report);
    assert_eq!(report.verdict, "fail", "{text}");
    let finding =
        report.findings.iter().find(|finding| finding.kind == kind).unwrap_or_else(|| panic!("no {kind}: {text}"));
    for key in keys {
        assert!(finding.keys.iter().any(|found| found == key), "{key} is not named: {text}");
    }
    assert!(report.findings.iter().all(|finding| finding.kind == kind), "more than {kind}: {text}");
}
