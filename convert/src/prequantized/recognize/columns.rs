//! GPTQ and AWQ.

use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::error::ViolationKind;
use crate::prequantized::columns::{Columns, Order};
use crate::prequantized::declared::{Declared, Method};
use crate::prequantized::{Form, Packed};

use super::{Finder, WORDS, stored};

impl Finder<'_> {
    /// A module's `qweight` with what belongs to it.
    pub(super) fn columns(&mut self, module: &str, info: &TensorInfo) {
        let key = |part: &str| format!("{module}.{part}");
        let Some((bits, group, order)) = self.settings(module) else { return };
        let Some(words) = self.part(&key("qweight"), WORDS) else { return };
        let [height, width] = info.shape[..] else {
            return self.misshapen(&key("qweight"), "a matrix of words".into(), &info.shape);
        };
        let wide = |words: u64| words.saturating_mul(32) / u64::from(bits);
        let (rows, cols) = if order == Order::Across { (wide(width), height) } else { (width, wide(height)) };
        let whole = (rows * u64::from(bits)).is_multiple_of(32) && (wide(height) * u64::from(bits) == height * 32);
        if !whole || rows == 0 || cols == 0 {
            let expected = format!("words that {bits}-bit codes fill");
            return self.misshapen(&key("qweight"), expected, &info.shape);
        }
        let Some((scales, zeros, groups)) = self.groups_of_columns(module, bits, rows) else { return };
        let g_idx = match self.g_idx(&key("g_idx"), cols) {
            Ok(g_idx) => g_idx,
            Err(()) => return,
        };
        let group = group.unwrap_or(cols);
        if g_idx.is_none() && cols.div_ceil(group) != groups {
            let expected = format!("{} groups of {group} of {cols} inputs", cols.div_ceil(group));
            return self.misshapen(&key("scales"), expected, &scales.shape);
        }
        let mut own = vec![key("qweight"), key("qzeros"), key("scales")];
        own.extend(g_idx.as_ref().map(|g_idx| g_idx.key.clone()));
        let (arithmetic, dtype) = (scales.dtype, self.read_as(scales.dtype));
        let form = Form::Columns(Columns {
            words: stored(&key("qweight"), words),
            zeros: stored(&key("qzeros"), &zeros),
            scales: stored(&key("scales"), &scales),
            g_idx,
            bits,
            rows,
            cols,
            groups,
            group,
            order,
        });
        self.weights.push(Packed { key: key("weight"), shape: vec![rows, cols], arithmetic, dtype, parts: own, form });
    }

    /// A module's scales and zero points, and how many groups each of its `rows` outputs has.
    fn groups_of_columns(&mut self, module: &str, bits: u32, rows: u64) -> Option<(TensorInfo, TensorInfo, u64)> {
        let key = |part: &str| format!("{module}.{part}");
        let scales = self.scale_part(&key("scales")).cloned();
        let zeros = self.part(&key("qzeros"), WORDS).cloned();
        let (scales, zeros) = scales.zip(zeros)?;
        let groups = scales.shape.first().copied().unwrap_or(0);
        let wanted = [vec![groups, rows], vec![groups, rows * u64::from(bits) / 32]];
        for (part, shape, wanted) in [("scales", &scales.shape, &wanted[0]), ("qzeros", &zeros.shape, &wanted[1])] {
            if shape != wanted || groups == 0 {
                self.misshapen(&key(part), format!("{wanted:?}, a line for each group"), shape);
                return None;
            }
        }
        Some((scales, zeros, groups))
    }

    /// Which group each input is in, where a file says so.
    fn g_idx(&mut self, key: &str, cols: u64) -> Result<Option<crate::prequantized::block::Stored>, ()> {
        if !self.tensors.contains_key(key) {
            return Ok(None);
        }
        let info = self.part(key, WORDS).ok_or(())?;
        match *info.shape {
            // Some tools write an empty one where groups come in order.
            [0] => Ok(None),
            [len] if len == cols => Ok(Some(stored(key, info))),
            _ => {
                self.misshapen(key, format!("[{cols}], a group for each input"), &info.shape);
                Err(())
            }
        }
    }

    /// Bits, inputs of a group (`None`: all of them) and order of a module.
    fn settings(&mut self, module: &str) -> Option<(u32, Option<u64>, Order)> {
        let Some(declared) = self.declared.clone() else {
            let expected = "a quantization_config (or quantize_config.json) that says GPTQ or AWQ, bits and group size";
            self.complain(ViolationKind::Config, "config.json", expected, format!("none, and {module}.qweight"));
            return None;
        };
        let own = declared.dynamic(module);
        let number = |names: &[&str]| {
            let of_module = names.iter().find_map(|name| own?.get(*name)?.as_i64());
            of_module.or_else(|| declared.number(names))
        };
        let bits = number(&["bits", "w_bit"]);
        let order = self.order(&declared, module)?;
        let allowed: &[i64] = if order == Order::Across { &[4] } else { &[2, 3, 4, 8] };
        let group = number(&["group_size", "q_group_size"]);
        let sized = group.is_none_or(|size| size == -1 || size > 0);
        match bits.filter(|bits| allowed.contains(bits) && sized) {
            Some(bits) => Some((bits as u32, group.and_then(|size| u64::try_from(size).ok()), order)),
            None => {
                let expected = format!("bits of {allowed:?} and a group size above 0 or -1 for {module}");
                let found = format!("bits {bits:?}, group size {group:?}");
                self.complain(ViolationKind::Config, &declared.place, expected, found);
                None
            }
        }
    }

    /// In which order the words of a module hold its codes.
    fn order(&mut self, declared: &Declared, module: &str) -> Option<Order> {
        let text = |name: &str| declared.section.get(name).and_then(Value::as_str).unwrap_or_default().to_lowercase();
        Some(match declared.method {
            Method::Gptq | Method::Awq
                if text("checkpoint_format") == "marlin" || text("version").starts_with("gemv") =>
            {
                let found = format!("{}{}", text("checkpoint_format"), text("version"));
                let found = format!("the packing of {found}, which mlxport does not read; {}", super::WHAT_TO_DO);
                self.complain(
                    ViolationKind::Unsupported,
                    &declared.place,
                    "the packing of gptq, gptq_v2 or gemm",
                    found,
                );
                return None;
            }
            Method::Gptq => Order::Down { minus_one: text("checkpoint_format") != "gptq_v2" },
            Method::Awq => Order::Across,
            _ => {
                let found = format!("{} in {}", declared.method.name(), declared.place);
                self.complain(
                    ViolationKind::Config,
                    &format!("{module}.qweight"),
                    "a config that says GPTQ or AWQ",
                    found,
                );
                return None;
            }
        })
    }
}
