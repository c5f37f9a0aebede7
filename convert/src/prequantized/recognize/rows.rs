//! compressed-tensors' `pack-quantized`.

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::error::ViolationKind;
use crate::prequantized::block::Stored;
use crate::prequantized::rows::Rows;
use crate::prequantized::{Form, Packed};

use super::{FLOATS, Finder, WORDS, stored};

/// Where compressed-tensors says how weights are packed.
const GROUPS: &str = "config.json: quantization_config.config_groups";

impl Finder<'_> {
    /// A module's packed words with what belongs to them.
    pub(super) fn rows(&mut self, module: &str, info: &TensorInfo) {
        let key = |part: &str| format!("{module}.weight{part}");
        let Some(bits) = self.packed_bits(module, info) else { return };
        let Some((words, scales)) = self.part(&key("_packed"), WORDS).zip(self.part(&key("_scale"), FLOATS)) else {
            return;
        };
        let Some((stack, [rows, per_row])) = split(&words.shape) else {
            self.misshapen(&key("_packed"), "words of a matrix".into(), &words.shape);
            return;
        };
        let Some(cols) = self.columns_of(module, bits, rows, per_row) else { return };
        let matrices = stack.iter().product::<u64>();
        let Some((groups, group, one_line)) = self.groups_of(module, matrices, rows, cols, scales) else { return };
        let zero_count = |plain| match plain {
            true => scales.shape.iter().product(),
            false => matrices * (rows * u64::from(bits)).div_ceil(32) * groups,
        };
        let Some(zeros) = self.zeros(module, &key("_zero_point"), zero_count) else { return };
        let Some(g_idx) = self.optional_part(&key("_g_idx"), WORDS, cols) else { return };
        let mut own = vec![key("_packed"), key("_scale")];
        own.extend(Some(key("_shape")).filter(|key| self.tensors.contains_key(key)));
        own.extend([&zeros, &g_idx].into_iter().flatten().map(|part| part.key.clone()));
        let (arithmetic, dtype) = (scales.dtype, self.read_as(scales.dtype));
        let shape: Vec<u64> = stack.iter().copied().chain([rows, cols]).collect();
        let form = Form::Rows(Rows {
            words: stored(&key("_packed"), words),
            scales: stored(&key("_scale"), scales),
            zeros,
            g_idx,
            bits,
            matrices,
            rows,
            cols,
            groups,
            group,
            one_line,
        });
        self.weights.push(Packed { key: key(""), shape, arithmetic, dtype, parts: own, form });
    }

    /// A module's zero points, `count` of them (told whether one byte holds one). `Some(None)`: its codes need none.
    fn zeros(&mut self, module: &str, key: &str, count: impl Fn(bool) -> u64) -> Option<Option<Stored>> {
        // Packed, or, as compressed-tensors wrote them before 0.9, one byte for each scale.
        let plain = self.tensors.get(key).is_some_and(|info| info.dtype == Dtype::I8);
        let dtypes = if plain { &[Dtype::I8] } else { WORDS };
        let zeros = self.optional_part(key, dtypes, count(plain))?;
        if zeros.is_none() && self.weights_flag(module, "symmetric") == Some(false) {
            let expected = "zero points: the config says that the module is not symmetric";
            self.complain(ViolationKind::MissingKey, key, expected, "nothing");
            return None;
        }
        Some(zeros)
    }

    /// A part that may be absent (`Some(None)`), of `count` elements. `None` after a complaint.
    fn optional_part(&mut self, key: &str, dtypes: &[Dtype], count: u64) -> Option<Option<Stored>> {
        if !self.tensors.contains_key(key) {
            return Some(None);
        }
        let info = self.part(key, dtypes)?;
        if info.shape.iter().product::<u64>() != count {
            self.misshapen(key, format!("{count} elements"), &info.shape);
            return None;
        }
        Some(Some(stored(key, info)))
    }

    /// How many bits the config gives a module's codes.
    fn packed_bits(&mut self, module: &str, info: &TensorInfo) -> Option<u32> {
        let place = format!("{module}.weight_packed");
        let kind = self.declared.as_ref().and_then(|declared| declared.weights_of(module)?.get("type")?.as_str());
        if kind.is_some_and(|kind| kind != "int") || info.dtype == Dtype::U8 {
            let found =
                format!("packed {} codes, which mlxport does not read; {}", kind.unwrap_or("U8"), super::WHAT_TO_DO);
            self.complain(ViolationKind::Unsupported, &place, "packed integers", found);
            return None;
        }
        let bits = self.weights_number(module, "num_bits").and_then(|bits| u32::try_from(bits).ok());
        match bits {
            Some(bits @ 1..=8) => Some(bits),
            other => {
                // Where one is not covered the others are not, either: once is enough.
                if other.is_some() || !self.violations.iter().any(|violation| violation.place == GROUPS) {
                    let found =
                        other.map_or("nothing: no group of config_groups covers it".into(), |bits| bits.to_string());
                    let expected = format!("num_bits of {module}'s weights, from 1 to 8");
                    self.complain(ViolationKind::Config, GROUPS, expected, found);
                }
                None
            }
        }
    }

    fn weights_flag(&self, module: &str, name: &str) -> Option<bool> {
        self.declared.as_ref()?.weights_of(module)?.get(name).and_then(Value::as_bool)
    }

    /// How many columns the words stand for: what `weight_shape` says, else as many as they have room for.
    fn columns_of(&mut self, module: &str, bits: u32, rows: u64, per_row: u64) -> Option<u64> {
        let key = format!("{module}.weight_shape");
        let room = per_row.saturating_mul(32) / u64::from(bits);
        let Some(info) = self.tensors.get(&key) else { return Some(room) };
        let size = info.dtype.bitsize() / 8;
        let count = info.shape.iter().product::<u64>();
        if !matches!(info.dtype, Dtype::I64 | Dtype::I32) || !(2..=8).contains(&count) {
            self.complain(
                ViolationKind::WrongDtype,
                &key,
                "the numbers of a shape",
                format!("{} {:?}", info.dtype, info.shape),
            );
            return None;
        }
        let mut bytes = vec![0; count as usize * size];
        if let Err(error) = self.source.read_at(&key, 0, &mut bytes) {
            self.complain(ViolationKind::TruncatedFile, &key, "the numbers of a shape", error.to_string());
            return None;
        }
        let number = |raw: &[u8]| {
            let mut wide = [0; 8];
            wide[..raw.len()].copy_from_slice(raw);
            u64::from_le_bytes(wide)
        };
        let shape: Vec<u64> = bytes.chunks_exact(size).map(number).collect();
        let (stated_rows, cols) = (shape[shape.len() - 2], shape[shape.len() - 1]);
        let words = cols.checked_mul(u64::from(bits)).map(|bits| bits.div_ceil(32));
        if stated_rows != rows || words != Some(per_row) {
            let expected = format!("a shape that {rows} rows of {per_row} words of {bits} bits have");
            self.misshapen(&key, expected, &shape);
            return None;
        }
        Some(cols)
    }

    /// Groups of a row, columns of a group, and whether all rows share one line of scales.
    fn groups_of(
        &mut self,
        module: &str,
        matrices: u64,
        rows: u64,
        cols: u64,
        scales: &TensorInfo,
    ) -> Option<(u64, u64, bool)> {
        let count = scales.shape.iter().product::<u64>();
        let lines = matrices * rows;
        let one_line = count == matrices && lines != matrices;
        let groups = if one_line { 1 } else { count.checked_div(lines).unwrap_or(0) };
        let declared = self.weights_number(module, "group_size").and_then(|size| u64::try_from(size).ok());
        let group = match declared {
            Some(size) if size > 0 && cols.div_ceil(size) == groups => size,
            _ if groups > 0 && cols.is_multiple_of(groups) => cols / groups,
            _ => 0,
        };
        let agrees = declared.is_none_or(|size| size == 0 || groups == 1 || group == size);
        if group == 0 || !agrees || (!one_line && groups * lines != count) {
            let size = declared.map_or(String::new(), |size| format!(" in groups of {size}"));
            let expected = format!("scales of {rows} rows of {cols}{size}");
            self.misshapen(&format!("{module}.weight_scale"), expected, &scales.shape);
            return None;
        }
        Some((groups, group, one_line))
    }
}

/// The axes of a stack, and the two of a matrix.
fn split(shape: &[u64]) -> Option<(&[u64], [u64; 2])> {
    match shape {
        [stack @ .., rows, cols] => Some((stack, [*rows, *cols])),
        _ => None,
    }
}
