//! Keys and config together: which weights are quantized, how, and what is in the way of reading them.

mod columns;
mod grid;
mod mlx;
mod rows;

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::{TensorInfo, TensorSource, row_major_strides};
use crate::dtype::{DtypeChoice, from_torch_name, is_float};
use crate::error::{Violation, ViolationKind};

use super::block::Stored;
use super::declared::{Declared, Method};
use super::{Packed, parts};

/// What a person can do about a method that is not read.
const WHAT_TO_DO: &str = "convert the release it was made from";
/// What else helps where transformers can undo a method itself.
const OR_TRANSFORMERS: &str = ", or load it with transformers and save what `model.dequantize()` returns";

/// A quantized release.
#[derive(Debug)]
pub struct Recognized {
    /// The method with its numbers, for people: `GPTQ (4 bits, groups of 128)`.
    pub name: String,
    /// Whether it is a directory that MLX tools wrote.
    pub is_mlx: bool,
    /// Every quantized weight that can be read.
    pub weights: Vec<Packed>,
    /// Keys that no float weight needs, and why.
    pub dropped: Vec<(String, &'static str)>,
    /// Why others cannot be read.
    pub violations: Vec<Violation>,
}

/// Looks for quantized weights among the tensors of `source`. `None` where there are none, whatever the config says.
///
/// Reads no tensor but `weight_shape` of compressed-tensors: two numbers that say a packed weight's shape.
pub fn recognize(config: &Value, root: &Path, source: &dyn TensorSource, dtype: DtypeChoice) -> Option<Recognized> {
    let tensors = source.tensors();
    let declared = Declared::find(config, Some(root));
    let mut finder = Finder { source, tensors, config, declared, dtype, weights: Vec::new(), violations: Vec::new() };
    if mlx::is_packed(tensors) && finder.declared.is_none() {
        finder.mlx();
        let name = mlx::name(config);
        return Some(finder.finish(name, true));
    }
    if let Some(refused) = finder.refused() {
        return Some(refused);
    }
    for (key, info) in tensors {
        if let Some(module) = key.strip_suffix(".qweight") {
            finder.columns(module, info);
        } else if let Some(module) = key.strip_suffix(".weight_packed") {
            finder.rows(module, info);
        } else if parts::is_code(info.dtype) {
            finder.grid(key, info);
        }
    }
    if finder.weights.is_empty() && finder.violations.is_empty() {
        return None;
    }
    let name = finder.name();
    Some(finder.finish(name, false))
}

/// One pass over the keys.
struct Finder<'a> {
    source: &'a dyn TensorSource,
    tensors: &'a BTreeMap<String, TensorInfo>,
    config: &'a Value,
    declared: Option<Declared>,
    dtype: DtypeChoice,
    weights: Vec<Packed>,
    violations: Vec<Violation>,
}

impl<'a> Finder<'a> {
    fn complain(&mut self, kind: ViolationKind, place: &str, expected: impl Into<String>, found: impl Into<String>) {
        let violation = Violation::new(kind, place, expected, found);
        // What the config does not say is missing for every weight; once is enough.
        let is_again = |other: &Violation| other.place == place && other.expected == violation.expected;
        if kind != ViolationKind::Config || !self.violations.iter().any(is_again) {
            self.violations.push(violation);
        }
    }

    /// A method that is not read, by its name: the config's where the tensors bear it out, else the one that keys tell.
    fn refused(&mut self) -> Option<Recognized> {
        let declared = self.declared.as_ref().filter(|_| parts::looks_quantized(self.tensors));
        let named = declared.and_then(|declared| match &declared.method {
            Method::Other(name) => Some((name.clone(), declared.place.clone())),
            _ => None,
        });
        let (name, place) =
            named.or_else(|| parts::unread_method(self.tensors).map(|(name, key)| (name.to_owned(), key.clone())))?;
        let expected = "float weights, FP8, compressed-tensors (float8, int8, packed integers), GPTQ or AWQ";
        let by_transformers = ["bitsandbytes", "higgs"].iter().any(|known| name.to_lowercase().starts_with(known));
        let more = if by_transformers { OR_TRANSFORMERS } else { "" };
        let found = format!("{name}, which mlxport does not read; {WHAT_TO_DO}{more}");
        let violations = vec![Violation::new(ViolationKind::Unsupported, place, expected, found)];
        Some(Recognized { name, is_mlx: false, weights: Vec::new(), dropped: Vec::new(), violations })
    }

