//! Recipes learned from small examples: what is learned, what is listed as ambiguous, and what cannot be said.

use std::path::Path;

use mlxport_audit::infer::{Inferred, Pair, Request, infer, summary};
use mlxport_convert::{ConvertError, prepare};
use safetensors::Dtype;
use serde_json::{Value, json};

use crate::model::{Tensor, Tensors, config, converted, noise, packed, release, write};

/// A release with its config, and an MLX side with its own.
struct Example {
    release: (Tensors, Value),
    mlx: (Tensors, Value),
}

impl Example {
    fn new(release: Tensors, mlx: Tensors, config: &Value) -> Self {
        Self { release: (release, config.clone()), mlx: (mlx, config.clone()) }
    }
}

fn learned(examples: &[Example]) -> Inferred {
    let dir = tempfile::tempdir().expect("a directory");
    let pairs = examples.iter().enumerate().map(|(at, example)| {
        let (release, mlx) = (dir.path().join(format!("r{at}")), dir.path().join(format!("m{at}")));
        write(&release, &example.release.0, &example.release.1);
        write(&mlx, &example.mlx.0, &example.mlx.1);
        Pair { release, mlx, names: (format!("r{at}"), format!("m{at}")) }
    });
    let outcome = infer(&Request { pairs: pairs.collect(), memory: 64 << 20 }).expect("an outcome");
    if let Some(recipe) = &outcome.recipe {
        proves_itself(dir.path(), recipe, examples.len());
    }
    outcome
}

/// The converter takes the recipe as it takes any other.
fn proves_itself(dir: &Path, recipe: &str, examples: usize) {
    let file = dir.join("learned.toml");
    std::fs::write(&file, recipe).expect("writable");
    for at in 0..examples {
        let request = mlxport_convert::Request {
            source: dir.join(format!("r{at}")),
            recipe: Some(file.display().to_string()),
            ..mlxport_convert::Request::default()
        };
        prepare(&request).unwrap_or_else(|error| panic!("{error}\n{recipe}"));
    }
}

/// The recipe, where one was learned.
fn recipe(outcome: &Inferred) -> &str {
    assert_eq!(outcome.verdict, "identical", "{}", summary(outcome));
    outcome.recipe.as_deref().expect("a recipe")
}

/// The one row that makes this target.
fn row<'a>(recipe: &'a str, target: &str) -> &'a str {
    let rows: Vec<&str> = recipe.lines().filter(|line| line.contains("to = ") && line.contains(target)).collect();
    assert_eq!(rows.len(), 1, "{target}: {recipe}");
    rows[0]
}

fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::f32(shape, &noise(seed, shape.iter().product(), 1.0))
}

fn tensors<const N: usize>(all: [(&str, Tensor); N]) -> Tensors {
    all.into_iter().map(|(key, tensor)| (key.to_owned(), tensor)).collect()
}

/// The tensor with its axes in another order.
fn permuted(tensor: &Tensor, order: &[usize]) -> Tensor {
    let shape: Vec<usize> = order.iter().map(|&axis| tensor.shape[axis]).collect();
    let values = tensor.values();
    let strides: Vec<usize> = (0..tensor.shape.len()).map(|axis| tensor.shape[axis + 1..].iter().product()).collect();
    let at = |mut flat: usize| {
        let mut from = 0;
        for (axis, &len) in shape.iter().enumerate().rev() {
            from += flat % len * strides[order[axis]];
            flat /= len;
        }
        values[from]
    };
    let count = values.len();
    Tensor { shape: shape.clone(), ..tensor.clone() }.with(&(0..count).map(at).collect::<Vec<_>>())
}

/// Some of the rows.
fn rows(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let row = tensor.bytes.len() / tensor.shape[0];
    let mut shape = tensor.shape.clone();
    shape[0] = to - from;
    Tensor { shape, bytes: tensor.bytes[from * row..to * row].to_vec(), ..tensor.clone() }
}

