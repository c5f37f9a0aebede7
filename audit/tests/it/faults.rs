//! Faults planted in a plain conversion.

use safetensors::Dtype;

use crate::model::{Tensor, Tensors, WIDTH, audited, config, converted, expect_fault, noise, release};

const Q0: &str = "model.layers.0.self_attn.q_proj.weight";
const K0: &str = "model.layers.0.self_attn.k_proj.weight";
const EXPERTS: &str = "model.layers.1.mlp.switch_mlp.up_proj.weight";

fn spoiled(dtype: Dtype, change: impl FnOnce(&mut Tensors)) -> mlxport_audit::Report {
    let mut mlx = converted(&release(), dtype);
    change(&mut mlx);
    audited(&mlx, &config())
}

fn one(key: &str, change: impl FnOnce(&Tensor) -> Tensor) -> mlxport_audit::Report {
    spoiled(Dtype::BF16, |mlx| {
        let changed = change(&mlx[key]);
        mlx.insert(key.to_owned(), changed);
    })
}

fn exchange(mlx: &mut Tensors, one: &str, other: &str) {
    let (a, b) = (mlx[one].clone(), mlx[other].clone());
    mlx.insert(one.to_owned(), b);
    mlx.insert(other.to_owned(), a);
}

#[test]
fn exchanged_tensors() {
    expect_fault(&spoiled(Dtype::BF16, |mlx| exchange(mlx, Q0, K0)), "swapped", &[Q0, K0]);
    let (a, b) = ("model.layers.0.input_layernorm.weight", "model.layers.0.post_attention_layernorm.weight");
    expect_fault(&spoiled(Dtype::F32, |mlx| exchange(mlx, a, b)), "swapped", &[a, b]);
    let up = "model.layers.1.mlp.switch_mlp.gate_proj.weight";
    expect_fault(&spoiled(Dtype::F16, |mlx| exchange(mlx, EXPERTS, up)), "swapped", &[EXPERTS, up]);
    let report = spoiled(Dtype::BF16, |mlx| {
        for key in mlx.keys().filter(|key| key.contains("layers.0.")).cloned().collect::<Vec<_>>() {
            exchange(mlx, &key, &key.replace("layers.0.", "layers.1."));
        }
    });
    expect_fault(&report, "swapped", &[Q0, EXPERTS]);
}

#[test]
fn experts_in_another_order() {
    let mut lexicographic: Vec<usize> = (0..12).collect();
    lexicographic.sort_by_key(usize::to_string);
    expect_fault(&one(EXPERTS, |t| t.rows(|at| lexicographic[at])), "expert-order", &[EXPERTS]);
    expect_fault(&one(EXPERTS, |t| t.rows(|at| [1, 0].get(at).copied().unwrap_or(at))), "swapped", &[EXPERTS]);
    expect_fault(&one(EXPERTS, |t| t.rows(|at| if at == 3 { 4 } else { at })), "duplicated", &[EXPERTS]);
}

#[test]
fn experts_renumbered_with_their_router_are_a_note() {
    let report = spoiled(Dtype::BF16, |mlx| {
        for key in mlx.keys().filter(|key| key.contains("layers.1.mlp")).cloned().collect::<Vec<_>>() {
            let turned = mlx[&key].rows(|at| (at + 5) % 12);
            mlx.insert(key, turned);
        }
    });
    assert_eq!(report.verdict, "pass", "{}", mlxport_audit::text(&report));
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, "experts-renumbered");
}

#[test]
fn rows_and_axes() {
    expect_fault(&one(Q0, Tensor::transposed), "transposed", &[Q0]);
    expect_fault(&one(Q0, |t| t.rows(|at| (at + 63) % 64)), "rows-rolled", &[Q0]);
    expect_fault(&one(Q0, |t| t.rows(|at| 63 - at)), "rows-reversed", &[Q0]);
    expect_fault(&one(Q0, |t| t.rows(|at| (3 - at / 16) * 16 + at % 16)), "heads-permuted", &[Q0]);
    let pairs = |at: usize| at / 16 * 16 + at % 2 * 8 + at % 16 / 2;
    expect_fault(&one(Q0, |t| t.rows(pairs)), "rope-permuted", &[Q0]);
    let table = "model.embed_tokens.weight";
    expect_fault(&one(table, |t| t.rows(|at| (at * 37 % 96) ^ 1)), "rows-permuted", &[table]);
}

