//! A checkpoint with the released DeepSeek-OCR's keys and shapes: its own size, a smaller or a larger one.
//!
//! The weights are noise (or, sparse, zeros that take no room): time and memory of a conversion do not depend on them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

use crate::cargo;

/// The one weight file of such a release.
pub const WEIGHTS: &str = "model-00001-of-000001.safetensors";
/// The released model's routed experts in each layer.
const EXPERTS: u64 = 64;

/// How the release is to differ from the real one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Size {
    /// Decoder layers.
    pub layers: Option<u64>,
    /// Routed experts in each layer.
    pub experts: Option<u64>,
    /// Entries of the embedding and the output head.
    pub vocabulary: Option<u64>,
    /// Zeros that take no room on disk.
    pub sparse: bool,
}

/// Makes the release called `name` once; returns its folder.
///
/// # Errors
/// When it cannot be written.
pub fn make(name: &str, size: Size) -> Result<PathBuf> {
    let folder = super::folder().join(name);
    if folder.is_dir() {
        return Ok(folder);
    }
    let work = super::folder().join(format!("{name}.unfinished"));
    let _ = fs::remove_dir_all(&work);
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    eprintln!("bench: writing {}", folder.display());
    let (shapes, config) = (shapes(size)?, config(size)?);
    fs::write(work.join("config.json"), format!("{config:#}\n"))?;
    let files: Map<String, Value> = shapes.iter().map(|(key, _)| (key.clone(), json!(WEIGHTS))).collect();
    fs::write(work.join("model.safetensors.index.json"), json!({ "metadata": {}, "weight_map": files }).to_string())?;
    write(&work.join(WEIGHTS), &shapes, size.sparse)?;
    fs::rename(&work, &folder)?;
    Ok(folder)
}

fn testdata(name: &str) -> Result<Value> {
    let path = cargo::workspace_root().join("convert/testdata").join(name);
    let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_json::from_str(&text).with_context(|| path.display().to_string())
}

/// Keys with their shapes, in the file's order.
fn shapes(size: Size) -> Result<Vec<(String, Vec<u64>)>> {
    let released: Map<String, Value> = serde_json::from_value(testdata("deepseek-ocr.shapes.json")?)?;
    let experts = size.experts.unwrap_or(EXPERTS);
    let mut shapes = Vec::new();
    for (key, shape) in released {
        let mut shape: Vec<u64> = serde_json::from_value(shape)?;
        if size.layers.is_some_and(|layers| number_after(&key, "model.layers.").is_some_and(|at| at >= layers)) {
            continue;
        }
        if key.ends_with(".mlp.gate.weight") {
            shape[0] = experts;
        }
        if let (Some(entries), true) = (size.vocabulary, key.contains("embed_tokens") || key.contains("lm_head")) {
            shape[0] = entries;
        }
        match number_after(&key, ".experts.") {
            None => shapes.push((key, shape)),
            Some(0) => shapes
                .extend((0..experts).map(|at| (key.replace(".experts.0.", &format!(".experts.{at}.")), shape.clone()))),
            Some(_) => {}
        }
    }
    ensure!(!shapes.is_empty(), "the release has no keys");
    Ok(shapes)
}

fn number_after(key: &str, text: &str) -> Option<u64> {
    key.split_once(text)?.1.split('.').next()?.parse().ok()
}

/// The released config of that size.
fn config(size: Size) -> Result<Value> {
    let mut config = testdata("deepseek-ocr.config.json")?;
    let changes =
        [("num_hidden_layers", size.layers), ("n_routed_experts", size.experts), ("vocab_size", size.vocabulary)];
    for (field, value) in changes {
        let Some(value) = value else { continue };
        for part in ["", "/language_config"] {
            if let Some(fields) = config.pointer_mut(part).and_then(Value::as_object_mut) {
                fields.insert(field.to_owned(), json!(value));
            }
        }
    }
    Ok(config)
}

fn write(path: &Path, shapes: &[(String, Vec<u64>)], sparse: bool) -> Result<()> {
    let is_int = |key: &str| key.ends_with("position_ids");
    let mut header = Map::new();
    let mut byte_len = 0;
    for (key, shape) in shapes {
        let (dtype, size) = if is_int(key) { ("I64", 8) } else { ("BF16", 2) };
        let end = byte_len + shape.iter().product::<u64>() * size;
        header.insert(key.clone(), json!({ "dtype": dtype, "shape": shape, "data_offsets": [byte_len, end] }));
        byte_len = end;
    }
    let mut header = serde_json::to_vec(&header)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).with_context(|| path.display().to_string())?;
    file.write_all(&(header.len() as u64).to_le_bytes())?;
    file.write_all(&header)?;
    if sparse {
        return Ok(file.set_len(8 + header.len() as u64 + byte_len)?);
    }
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut state = 0;
    for (key, shape) in shapes {
        let count: u64 = shape.iter().product();
        for at in 0..if is_int(key) { count } else { count.div_ceil(4) } {
            let word = if is_int(key) { at } else { noise(&mut state) };
            let left = if is_int(key) { 8 } else { (2 * (count - 4 * at)).min(8) as usize };
            out.write_all(&word.to_le_bytes()[..left])?;
        }
    }
    out.flush().with_context(|| path.display().to_string())
}

/// Four bfloat16 of either sign between 2⁻⁷ and 2⁻³ (SplitMix64).
fn noise(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) & 0x81FF_81FF_81FF_81FF | 0x3C00_3C00_3C00_3C00
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_size_and_others() {
        let count = |size| shapes(size).expect("the shapes are there").len();
        assert_eq!(count(Size::default()), 2711);
        // Each layer but the first holds three matrices of every expert.
        assert_eq!(count(Size { experts: Some(65), ..Size::default() }), 2711 + 11 * 3);
        let small = shapes(Size { layers: Some(2), vocabulary: Some(8), ..Size::default() }).expect("the shapes");
        assert!(small.iter().all(|(key, _)| !key.starts_with("model.layers.2.")));
        assert!(small.iter().any(|(key, shape)| key == "lm_head.weight" && shape[0] == 8));
        let config = config(Size { layers: Some(2), ..Size::default() }).expect("the config is there");
        assert_eq!(config["language_config"]["num_hidden_layers"], 2);
    }

    #[test]
    fn noise_is_finite() {
        let mut state = 7;
        for _ in 0..1000 {
            let word = noise(&mut state);
            for lane in 0..4 {
                let value = f32::from_bits(((word >> (16 * lane)) as u16 as u32) << 16).abs();
                assert!((0.0078125..0.125).contains(&value), "{value}");
            }
        }
    }
}
