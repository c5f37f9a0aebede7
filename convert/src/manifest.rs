//! `mlxport.manifest.json`: what a converted directory is made of and how, so that anyone can check it later.

use std::path::Path;

use safetensors::Dtype;
use serde::{Deserialize, Serialize};

use crate::checkpoint::SourceFile;
use crate::error::ConvertError;
use crate::files::read_bounded;

/// The manifest's file name.
pub const MANIFEST_FILE: &str = "mlxport.manifest.json";
/// The schema this build writes and reads.
pub const SCHEMA: u32 = 2;
/// The longest manifest that is read, in bytes.
pub const MAX_BYTE_LEN: u64 = 256 << 20;

/// The whole manifest. It has no time and no path in it: two conversions of one checkpoint have the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Always `mlxport`.
    pub tool: String,
    /// The tool's version.
    pub version: String,
    /// The recipe's name.
    pub recipe: String,
    /// BLAKE3 of the recipe's text, in hex.
    pub recipe_blake3: String,
    /// The layout.
    pub layout: String,
    /// What was asked of float tensors: `keep`, `bf16`, `f16` or `f32`.
    pub dtype: String,
    /// What most weights were packed with, where any were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Packed>,
    /// What was changed in the config that a person may want to know.
    pub notes: Vec<String>,
    /// The files the weights came from.
    pub source_files: Vec<SourceFile>,
    /// Source tensors that were left out.
    pub dropped: Vec<DroppedRecord>,
    /// Every tensor that was written, in file order.
    pub tensors: Vec<TensorRecord>,
    /// Every other file of the directory but this one.
    pub files: Vec<FileRecord>,
}

/// A source tensor that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedRecord {
    /// Its key.
    pub key: String,
    /// The recipe row (from 1).
    pub row: usize,
    /// Why.
    pub reason: String,
}

/// One written tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRecord {
    /// Its key.
    pub name: String,
    /// The file it is in.
    pub file: String,
    /// dtype as written.
    pub dtype: Dtype,
    /// Shape as written.
    pub shape: Vec<u64>,
    /// Its bytes.
    pub byte_len: u64,
    /// How it was packed, where it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
    /// BLAKE3 of its bytes, in hex.
    pub blake3: String,
    /// The operation that made it.
    pub op: String,
    /// The recipe row (from 1).
    pub row: usize,
    /// What it was made of, in order.
    pub sources: Vec<SourceRecord>,
}

/// How a weight was packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// `affine`, `mxfp4`, `mxfp8` or `nvfp4`.
    pub mode: String,
    /// Bits of a weight.
    pub bits: u32,
    /// Weights that share a scale.
    pub group_size: u32,
}

/// One source tensor of a written one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its key.
    pub key: String,
    /// dtype as stored.
    pub dtype: Dtype,
    /// Shape as stored.
    pub shape: Vec<u64>,
}

/// One file of the converted directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Its name.
    pub name: String,
    /// Its length.
    pub byte_len: u64,
    /// How many of its first bytes `blake3` is of: all, or a weight file's header (its tensors have hashes of their own).
    pub hashed_byte_len: u64,
    /// BLAKE3 of those bytes, in hex.
    pub blake3: String,
}

impl Manifest {
    /// The manifest as text: fields on lines of their own, and one line for each element of a list, so that it can be read and compared.
    ///
    /// # Errors
    /// What serde says; it has no reason to fail.
    pub fn to_text(&self) -> Result<String, serde_json::Error> {
        let value = serde_json::to_value(self)?;
        let mut lines = Vec::new();
        for (name, field) in value.as_object().into_iter().flatten() {
            let name = serde_json::to_string(name)?;
            match field.as_array().filter(|list| !list.is_empty()) {
                None => lines.push(format!(" {name}: {field}")),
                Some(list) => {
                    let items: Vec<String> = list.iter().map(|item| format!("  {item}")).collect();
                    lines.push(format!(" {name}: [\n{}\n ]", items.join(",\n")));
                }
            }
        }
        Ok(format!("{{\n{}\n}}\n", lines.join(",\n")))
    }

    /// Reads the manifest of a converted directory.
    ///
    /// # Errors
    /// [`ConvertError::NoManifest`] when there is none; [`ConvertError::Io`] when it cannot be read or is not one.
    pub fn read(directory: &Path) -> Result<Self, ConvertError> {
        let path = directory.join(MANIFEST_FILE);
        if !path.is_file() {
            return Err(ConvertError::NoManifest { directory: directory.to_owned(), name: MANIFEST_FILE });
        }
        let bytes = read_bounded(&path, MAX_BYTE_LEN).map_err(ConvertError::io("read", &path))?;
        let invalid =
            |why: String| ConvertError::io("use", &path)(std::io::Error::new(std::io::ErrorKind::InvalidData, why));
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
        if manifest.schema == SCHEMA {
            Ok(manifest)
        } else {
            Err(invalid(format!("schema {}, this build reads {SCHEMA}", manifest.schema)))
        }
    }
}
