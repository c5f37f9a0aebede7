//! Small releases written to disk: a recipe, a config, and safetensors files of any tensors.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Map, Value, json};

use crate::place;

/// One tensor with its bytes.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Its key.
    pub key: String,
    /// Element type.
    pub dtype: Dtype,
    /// Row-major shape.
    pub shape: Vec<u64>,
    /// Its elements, small whole numbers that every dtype holds exactly.
    pub values: Vec<u8>,
}

impl Tensor {
    /// Elements count up from `first`, modulo a prime, so that neighbours and tensors differ.
    pub fn counting(key: &str, dtype: Dtype, shape: &[u64], first: u64) -> Self {
        let count: u64 = shape.iter().product();
        let values = (0..count).map(|i| ((first.wrapping_mul(37).wrapping_add(i)) % 251) as u8).collect();
        Self { key: key.to_owned(), dtype, shape: shape.to_vec(), values }
    }

    fn bytes(&self) -> Vec<u8> {
        self.values.iter().flat_map(|&value| encode(self.dtype, value)).collect()
    }
}

/// A small whole number as an element, little endian.
///
/// # Panics
/// For dtypes other than F32, F16, BF16 and I64.
pub fn encode(dtype: Dtype, value: u8) -> Vec<u8> {
    // A whole number below 256 has at most eight significant bits: its f32 cut in half is the bfloat16.
    let wide = f32::from(value).to_le_bytes();
    match dtype {
        Dtype::F32 => wide.to_vec(),
        Dtype::BF16 => wide[2..].to_vec(),
        Dtype::F16 => half_bits(value).to_le_bytes().to_vec(),
        Dtype::I64 => i64::from(value).to_le_bytes().to_vec(),
        other => panic!("no elements of {other}"),
    }
}

/// The float16 of a small whole number: exponent biased by 15, ten bits of fraction.
fn half_bits(value: u8) -> u16 {
    let Some(exponent) = value.checked_ilog2() else { return 0 };
    let fraction = (u16::from(value) << (10 - exponent)) & 0x3ff;
    ((exponent as u16 + 15) << 10) | fraction
}

/// A release that is about to be written.
#[derive(Debug, Clone)]
pub struct Release {
    /// The recipe's text.
    pub recipe: String,
    /// config.json.
    pub config: String,
    /// The tensors of each file, in the order they lie in it.
    pub files: Vec<Vec<Tensor>>,
    /// Whether an index comes with them.
    pub indexed: bool,
}

impl Release {
    /// Writes it to `directory`, which is made anew; returns where the recipe lies.
    ///
    /// # Panics
    /// When the system cannot.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory).expect("a directory");
        place::write(&directory.join("config.json"), self.config.as_bytes());
        let mut map = Map::new();
        for (at, tensors) in self.files.iter().enumerate() {
            let name = Self::file_name(at);
            map.extend(tensors.iter().map(|tensor| (tensor.key.clone(), json!(name))));
            place::write(&directory.join(name), &file_bytes(tensors));
        }
        if self.indexed {
            let index = json!({ "metadata": { "total_size": 0 }, "weight_map": map });
            place::write(&directory.join("model.safetensors.index.json"), index.to_string().as_bytes());
        }
        let recipe = directory.join("recipe.toml");
        place::write(&recipe, self.recipe.as_bytes());
        recipe
    }

    /// The name of the file at that place.
    pub fn file_name(at: usize) -> String {
        format!("part-{at}.safetensors")
    }
}

fn file_bytes(tensors: &[Tensor]) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for tensor in tensors {
        let begin = data.len();
        data.extend(tensor.bytes());
        let entry = json!({
            "dtype": tensor.dtype.to_string(), "shape": tensor.shape, "data_offsets": [begin, data.len()],
        });
        header.insert(tensor.key.clone(), entry);
    }
    let header = Value::Object(header).to_string();
    let length = (header.len() as u64).to_le_bytes();
    [&length, header.as_bytes(), &data].concat()
}
