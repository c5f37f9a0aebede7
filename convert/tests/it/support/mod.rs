//! What the tests share: weights that are a pure function of their name, sources that compute them on demand, and small releases.

pub mod memory;
pub mod numbered;
pub mod pickled;
pub mod tiny;
pub mod weights;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use mlxport_convert::checkpoint::{SourceFile, TensorInfo, TensorSource};
use mlxport_convert::dtype::byte_len;
use mlxport_convert::{ConvertError, Violation, ViolationKind};
use safetensors::Dtype;
use serde_json::{Value, json};

/// Key → shape.
pub type Shapes = BTreeMap<String, Vec<u64>>;

/// The released checkpoint's keys and shapes.
pub fn release_shapes() -> Shapes {
    serde_json::from_str(include_str!("../../../testdata/deepseek-ocr.shapes.json")).expect("test data parses")
}

/// The released config.json.
pub fn release_config() -> Value {
    serde_json::from_str(include_str!("../../../testdata/deepseek-ocr.config.json")).expect("test data parses")
}

/// Key → (dtype, shape) of the layout that mlx-vlm loads.
pub fn release_layout() -> BTreeMap<String, (String, Vec<u64>)> {
    serde_json::from_str(include_str!("../../../testdata/deepseek-ocr.mlx-vlm-layout.json")).expect("test data parses")
}

/// The dtype a key has in a synthetic bfloat16 release.
pub fn release_dtype(key: &str) -> Dtype {
    if key.ends_with("position_ids") { Dtype::I64 } else { Dtype::BF16 }
}

/// A release whose bytes are computed when they are read; it takes no memory and no disk.
pub struct Virtual {
    tensors: BTreeMap<String, TensorInfo>,
}

impl Virtual {
    pub fn new(shapes: &Shapes) -> Self {
        let info = |key: &String, shape: &Vec<u64>| TensorInfo::row_major(release_dtype(key), shape.clone(), 0, 0);
        Self { tensors: shapes.iter().map(|(key, shape)| (key.clone(), info(key, shape))).collect() }
    }
}

impl TensorSource for Virtual {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.tensors
    }

    fn files(&self) -> &[SourceFile] {
        &[]
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let info = &self.tensors[key];
        let end = byte_offset + out.len() as u64;
        assert!(end <= byte_len(info.dtype, &info.shape).expect("counts"), "{key}: read beyond the end");
        let weights = weights::Weights::of(key, &info.shape);
        assert_eq!(byte_offset % 2, 0, "reads begin at an element");
        for (value, index) in out.as_chunks_mut::<2>().0.iter_mut().zip(byte_offset / 2..) {
            *value = weights.bf16(index).to_le_bytes();
        }
        Ok(())
    }
}

/// One tensor to put in a file: key, dtype, shape, bytes.
pub type Stored = (String, Dtype, Vec<u64>, Vec<u8>);

/// The bytes of a safetensors file with these tensors, in this order.
pub fn safetensors_bytes(tensors: &[Stored]) -> Vec<u8> {
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".into(), json!({"format": "pt"}));
    let mut data = Vec::new();
    for (key, dtype, shape, bytes) in tensors {
        let begin = data.len();
        data.extend_from_slice(bytes);
        let entry = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [begin, data.len()]});
        header.insert(key.clone(), entry);
    }
    raw_safetensors(&Value::Object(header).to_string(), &data)
}

/// A safetensors file with any header text.
pub fn raw_safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The tensors of a safetensors file, by key, read by the `safetensors` crate.
pub fn load(path: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let bytes = fs::read(path).expect("readable");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("the safetensors crate accepts it");
    file.iter()
        .map(|(name, view)| (name.to_owned(), (view.dtype(), view.shape().to_vec(), view.data().to_vec())))
        .collect()
}

/// Every tensor of a directory's safetensors files.
pub fn load_directory(path: &Path) -> BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)> {
    let names = names_in(path);
    let weights = names.iter().filter(|name| name.ends_with(".safetensors"));
    weights.flat_map(|name| load(&path.join(name))).collect()
}

/// The names in a directory, sorted.
pub fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).expect("a directory");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Whether a violation of this kind names this place.
pub fn has(violations: &[Violation], kind: ViolationKind, place: &str) -> bool {
    violations.iter().any(|violation| violation.kind == kind && violation.place.contains(place))
}
