//! FP8 and int8: a code for each weight, with scales beside it.

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::dtype::is_float;
use crate::error::ViolationKind;
use crate::prequantized::declared::{Method, pair};
use crate::prequantized::grid::{Blocks, Grid};
use crate::prequantized::{Form, Packed, parts};

use super::{FLOATS, Finder, stored};

impl Finder<'_> {
    /// A tensor of codes. FP8 without a scale is a weight like others where the release says nothing of scales or leaves the module out.
    pub(super) fn grid(&mut self, key: &str, info: &TensorInfo) {
        // A zero point is a part of its weight, which claims it.
        let weight = key.strip_suffix("_zero_point");
        if weight
            .is_some_and(|key| self.tensors.contains_key(key) || self.tensors.contains_key(&format!("{key}_packed")))
        {
            return;
        }
        let module = key.strip_suffix(".weight").unwrap_or(key);
        let Some(scale_key) = parts::scale_key(key, self.tensors) else {
            let covered = self.declared.as_ref().is_some_and(|declared| {
                let scaled = matches!(declared.method, Method::Fp8 | Method::CompressedTensors);
                scaled && info.shape.len() > 1 && !declared.leaves_out(module)
            });
            if covered && parts::left_out(key).is_none() {
                let expected = format!("{key}_scale_inv or {key}_scale, for its {} codes", info.dtype);
                self.complain(ViolationKind::MissingKey, key, expected, "no scale in any file");
            }
            return;
        };
        let method = self.declared.as_ref().map_or(Method::Fp8, |declared| declared.method.clone());
        if info.dtype == Dtype::I8 && method != Method::CompressedTensors {
            let expected = "a config that says what its int8 codes are (compressed-tensors)";
            self.complain(ViolationKind::Unsupported, key, expected, method.name().to_owned());
            return;
        }
        let Some((grid, own)) = self.laid(key, info, &scale_key) else { return };
        let scale_dtype = grid.scales.dtype;
        let arithmetic = match method {
            Method::CompressedTensors if is_float(scale_dtype) => scale_dtype,
            _ => Dtype::F32,
        };
        let kept = match method {
            Method::CompressedTensors if is_float(scale_dtype) => scale_dtype,
            _ => self.model_dtype().unwrap_or(if is_float(scale_dtype) { scale_dtype } else { Dtype::BF16 }),
        };
        let dtype = self.read_as(kept);
        let (key, shape) = (key.to_owned(), info.shape.clone());
        self.weights.push(Packed { key, shape, arithmetic, dtype, parts: own, form: Form::Grid(grid) });
    }

    /// The codes with their scales laid over them, and the keys of all.
    fn laid(&mut self, key: &str, info: &TensorInfo, scale_key: &str) -> Option<(Grid, Vec<String>)> {
        const SCALES: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F8_E8M0, Dtype::U8];
        self.part(key, &[info.dtype])?;
        let scales = self.part(scale_key, SCALES)?;
        let (rows, cols) = match *info.shape.as_slice() {
            [] => (1, 1),
            [cols] => (1, cols),
            [.., rows, cols] => (rows, cols),
        };
        let matrices = info.shape.iter().rev().skip(2).product::<u64>();
        let Some(blocks) = Blocks::lay(&scales.shape, matrices, rows, cols, self.block_of(key)) else {
            let expected = format!("a scale for each block, row or matrix of {:?}", info.shape);
            self.misshapen(scale_key, expected, &scales.shape);
            return None;
        };
        let mut own = vec![key.to_owned(), scale_key.to_owned()];
        let zero_key = format!("{key}_zero_point");
        let mut zeros = None;
        if self.tensors.contains_key(&zero_key) {
            const ZEROS: &[Dtype] = &[Dtype::I8, Dtype::I32, Dtype::F8_E4M3, Dtype::F32, Dtype::F16, Dtype::BF16];
            let part = self.part(&zero_key, ZEROS)?;
            if part.shape != scales.shape {
                self.misshapen(&zero_key, format!("{:?}, a zero point for each scale", scales.shape), &part.shape);
                return None;
            }
            zeros = Some(stored(&zero_key, part));
            own.push(zero_key);
        }
        let g_idx = format!("{key}_g_idx");
        if self.tensors.contains_key(&g_idx) {
            let found = "columns in an order of their own (weight_g_idx) with a code for each weight";
            self.complain(ViolationKind::Unsupported, &g_idx, "columns of a group side by side", found);
            return None;
        }
        let shape_key = format!("{key}_shape");
        if self.tensors.contains_key(&shape_key) {
            own.push(shape_key);
        }
        let grid = Grid { codes: stored(key, info), scales: stored(scale_key, scales), zeros, rows, cols, blocks };
        Some((grid, own))
    }

    /// The block that the config declares for a weight.
    fn block_of(&self, key: &str) -> Option<(u64, u64)> {
        let declared = self.declared.as_ref()?;
        let module = key.strip_suffix(".weight").unwrap_or(key);
        let own = || pair(declared.weights_of(module)?.get("block_structure")?);
        declared.block().or_else(own)
    }

    /// Floats that a product is computed in.
    pub(super) fn scale_part(&mut self, key: &str) -> Option<&TensorInfo> {
        self.part(key, FLOATS)
    }

    /// A whole number of what compressed-tensors says of a module's weights.
    pub(super) fn weights_number(&self, module: &str, name: &str) -> Option<i64> {
        self.declared.as_ref()?.weights_of(module)?.get(name).and_then(Value::as_i64)
    }
}
