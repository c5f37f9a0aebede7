//! Faults planted in a packed conversion.

use safetensors::Dtype;
use serde_json::json;

use crate::model::{Tensors, audited, converted, expect_fault, pack, packed, release};

const GATE: &str = "model.layers.0.mlp.switch_mlp.gate_proj";
const UP: &str = "model.layers.0.mlp.switch_mlp.up_proj";
const Q0: &str = "model.layers.0.self_attn.q_proj";

fn spoiled(change: impl FnOnce(&mut Tensors)) -> mlxport_audit::Report {
    let (mut mlx, config) = packed(&release(), Dtype::F32);
    change(&mut mlx);
    audited(&mlx, &config)
}

fn exchange(mlx: &mut Tensors, one: &str, other: &str, parts: &[&str]) {
    for part in parts {
        let (one, other) = (format!("{one}.{part}"), format!("{other}.{part}"));
        let (a, b) = (mlx[&one].clone(), mlx[&other].clone());
        mlx.insert(one, b);
        mlx.insert(other, a);
    }
}

#[test]
fn exchanged_modules_and_parts() {
    let whole = spoiled(|mlx| exchange(mlx, GATE, UP, &["weight", "scales", "biases"]));
    expect_fault(&whole, "swapped", &[&format!("{GATE}.weight"), &format!("{UP}.scales")]);
    let k0 = Q0.replace('q', "k");
    let scales = spoiled(|mlx| exchange(mlx, Q0, &k0, &["scales", "biases"]));
    expect_fault(&scales, "scales", &[&format!("{Q0}.scales"), &format!("{k0}.biases")]);
}

#[test]
fn scales_moved_along_and_a_module_of_other_rows() {
    let rolled = spoiled(|mlx| {
        let key = format!("{Q0}.scales");
        let mut scales = mlx[&key].clone();
        scales.bytes.rotate_right(4);
        mlx.insert(key, scales);
    });
    expect_fault(&rolled, "scales", &[&format!("{Q0}.scales")]);
    let turned = spoiled(|mlx| {
        for part in ["weight", "scales", "biases"] {
            let key = format!("model.embed_tokens.{part}");
            let tensor = mlx[&key].rows(|at| (at + 95) % 96);
            mlx.insert(key, tensor);
        }
    });
    expect_fault(&turned, "rows-rolled", &["model.embed_tokens.weight"]);
}

#[test]
fn claims_that_are_not_true() {
    let (mlx, mut config) = packed(&release(), Dtype::BF16);
    config["quantization"]["bits"] = json!(8);
    let report = audited(&mlx, &config);
    assert_eq!(report.verdict, "pass", "{}", mlxport_audit::text(&report));
    assert_eq!(report.findings[0].kind, "quantization-claim");
    config.as_object_mut().expect("an object").remove("quantization");
    expect_fault(&audited(&mlx, &config), "quantization-claim", &[]);
}

#[test]
fn a_router_of_four_bits_is_minor() {
    let (mut mlx, mut config) = packed(&release(), Dtype::BF16);
    let key = "model.layers.0.mlp.gate.weight";
    mlx.insert(key.to_owned(), converted(&release(), Dtype::BF16)[key].clone());
    pack(&mut mlx, key, 4, 32);
    config["quantization"]["model.layers.0.mlp.gate"] = json!({"bits": 4, "group_size": 32});
    let report = audited(&mlx, &config);
    assert_eq!((report.verdict, report.findings.len()), ("pass", 1), "{}", mlxport_audit::text(&report));
    assert_eq!(report.findings[0].kind, "should-not-be-packed");
}

#[test]
fn unpacked_weights_sold_as_whole_ones() {
    let mut mlx = converted(&release(), Dtype::BF16);
    let key = format!("{Q0}.weight");
    let coarse = mlx[&key].map(|v| (v * 32.0).round() / 32.0);
    let levels = coarse.values();
    assert!(levels.iter().all(|v| v.abs() < 0.3));
    mlx.insert(key.clone(), coarse);
    expect_fault(&audited(&mlx, &crate::model::config()), "dequantized", &[&key]);
}
