//! Unpacking: a quantized MLX directory becomes one with the float weights its packed words stand for, as `mx.dequantize` makes them.
//!
//! The directory is its own recipe: a module is packed where `scales` lie beside its `weight`, and config.json says how. Everything else is
//! copied. Nothing is guessed from shapes: words, scales, biases and config must agree.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::dtype::{DtypeChoice, is_float};
use crate::error::{Violation, ViolationKind};
use crate::quantize::{Mode, Quantization};
use crate::transforms::Assembly;

use super::{Making, OutputTensor, Plan, PlannedSource};

/// The config sections that say how a model is packed; either will do, both must agree.
const SECTIONS: [&str; 2] = ["quantization", "quantization_config"];
/// What such a plan is called where a recipe's name would stand.
const NAME: &str = "dequantize";

/// The plan that unpacks `tensors`, which `config` describes, with everything that is wrong.
pub fn unpack(config: &Value, tensors: &BTreeMap<String, TensorInfo>, dtype: DtypeChoice) -> (Plan, Vec<Violation>) {
    let mut violations = Vec::new();
    let section = section(config, &mut violations);
    let mut unpacker = Unpacker { tensors, section, dtype, violations };
    let mut outputs = Vec::new();
    for (key, info) in tensors {
        match module_of(key, tensors) {
            None => outputs.push(unpacker.copy(key, info)),
            Some(module) if key.ends_with(".weight") => outputs.extend(unpacker.module(module, info)),
            Some(module) if !tensors.contains_key(&format!("{module}.weight")) && key.ends_with(".scales") => {
                unpacker.complain(
                    ViolationKind::MissingKey,
                    format!("{module}.weight"),
                    "packed words".into(),
                    "nothing".into(),
                );
            }
            Some(_) => {}
        }
    }
    let mut config = config.clone();
    if let Value::Object(object) = &mut config {
        SECTIONS.iter().for_each(|name| drop(object.shift_remove(*name)));
    }
    let plan = Plan {
        recipe: NAME.to_owned(),
        recipe_hash: blake3::hash(NAME.as_bytes()).to_hex().to_string(),
        layout: config.pointer("/mlxport/layout").and_then(Value::as_str).unwrap_or("as it was").to_owned(),
        dtype,
        quantization: None,
        tensors: outputs,
        dropped: Vec::new(),
        config,
        notes: Vec::new(),
    };
    (plan, unpacker.violations)
}

/// The packed module that `key` is a part of: one with `scales`.
fn module_of<'k>(key: &'k str, tensors: &BTreeMap<String, TensorInfo>) -> Option<&'k str> {
    let module = [".weight", ".scales", ".biases"].iter().find_map(|end| key.strip_suffix(end))?;
    tensors.contains_key(&format!("{module}.scales")).then_some(module)
}

/// The section that says how, when there is one and both agree.
fn section<'a>(config: &'a Value, violations: &mut Vec<Violation>) -> Option<&'a Value> {
    let [first, second] = SECTIONS.map(|name| config.get(name).filter(|value| value.is_object()));
    if let (Some(first), Some(second)) = (first, second)
        && first != second
    {
        let expected = "quantization and quantization_config to agree";
        violations.push(Violation::new(ViolationKind::Config, "config.json", expected, "two different ones"));
    }
    let section = first.or(second);
    if section.is_none() {
        let expected = "a quantization section, as MLX tools write it";
        violations.push(Violation::new(
            ViolationKind::Unsupported,
            "config.json",
            expected,
            "none: nothing to dequantize",
        ));
    }
    section
}

struct Unpacker<'a> {
    tensors: &'a BTreeMap<String, TensorInfo>,
    section: Option<&'a Value>,
    dtype: DtypeChoice,
    violations: Vec<Violation>,
}

impl Unpacker<'_> {
    fn complain(&mut self, kind: ViolationKind, place: String, expected: String, found: String) {
        self.violations.push(Violation::new(kind, place, expected, found));
    }

    fn copy(&self, key: &str, info: &TensorInfo) -> OutputTensor {
        let source = PlannedSource::stored(key, info);
        output(key, self.dtype.apply(info.dtype), info.shape.clone(), "copy", vec![source], Making::Store)
    }

    /// How `module` is packed, by the config.
    fn settings(&self, module: &str) -> Result<Quantization, String> {
        let section = self.section.ok_or("no quantization section")?;
        let own = section.get(module).unwrap_or(section);
        let number = |name: &str| own.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
        let mode = own.get("mode").and_then(Value::as_str).unwrap_or("affine").parse::<Mode>()?;
        Quantization::new(mode, number("bits"), number("group_size"))
    }

    /// The float weight of a packed module; `None` when its parts do not fit together.
    fn module(&mut self, module: &str, words: &TensorInfo) -> Option<OutputTensor> {
        let from = match self.settings(module) {
            Ok(from) => from,
            Err(problem) => {
                let expected = format!("how {module} is quantized");
                self.complain(ViolationKind::Config, "config.json".into(), expected, problem);
                return None;
            }
        };
        let key = |part: &str| format!("{module}.{part}");
        let mut shape = words.shape.clone();
        let per_word = u64::from(from.bits());
        let width = shape.last().map(|words| words.saturating_mul(32) / per_word)?;
        *shape.last_mut()? = width;
        let wanted = from.weight_shape(&shape);
        if words.dtype != Dtype::U32 || wanted.as_ref() != Ok(&words.shape) {
            let found = format!("{} {:?}", words.dtype, words.shape);
            let expected = format!("U32 words of {}", super::pack::show(from));
            self.complain(ViolationKind::WrongShape, key("weight"), expected, found);
            return None;
        }
        let scales = self.tensors.get(&key("scales"))?;
        let values = if from.has_biases() { scales.dtype } else { Dtype::BF16 };
        let mut sources = vec![PlannedSource::stored(&key("weight"), words)];
        let parts: &[&str] = if from.has_biases() { &["scales", "biases"] } else { &["scales"] };
        for part in parts {
            let info = self.tensors.get(&key(part));
            let fits = info.filter(|info| {
                info.dtype == from.scales_dtype(values) && is_float(values) && info.shape == from.scales_shape(&shape)
            });
            let Some(info) = fits else {
                let expected = format!("{} {:?}", from.scales_dtype(values), from.scales_shape(&shape));
                let found = info.map_or("nothing".into(), |info| format!("{} {:?}", info.dtype, info.shape));
                self.complain(ViolationKind::WrongShape, key(part), expected, found);
                return None;
            };
            sources.push(PlannedSource::stored(&key(part), info));
        }
        let making = Making::Dequantize { from, values };
        Some(output(&key("weight"), self.dtype.apply(values), shape, "dequantize", sources, making))
    }
}

fn output(
    name: &str,
    dtype: Dtype,
    shape: Vec<u64>,
    op: &str,
    sources: Vec<PlannedSource>,
    making: Making,
) -> OutputTensor {
    let assembly = Assembly::sequence(sources.iter().map(PlannedSource::view).collect());
    OutputTensor { name: name.to_owned(), dtype, shape, sources, op: op.to_owned(), row: 0, assembly, making }
}
