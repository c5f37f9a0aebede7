//! Good conversions: nothing is found.

use std::path::Path;

use mlxport_audit::audit;
use safetensors::Dtype;

use crate::model::{Tensors, audited, audited_against, config, converted, packed, release, request};

fn silent(report: &mlxport_audit::Report) {
    assert_eq!(report.verdict, "pass", "{}", mlxport_audit::text(report));
    assert!(report.findings.is_empty(), "{}", mlxport_audit::text(report));
    assert_eq!(report.tensors["matched"], report.tensors["total"]);
}

#[test]
fn stored_rounded_and_packed() {
    let release = release();
    for dtype in [Dtype::F32, Dtype::BF16, Dtype::F16] {
        silent(&audited(&converted(&release, dtype), &config()));
        let (mlx, config) = packed(&release, dtype);
        silent(&audited(&mlx, &config));
    }
}

#[test]
fn what_mlx_lm_made() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
    silent(&audit(&request(&data.join("mistral-4bit"), &data.join("release-mistral"))).expect("a report"));
}

#[test]
fn other_prefixes_are_the_same_places() {
    let release = release();
    let renamed = |prefix: &str| -> Tensors {
        release.iter().map(|(key, tensor)| (format!("{prefix}{key}"), tensor.clone())).collect()
    };
    let mlx = converted(&release, Dtype::BF16);
    let mlx: Tensors = mlx.into_iter().map(|(key, tensor)| (format!("language_model.{key}"), tensor)).collect();
    silent(&audited_against(&renamed(""), &config(), &mlx, &config()));
}

#[test]
fn buffers_and_a_tied_head_may_go() {
    let mut release = release();
    let embedding = release["model.embed_tokens.weight"].clone();
    release.insert("lm_head.weight".to_owned(), embedding.clone());
    release.insert("model.layers.0.self_attn.rotary_emb.inv_freq".to_owned(), embedding);
    let mut mlx = converted(&release, Dtype::BF16);
    mlx.remove("lm_head.weight");
    mlx.remove("model.layers.0.self_attn.rotary_emb.inv_freq");
    let mut tied = config();
    tied["tie_word_embeddings"] = true.into();
    silent(&audited_against(&release, &tied, &mlx, &tied));
}
