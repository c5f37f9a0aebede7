//! A directory that MLX tools wrote: a module is packed where `scales` lie beside its `weight`, and config.json says how.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::Value;

use crate::checkpoint::TensorInfo;
use crate::dtype::is_float;
use crate::error::ViolationKind;
use crate::prequantized::{Form, Packed};
use crate::quantize::{Mode, Quantization};

use super::Finder;

/// The config sections that say how a model is packed; either will do, both must agree.
const SECTIONS: [&str; 2] = ["quantization", "quantization_config"];

/// Whether any module holds words and scales as MLX's layers do.
pub fn is_packed(tensors: &BTreeMap<String, TensorInfo>) -> bool {
    let scaled = |key: &String| key.strip_suffix(".scales").map(|module| tensors.get(&format!("{module}.weight")));
    tensors.keys().filter_map(scaled).any(|weight| weight.is_none_or(|info| info.dtype == Dtype::U32))
        && !tensors.keys().any(|key| key.ends_with(".qweight"))
}

/// How most modules are packed, for people.
pub fn name(config: &Value) -> String {
    let section = SECTIONS.iter().find_map(|name| config.get(*name));
    let number = |name: &str| section.and_then(|section| section.get(name)?.as_u64());
    match (number("bits"), number("group_size")) {
        (Some(bits), Some(group)) => format!("MLX ({bits} bits, groups of {group})"),
        _ => "MLX".to_owned(),
    }
}

impl<'a> Finder<'a> {
    /// Every packed module.
    pub(super) fn mlx(&mut self) {
        let section = self.section();
        let tensors = self.tensors;
        for (key, scales) in tensors {
            let Some(module) = key.strip_suffix(".scales") else { continue };
            let weight = format!("{module}.weight");
            match tensors.get(&weight) {
                None => self.complain(ViolationKind::MissingKey, &weight, "packed words", "nothing"),
                Some(words) => {
                    if let Some(packed) = self.module(module, words, scales, section) {
                        self.weights.push(packed);
                    }
                }
            }
        }
    }

    /// The section that says how, when there is one and both agree.
    fn section(&mut self) -> Option<&'a Value> {
        let [first, second] = SECTIONS.map(|name| self.config.get(name).filter(|value| value.is_object()));
        if let (Some(first), Some(second)) = (first, second)
            && first != second
        {
            let expected = "quantization and quantization_config to agree";
            self.complain(ViolationKind::Config, "config.json", expected, "two different ones");
        }
        let section = first.or(second);
        if section.is_none() {
            let expected = "a quantization section, as MLX tools write it";
            self.complain(ViolationKind::Unsupported, "config.json", expected, "none, and packed words beside scales");
        }
        section
    }

    /// The float weight of a packed module; `None` when its parts do not fit together.
    fn module(
        &mut self,
        module: &str,
        words: &TensorInfo,
        scales: &TensorInfo,
        section: Option<&Value>,
    ) -> Option<Packed> {
        let section = section?;
        let from = match settings(section, module) {
            Ok(from) => from,
            Err(problem) => {
                let expected = format!("how {module} is quantized");
                self.complain(ViolationKind::Config, "config.json", expected, problem);
                return None;
            }
        };
        let key = |part: &str| format!("{module}.{part}");
        let mut shape = words.shape.clone();
        let width = shape.last().map(|words| words.saturating_mul(32) / u64::from(from.bits()))?;
        *shape.last_mut()? = width;
        if words.dtype != Dtype::U32 || from.weight_shape(&shape).as_ref() != Ok(&words.shape) {
            let found = format!("{} {:?}", words.dtype, words.shape);
            let expected = format!("U32 words of {}", crate::plan::pack::show(from));
            self.complain(ViolationKind::WrongShape, &key("weight"), expected, found);
            return None;
        }
        let values = if from.has_biases() { scales.dtype } else { Dtype::BF16 };
        let mut own = vec![key("weight")];
        let parts: &[&str] = if from.has_biases() { &["scales", "biases"] } else { &["scales"] };
        for part in parts {
            let info = self.tensors.get(&key(part));
            let dtype = from.scales_dtype(values);
            let fits =
                |info: &&TensorInfo| info.dtype == dtype && is_float(values) && info.shape == from.scales_shape(&shape);
            if info.filter(fits).is_none() {
                let expected = format!("{dtype} {:?}", from.scales_shape(&shape));
                let found = info.map_or("nothing".into(), |info| format!("{} {:?}", info.dtype, info.shape));
                self.complain(ViolationKind::WrongShape, &key(part), expected, found);
                return None;
            }
            own.push(key(part));
        }
        let dtype = self.read_as(values);
        Some(Packed { key: key("weight"), shape, arithmetic: values, dtype, parts: own, form: Form::Mlx(from) })
    }
}

/// How `module` is packed, by the config.
fn settings(section: &Value, module: &str) -> Result<Quantization, String> {
    let own = section.get(module).filter(|own| own.is_object()).unwrap_or(section);
    let number = |name: &str| own.get(name).and_then(Value::as_u64).and_then(|n| u32::try_from(n).ok());
    let mode = own.get("mode").and_then(Value::as_str).unwrap_or("affine").parse::<Mode>()?;
    Quantization::new(mode, number("bits"), number("group_size"))
}