#[test]
fn changed_values() {
    let norm = "model.norm.weight";
    expect_fault(&one(norm, |t| t.map(|v| v + 1.0)), "shifted", &[norm]);
    expect_fault(&one(norm, |t| t.map(|v| v * 1.01)), "scaled", &[norm]);
    expect_fault(&one(Q0, |t| t.map(|v| -v)), "negated", &[Q0]);
    expect_fault(&one(Q0, |t| t.map(|_| 0.0)), "zeroed", &[Q0]);
    expect_fault(&one(Q0, |t| t.with(&noise(99, 64 * WIDTH, 0.1))), "stale", &[Q0]);
    let bit = |t: &Tensor| {
        let mut flipped = t.clone();
        flipped.bytes[643] ^= 0x20;
        flipped
    };
    expect_fault(&one(Q0, bit), "altered", &[Q0]);
    let nan = |t: &Tensor| {
        let mut values = t.values();
        values[17] = f32::NAN;
        t.with(&values)
    };
    expect_fault(&one(Q0, nan), "not-finite", &[Q0]);
    let lora = |t: &Tensor| {
        let (a, b, values) = (noise(5, 128, 0.1), noise(6, 128, 0.5), t.values());
        let added: Vec<f32> = (0..values.len())
            .map(|at| {
                let (row, column) = (at / WIDTH, at % WIDTH);
                values[at] + a[row] * b[column] + a[row + 64] * b[column + 64]
            })
            .collect();
        t.with(&added)
    };
    expect_fault(&one(Q0, lora), "lora-merged", &[Q0]);
}

#[test]
fn lost_and_added_tensors() {
    let bias = "model.layers.1.self_attn.q_proj.bias";
    expect_fault(&spoiled(Dtype::BF16, |mlx| drop(mlx.remove(bias))), "missing", &[bias]);
    let copy = "model.layers.1.self_attn.extra_proj.weight";
    let doubled = |mlx: &mut Tensors| drop(mlx.insert(copy.to_owned(), mlx[Q0].clone()));
    expect_fault(&spoiled(Dtype::BF16, doubled), "duplicated", &[copy]);
    let foreign = Tensor::f32(&[64, WIDTH], &noise(77, 64 * WIDTH, 0.1));
    let added = |mlx: &mut Tensors| drop(mlx.insert(copy.to_owned(), foreign));
    expect_fault(&spoiled(Dtype::F32, added), "not-from-release", &[copy]);
    let cut = |mlx: &mut Tensors| {
        let head = &mlx["lm_head.weight"];
        let bytes = head.bytes[..80 * WIDTH * 2].to_vec();
        let head = Tensor { shape: vec![80, WIDTH], bytes, ..head.clone() };
        mlx.insert("lm_head.weight".to_owned(), head);
    };
    expect_fault(&spoiled(Dtype::BF16, cut), "cut", &["lm_head.weight"]);
}

#[test]
fn wrong_rounding_is_minor() {
    let mlx = converted(&release(), Dtype::BF16);
    let cut: Tensors = release()
        .into_iter()
        .filter(|(key, _)| !key.contains(".experts."))
        .map(|(key, tensor)| {
            let bytes = tensor.bytes.chunks(4).flat_map(|raw| [raw[2], raw[3]]).collect();
            (key, Tensor { dtype: Dtype::BF16, shape: tensor.shape, bytes })
        })
        .collect();
    let report = audited(&mlx.into_iter().chain(cut).collect(), &config());
    assert_eq!(report.verdict, "pass", "{}", mlxport_audit::text(&report));
    assert_eq!(report.findings.len(), 1, "{}", mlxport_audit::text(&report));
    assert_eq!(report.findings[0].kind, "rounding");
    assert!(report.findings[0].count > 10);
}
