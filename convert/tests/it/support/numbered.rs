//! Tensors in memory whose elements say where they are from: element `i` is the float `i`.

use std::collections::BTreeMap;

use mlxport_convert::ConvertError;
use mlxport_convert::checkpoint::{SourceFile, TensorInfo, TensorSource, Unreadable};
use mlxport_convert::plan::{OutputTensor, plan};
use mlxport_convert::recipe::Recipe;
use mlxport_convert::transforms::Scratch;
use mlxport_convert::{DtypeChoice, Violation};
use safetensors::Dtype;
use serde_json::Value;

/// A source of such tensors.
pub struct Numbered(BTreeMap<String, TensorInfo>);

impl Numbered {
    pub fn new(shapes: &[(&str, &[u64])]) -> Self {
        let info = |shape: &[u64]| TensorInfo::row_major(Dtype::F32, shape.to_vec(), 0, 0);
        Self(shapes.iter().map(|(key, shape)| ((*key).to_owned(), info(shape))).collect())
    }

    /// The plan of this source, or what is wrong.
    pub fn plan(&self, recipe: &str, config: &Value) -> Result<Vec<OutputTensor>, Vec<Violation>> {
        let recipe = Recipe::parse(recipe, "test").map_err(|error| error.violations().to_vec())?;
        let normalized = recipe.config.normalize(config);
        let layout = recipe.layout(None).expect("a default layout");
        let (plan, violations) = plan(&recipe, &layout, DtypeChoice::Keep, normalized, &self.0, &Unreadable::default());
        if violations.is_empty() { Ok(plan.tensors) } else { Err(violations) }
    }

    /// All elements of an output, read in pieces of `piece` elements with blocks of `block` bytes.
    pub fn read(&self, output: &OutputTensor, piece: usize, block: usize) -> Vec<u64> {
        let mut scratch = Scratch::with_block_byte_len(block);
        let mut out = vec![0; output.assembly.len() as usize * 4];
        let mut first = 0;
        for piece in out.chunks_mut(piece * 4) {
            output.assembly.read(self, Dtype::F32, first, piece, &mut scratch).expect("reads");
            first += (piece.len() / 4) as u64;
        }
        out.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes) as u64).collect()
    }
}

impl TensorSource for Numbered {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        &self.0
    }

    fn files(&self) -> &[SourceFile] {
        &[]
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let count: u64 = self.0[key].shape.iter().product();
        assert!(byte_offset.is_multiple_of(4) && byte_offset + out.len() as u64 <= count * 4, "{key}: beyond the end");
        for (value, index) in out.as_chunks_mut::<4>().0.iter_mut().zip(byte_offset / 4..) {
            *value = (index as f32).to_le_bytes();
        }
        Ok(())
    }
}

/// A recipe of these rows (TOML, one a line) and no config fields.
pub fn rows(rows: &str) -> String {
    format!(
        "schema = 1\nname = \"t\"\nlayouts = [\"plain\"]\nfits = {{ model_type = [\"t\"] }}\n[table]\nrows = [\n{rows}\n]\n"
    )
}
