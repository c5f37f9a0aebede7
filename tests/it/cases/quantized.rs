//! Releases that another tool quantized, configs that only say so, and what mlxport packed itself.

use std::fs;
use std::path::Path;

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Case, converts, data, refused};
use crate::support::tensors;

#[test]
fn ct_pack() {
    let case = Case::empty();
    let source = data("cases/ct-pack/release");
    refused(&source, &case.target(), &[], &["num_bits", "quantization_config.config_groups"]);
    refused(&source, &case.target(), &["--dequantize"], &["num_bits", "quantization_config.config_groups"]);
}

/// Every element of the float8 weights times their blocks' scales.
#[test]
fn fp8_llama() {
    let case = Case::empty();
    let source = data("cases/fp8-llama/release");
    refused(&source, &case.target(), &[], &["FP8 (blocks of 128 x 128)", "--dequantize"]);
    let recipe = data("cases/left-quant-llama/llama.toml").display().to_string();
    let as_dtype =
        |dtype, target: &Path| converts(&source, target, &["--recipe", &recipe, "--dequantize", "--dtype", dtype]);
    let done = as_dtype("f32", &case.target());
    let stored = tensors::read(&source.join("model.safetensors"));
    let mut compared = 0;
    for (key, weight) in stored.iter().filter(|(_, tensor)| tensor.dtype == Dtype::F8_E4M3) {
        let scales = floats(&stored[&format!("{key}_scale_inv")].bytes);
        let (columns, across) = (weight.shape[1], weight.shape[1].div_ceil(128));
        let found = floats(&done.tensors[key].bytes);
        for (at, &byte) in weight.bytes.iter().enumerate() {
            let scale = scales[at / columns / 128 * across + at % columns / 128];
            assert_eq!(found[at], e4m3(byte) * scale, "{key}, element {at}");
            compared += 1;
        }
    }
    assert!(compared > 90_000);
    let short = as_dtype("bf16", &case.home.path().join("short"));
    assert!(short.tensors.values().all(|tensor| tensor.dtype == Dtype::BF16));
    for done in [done, short] {
        assert!(!done.config.contains("quantization_config") && !done.tensors.keys().any(|key| key.contains("scale")));
    }
}

#[test]
fn gptq() {
    let case = Case::whole();
    let mut all = tensors::read(&case.at("model.safetensors"));
    let is_packed =
        |key: &&String| key.contains(".layers.") && key.ends_with("_proj.weight") && !key.contains("vision");
    let packed: Vec<String> = all.keys().filter(is_packed).cloned().collect();
    for key in &packed {
        let weight = all.remove(key).expect("it is there");
        let module = key.strip_suffix(".weight").expect("a weight");
        let (out, inp) = (weight.shape[0], weight.shape[1]);
        let tensor = |dtype: Dtype, shape: Vec<usize>, width: usize| {
            let bytes = vec![0; shape.iter().product::<usize>() * width];
            tensors::Owned { dtype, shape, bytes }
        };
        all.insert(format!("{module}.qweight"), tensor(Dtype::I32, vec![inp / 8, out], 4));
        all.insert(format!("{module}.qzeros"), tensor(Dtype::I32, vec![1, out / 8], 4));
        all.insert(format!("{module}.scales"), tensor(Dtype::F16, vec![1, out], 2));
        all.insert(format!("{module}.g_idx"), tensor(Dtype::I32, vec![inp], 4));
    }
    assert!(packed.len() > 10);
    tensors::write(&case.at("model.safetensors"), &all);
    case.refused(&[], &["GPTQ", "qweight"]);
    let mut config: Value = serde_json::from_slice(&fs::read(case.at("config.json")).expect("read")).expect("JSON");
    config["quantization_config"] = json!({ "quant_method": "gptq", "bits": 4, "group_size": -1, "sym": true });
    case.write("config.json", &config.to_string());
    case.refused(&[], &["GPTQ (4 bits", "--dequantize"]);
    let done = case.converts(&["--dequantize"]);
    assert!(!done.tensors.keys().any(|key| key.contains("qweight")));
}

#[test]
fn left_quant_llama() {
    let case = Case::empty();
    let folder = data("cases/left-quant-llama");
    let recipe = folder.join("llama.toml").display().to_string();
    let float = case.home.path().join("float");
    let made = converts(&data("cases/fp8-llama/release"), &float, &["--dequantize", "--dtype", "f32"]);
    fs::copy(folder.join("config.json"), case.at("config.json")).expect("copied");
    tensors::write(&case.at("model.safetensors"), &made.tensors);
    let done = case.converts(&["--recipe", &recipe]);
    done.says(&["quantization_config was dropped"]);
    assert!(done.config().get("quantization_config").is_none(), "{}", done.config);
    let again = case.home.path().join("again");
    refused(&case.release(), &again, &["--recipe", &recipe, "--dequantize"], &["nothing to dequantize"]);
}

#[test]
fn read_converted() {
    let case = Case::empty();
    let recipe = data("cases/left-quant-llama/llama.toml").display().to_string();
    let at = |name: &str| case.home.path().join(name);
    let source = data("cases/fp8-llama/release");
    let float = converts(&source, &at("a"), &["--recipe", &recipe, "--dequantize", "--dtype", "f32"]);
    let packing = ["--quantize", "affine", "--group-size", "32"];
    let packed = converts(&at("a"), &at("b"), &[&["--recipe", &recipe], &packing[..]].concat());
    assert!(packed.tensors.contains_key("model.layers.0.mlp.up_proj.scales"));
    let by_itself = converts(&at("a"), &at("c"), &packing);
    assert!(by_itself.tensors.contains_key("model.layers.0.mlp.up_proj.scales"));
    let back = converts(&at("b"), &at("d"), &["--dequantize"]);
    assert!(back.tensors.keys().eq(float.tensors.keys()));
    converts(&at("d"), &at("e"), &["--quantize", "affine", "--bits", "8"]);
}

/// float8 e4m3fn by its definition.
fn e4m3(byte: u8) -> f32 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f32::from(byte & 7));
    let size = if exponent == 0 { mantissa / 512.0 } else { (1.0 + mantissa / 8.0) * 2_f32.powi(exponent - 7) };
    if byte & 0x7f == 0x7f { f32::NAN } else { size.copysign(if byte >= 128 { -1.0 } else { 1.0 }) }
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