    fn finish(self, name: String, is_mlx: bool) -> Recognized {
        let Self { tensors, weights, violations, .. } = self;
        let used: std::collections::BTreeSet<&String> = weights.iter().flat_map(|weight| &weight.parts).collect();
        let unused = tensors.keys().filter(|key| !is_mlx && !used.contains(key));
        let dropped = unused.filter_map(|key| Some((key.clone(), parts::left_out(key)?))).collect();
        Recognized { name, is_mlx, weights, dropped, violations }
    }

    /// The method with its numbers.
    fn name(&self) -> String {
        let Some(declared) = &self.declared else { return "FP8".to_owned() };
        let name = declared.method.name();
        let numbers = match declared.method {
            Method::Fp8 => declared.block().map(|(height, width)| format!("blocks of {height} x {width}")),
            Method::CompressedTensors => declared.section.get("format").and_then(Value::as_str).map(str::to_owned),
            _ => declared.number(&["bits", "w_bit"]).map(|bits| {
                let groups = match declared.number(&["group_size", "q_group_size"]) {
                    Some(size) if size > 0 => format!("groups of {size}"),
                    _ => "a group for each output".to_owned(),
                };
                format!("{bits} bits, {groups}")
            }),
        };
        numbers.map_or(name.to_owned(), |numbers| format!("{name} ({numbers})"))
    }

    /// A part of a weight: there, row-major, of one of these dtypes.
    fn part(&mut self, key: &str, dtypes: &[Dtype]) -> Option<&'a TensorInfo> {
        let Some(info) = self.tensors.get(key) else {
            self.complain(ViolationKind::MissingKey, key, "a part of a quantized weight", "nothing");
            return None;
        };
        if !dtypes.contains(&info.dtype) {
            let names: Vec<String> = dtypes.iter().map(ToString::to_string).collect();
            self.complain(ViolationKind::WrongDtype, key, names.join(" or "), info.dtype.to_string());
            return None;
        }
        if info.strides != row_major_strides(&info.shape) {
            let found = format!("strides {:?} of shape {:?}", info.strides, info.shape);
            self.complain(ViolationKind::Unsupported, key, "a quantized weight's part stored row by row", found);
            return None;
        }
        Some(info)
    }

    /// Complains of a part's shape.
    fn misshapen(&mut self, key: &str, expected: String, shape: &[u64]) {
        self.complain(ViolationKind::WrongShape, key, expected, format!("{shape:?}"));
    }

    /// What a weight is read as: what is asked for, else `own`.
    fn read_as(&self, own: Dtype) -> Dtype {
        self.dtype.apply(own)
    }

    /// The dtype of the model, by its config.
    fn model_dtype(&self) -> Option<Dtype> {
        let stated =
            |at: &Value| ["dtype", "torch_dtype"].into_iter().find_map(|name| from_torch_name(at.get(name)?.as_str()?));
        let nested = ["text_config", "language_config", "llm_config"];
        let inner = || nested.into_iter().find_map(|name| stated(self.config.get(name)?));
        stated(self.config).or_else(inner).filter(|&dtype| is_float(dtype))
    }
}

/// Words of packed codes.
const WORDS: &[Dtype] = &[Dtype::I32, Dtype::U32];
/// Scales that a product can be computed in.
const FLOATS: &[Dtype] = &[Dtype::F32, Dtype::F16, Dtype::BF16];

fn stored(key: &str, info: &TensorInfo) -> Stored {
    Stored { key: key.to_owned(), dtype: info.dtype }
}