#[test]
fn a_mixture_of_experts_is_rows_over_layers_and_experts() {
    let outcome = learned(&[Example::new(release(), converted(&release(), Dtype::F32), &config())]);
    let text = recipe(&outcome);
    assert_eq!((outcome.identical, outcome.dtype, outcome.packed), (25, None, false), "{text}");
    let up = row(text, "switch_mlp.up_proj");
    assert!(up.contains(r#"from = "model.layers.{layer}.mlp.experts.{expert}.up_proj.weight""#), "{up}");
    assert!(
        up.contains(r#"op = "stack", over = "expert", to = "model.layers.{layer}.mlp.switch_mlp.up_proj.weight""#),
        "{up}"
    );
    assert!(
        text.contains("layer = { count = \"num_hidden_layers\" }\n")
            && text.contains("expert = { count = \"num_experts\" }\n"),
        "{text}"
    );
    assert!(row(text, "embed_tokens").contains(r#"shape = ["vocab_size", "hidden_size"]"#), "{text}");
    assert!(
        outcome.ambiguous.iter().any(|line| line.contains("num_attention_heads * head_dim")),
        "{}",
        summary(&outcome)
    );
}

#[test]
fn casts_and_packing_are_named_and_the_recipe_is_the_same() {
    let cast = learned(&[Example::new(release(), converted(&release(), Dtype::BF16), &config())]);
    assert_eq!(cast.dtype, Some("bf16"));
    let (mlx, mlx_config) = packed(&release(), Dtype::BF16);
    let example = Example { release: (release(), config()), mlx: (mlx, mlx_config) };
    let outcome = learned(&[example]);
    assert!(outcome.packed && recipe(&outcome).contains("says nothing of packing"));
    let body = |text: &str| text[text.find("schema = 1").expect("a body")..].to_owned();
    assert_eq!(body(recipe(&outcome)), body(recipe(&cast)));
}

#[test]
fn axes_parts_and_names_are_found_by_content() {
    let (fused, bias) = (tensor(1, &[48, 16]), tensor(2, &[48]));
    let (kernel, deep) = (tensor(3, &[12, 3, 5, 4]), tensor(4, &[10, 6, 3]));
    let (one, other) = (tensor(5, &[20, 16]), tensor(6, &[7, 16]));
    let norm = tensor(7, &[16]);
    let release = tensors([
        ("net.attn.in_all.weight", fused.clone()),
        ("net.attn.in_all.bias", bias.clone()),
        ("net.patch.weight", kernel.clone()),
        ("net.filter.weight", deep.clone()),
        ("net.first.weight", one.clone()),
        ("net.second.weight", other.clone()),
        ("net.scale", norm.clone()),
    ]);
    let joined = Tensor { shape: vec![27, 16], bytes: [one.bytes, other.bytes].concat(), ..norm.clone() };
    let mlx = tensors([
        ("a.q.weight", rows(&fused, 0, 16)),
        ("a.k.weight", rows(&fused, 16, 32)),
        ("a.v.weight", rows(&fused, 32, 48)),
        ("a.q.bias", rows(&bias, 0, 16)),
        ("a.k.bias", rows(&bias, 16, 32)),
        ("a.v.bias", rows(&bias, 32, 48)),
        ("p.weight", permuted(&kernel, &[0, 2, 3, 1])),
        ("f.weight", permuted(&deep, &[0, 2, 1])),
        ("j.weight", joined),
        ("n.weight", norm),
    ]);
    let config = json!({ "model_type": "net", "width": 16, "parts": 7 });
    let outcome = learned(&[Example::new(release, mlx, &config)]);
    let text = recipe(&outcome);
    for (target, said) in [
        ("\"a.q.weight\"", r#"op = "split", axis = 0, to = ["a.q.weight", "a.k.weight", "a.v.weight"]"#),
        ("\"a.q.bias\"", r#"op = "split", axis = 0, to = ["a.q.bias", "a.k.bias", "a.v.bias"]"#),
        ("\"p.weight\"", r#"op = "conv_oihw_to_ohwi", to = "p.weight""#),
        ("\"f.weight\"", r#"op = "permute", order = [0, 2, 1], to = "f.weight""#),
        ("\"j.weight\"", r#"from = ["net.first.weight", "net.second.weight"]"#),
        ("\"n.weight\"", r#"from = "net.scale", shape = ["width"], to = "n.weight""#),
    ] {
        assert!(row(text, target).contains(said), "{target}: {text}");
    }
}

#[test]
fn norms_of_ones_go_by_name_and_say_so() {
    let ones = |count: usize| Tensor::f32(&[count], &vec![1.0; count]);
    let layer = |at: usize| format!("h.{at}");
    let (mut release, mut mlx) = (Tensors::new(), Tensors::new());
    for at in 0..3 {
        let weight = tensor(at as u64 + 1, &[16, 16]);
        release.insert(format!("{}.attn.weight", layer(at)), weight.clone());
        mlx.insert(format!("layers.{at}.attn.weight"), weight);
        for name in ["ln_1", "ln_2"] {
            release.insert(format!("{}.{name}.weight", layer(at)), ones(16));
            mlx.insert(format!("layers.{at}.{name}_norm.weight"), ones(16));
        }
    }
    let config = json!({ "model_type": "net", "n_embd": 16, "n_layer": 3 });
    let outcome = learned(&[Example::new(release, mlx, &config)]);
    let text = recipe(&outcome);
    assert_eq!(outcome.by_name, 6);
    assert!(row(text, "ln_2_norm").contains(r#"from = "h.{layer}.ln_2.weight""#), "{text}");
    assert!(text.contains("# by name alone"), "{text}");
}

/// A head, an embedding and a projection of a model of these sizes.
fn sized(width: usize, heads: usize, head_dim: usize) -> Example {
    let names = ["embed_tokens", "q_proj", "up_proj"];
    let shapes = [[40, width], [heads * head_dim, width], [2 * width, width]];
    let all: Tensors = (1..)
        .zip(names)
        .zip(shapes)
        .map(|((seed, name), shape)| (format!("{name}.weight"), tensor(seed, &shape)))
        .collect();
    let config = json!({
        "model_type": "net", "hidden_size": width, "num_attention_heads": heads, "head_dim": head_dim, "vocab_size": 40,
        "intermediate_size": 2 * width, "list_size": 64,
    });
    Example::new(all.clone(), all, &config)
}

#[test]
fn a_second_pair_settles_what_a_size_is() {
    let first = learned(&[sized(32, 4, 8)]);
    assert!(
        first.ambiguous.iter().any(|line| line.starts_with("intermediate_size") && line.contains("list_size")),
        "{}",
        summary(&first)
    );
    let both = learned(&[sized(32, 4, 8), sized(24, 3, 6)]);
    let text = recipe(&both);
    assert!(row(text, "q_proj").contains(r#"shape = ["num_attention_heads * head_dim", "hidden_size"]"#), "{text}");
    assert!(row(text, "up_proj").contains(r#"shape = ["intermediate_size", "hidden_size"]"#), "{text}");
    assert!(!both.ambiguous.iter().any(|line| line.contains("list_size")), "{}", summary(&both));
}

#[test]
fn what_is_left_out_is_dropped_with_a_reason() {
    let embedding = tensor(1, &[40, 16]);
    let mut mlx = tensors([("model.embed_tokens.weight", embedding.clone())]);
    for at in 0..2 {
        mlx.insert(format!("model.layers.{at}.q.weight"), tensor(at + 5, &[16, 16]));
    }
    let mut release = mlx.clone();
    release.insert("lm_head.weight".to_owned(), embedding);
    release.insert("model.layers.0.rotary_emb.inv_freq".to_owned(), tensor(2, &[4]));
    release.insert("model.layers.1.rotary_emb.inv_freq".to_owned(), tensor(2, &[4]));
    release.insert("model.vision_tower.blocks.0.weight".to_owned(), tensor(3, &[8, 8]));
    release.insert("model.vision_tower.blocks.1.weight".to_owned(), tensor(4, &[8, 8]));
    let config = json!({ "model_type": "net", "vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2 });
    let outcome = learned(&[Example::new(release, mlx, &config)]);
    let text = recipe(&outcome);
    for said in [
        r#"from = "lm_head.weight", shape = ["vocab_size", "hidden_size"], optional = true, op = "drop", same_as = "model.embed_tokens.weight""#,
        r#"from = "model.layers.{layer}.rotary_emb.inv_freq", optional = true, op = "drop", reason = "a buffer that the port computes""#,
        r#"from = "model.vision_tower.*", optional = true, op = "drop""#,
    ] {
        assert!(text.contains(said), "{said}: {text}");
    }
}

#[test]
fn a_norm_plus_one_is_an_addition() {
    let norm = tensor(1, &[16]);
    let release = tensors([("model.norm.weight", norm.clone())]);
    let mlx = tensors([("model.norm.weight", norm.map(|value| value + 1.0))]);
    let outcome = learned(&[Example::new(release, mlx, &json!({ "model_type": "net", "hidden_size": 16 }))]);
    assert!(row(recipe(&outcome), "norm").contains(r#"op = "add", number = 1"#));
}

#[test]
fn what_the_format_cannot_say_is_reported() {
    let good = converted(&release(), Dtype::F32);
    let cannot = |change: &dyn Fn(&mut Tensors), said: &str| {
        let mut mlx = good.clone();
        change(&mut mlx);
        let outcome = learned(&[Example::new(release(), mlx, &config())]);
        assert!(outcome.verdict == "cannot" && outcome.recipe.is_none());
        assert!(summary(&outcome).contains(said), "{said}: {}", summary(&outcome));
    };
    let key = "model.layers.0.mlp.switch_mlp.up_proj.weight";
    let lexicographic = [0, 1, 10, 11, 2, 3, 4, 5, 6, 7, 8, 9];
    cannot(
        &|mlx| {
            let tensor = mlx[key].rows(|at| lexicographic[at]);
            mlx.insert(key.to_owned(), tensor);
        },
        "it is a stack in another order than 0, 1, 2, …: 0, 1, 10, 11, 2",
    );
    let scaled = "model.layers.1.self_attn.o_proj.weight";
    cannot(
        &|mlx| {
            let tensor = mlx[scaled].map(|value| value * 0.5);
            mlx.insert(scaled.to_owned(), tensor);
        },
        "scaled",
    );
    cannot(
        &|mlx| {
            mlx.insert("model.extra.weight".to_owned(), tensor(99, &[5, 7]));
        },
        "no tensor of the release has these values",
    );
    cannot(
        &|mlx| {
            let tensor = rows(&mlx["lm_head.weight"], 0, 90);
            mlx.insert("lm_head.weight".to_owned(), tensor);
        },
        "steps 90 to 96",
    );
}

#[test]
fn hostile_names_and_configs_are_answers_or_errors() {
    let dir = tempfile::tempdir().expect("a directory");
    let request = |release: &Path, mlx: &Path| Request {
        pairs: vec![Pair {
            release: release.to_owned(),
            mlx: mlx.to_owned(),
            names: ("r\n# x".to_owned(), "m".to_owned()),
        }],
        memory: 64 << 20,
    };
    let odd = tensors([("a{b}.\"q\"\n.weight", tensor(1, &[4, 4])), ("a.99999999999999999999.w*", tensor(2, &[4, 4]))]);
    let deep = (0..100).fold(json!(1), |inner, _| json!({ "a": inner }));
    let config = json!({ "model_type": "x\"\n]", "n": u64::MAX, "i": 4, "deep": deep, "list": vec![4; 10_000], "": 4 });
    write(&dir.path().join("r"), &odd, &config);
    write(&dir.path().join("m"), &odd, &config);
    let outcome = infer(&request(&dir.path().join("r"), &dir.path().join("m"))).expect("an outcome");
    assert_eq!(outcome.verdict, "cannot", "{}", summary(&outcome));
    std::fs::create_dir(dir.path().join("empty")).expect("a directory");
    for broken in ["empty", "gone"] {
        let error = infer(&request(&dir.path().join("r"), &dir.path().join(broken))).expect_err("an error");
        assert!(!matches!(error, ConvertError::SourceChanged { .. }));
    }
}
