//! Packing: a plan's weights become packed words with scales and biases, as the recipe's rules and a person's wish say.
//!
//! A pass over a finished plan: it changes outputs and config, reads no tensor, and lists everything that cannot be.

use std::collections::BTreeMap;

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::dtype::is_float;
use crate::error::{Violation, ViolationKind};
use crate::keys::generalize;
use crate::quantize::Quantization;
use crate::recipe::config::set;
use crate::recipe::packing::{Decision, Packing, Wish};

use super::outputs::{Making, OutputTensor, Part, Plan};

/// Ends the names of tensors that a module may hold packed.
const WEIGHT: &str = ".weight";

/// Packs what `wish` and the recipe's rules say. Modules that a rule names but whose rows are no multiple of the group are kept, with a note.
pub fn pack(plan: &mut Plan, rules: &Packing, wish: &Wish) -> Vec<Violation> {
    let mut violations = Vec::new();
    if rules.is_empty() {
        let found = format!("none in recipe {}", plan.recipe);
        let expected = "a [quantize] table that says which weights may be packed";
        violations.push(Violation::new(ViolationKind::Unsupported, "--quantize", expected, found));
        return violations;
    }
    let layers = layer_counts(plan);
    let (mut packed, mut unfit) = (BTreeMap::new(), Vec::new());
    let mut outputs = Vec::new();
    for tensor in std::mem::take(&mut plan.tensors) {
        let module = tensor.name.strip_suffix(WEIGHT).unwrap_or_default().to_owned();
        let stored = tensor.making == Making::Store;
        let candidate = stored && !module.is_empty() && tensor.shape.len() > 1 && is_float(tensor.dtype);
        let decision = if candidate {
            rules.decide(&module, &plan.layout, layer_of(&module, &layers), wish)
        } else {
            Ok(Decision::Keep("not the weight of a module".into()))
        };
        match decision.map(|decision| (decision, tensor)) {
            Ok((Decision::Keep(_), tensor)) => outputs.push(tensor),
            Ok((Decision::Pack(to), tensor)) => match parts(&tensor, &module, to) {
                Ok(parts) => {
                    packed.insert(module, to);
                    outputs.extend(parts);
                }
                Err(problem) => {
                    unfit.push((module, problem));
                    outputs.push(tensor);
                }
            },
            Err(problem) => {
                violations.push(Violation::new(ViolationKind::Recipe, module, "a rule that can be followed", problem));
            }
        }
    }
    plan.tensors = outputs;
    plan.quantization = Some(wish.base);
    if packed.is_empty() && violations.is_empty() {
        let found = unfit.first().map_or("no module that a rule packs".into(), |(module, problem)| {
            format!("none of {}; {module}: {problem}", unfit.len())
        });
        let expected = format!("at least one module that {} fits", show(wish.base));
        violations.push(Violation::new(ViolationKind::Unsupported, "--quantize", expected, found));
    }
    plan.notes.extend(unfit_notes(unfit));
    state_in_config(&mut plan.config, wish.base, &packed);
    violations
}

/// One note for all modules that differ only in their numbers.
fn unfit_notes(unfit: Vec<(String, String)>) -> Vec<String> {
    let mut forms: BTreeMap<(String, String), usize> = BTreeMap::new();
    for (module, problem) in unfit {
        *forms.entry((generalize(&module), problem)).or_default() += 1;
    }
    let several = |count| if count == 1 { String::new() } else { format!(" ({count} modules)") };
    let notes = forms.into_iter();
    notes.map(|((module, problem), count)| format!("{module}{} is not quantized: {problem}", several(count))).collect()
}

/// `affine, 4 bits, groups of 64`.
pub fn show(to: Quantization) -> String {
    format!("{}, {} bits, groups of {}", to.mode(), to.bits(), to.group_size())
}

/// The outputs that stand in for a packed tensor, next to one another.
fn parts(tensor: &OutputTensor, module: &str, to: Quantization) -> Result<Vec<OutputTensor>, String> {
    let words = to.weight_shape(&tensor.shape)?;
    let groups = to.scales_shape(&tensor.shape);
    let one = |part: Part, name: String, dtype: Dtype, shape: Vec<u64>| OutputTensor {
        name,
        dtype,
        shape,
        op: format!("{} + {}", tensor.op, to.mode()),
        making: Making::Quantize { to, values: tensor.dtype, part },
        ..tensor.clone()
    };
    let scales = to.scales_dtype(tensor.dtype);
    let mut parts = vec![
        one(Part::Weight, tensor.name.clone(), Dtype::U32, words),
        one(Part::Scales, format!("{module}.scales"), scales, groups.clone()),
    ];
    if to.has_biases() {
        parts.push(one(Part::Biases, format!("{module}.biases"), scales, groups));
    }
    Ok(parts)
}

/// Under `quantization`, and under `quantization_config` for tools that look there: what most modules are packed with, and each
/// module that differs, by name.
pub(crate) fn state_in_config(config: &mut Value, base: Quantization, packed: &BTreeMap<String, Quantization>) {
    let fields =
        |to: Quantization| json!({ "group_size": to.group_size(), "bits": to.bits(), "mode": to.mode().to_string() });
    let mut section = fields(base);
    if let Some(section) = section.as_object_mut() {
        let others = packed.iter().filter(|(_, to)| **to != base);
        section.extend(others.map(|(module, to)| (module.clone(), fields(*to))));
    }
    set(config, "quantization", section.clone());
    set(config, "quantization_config", section);
}

/// The number of layers under each prefix: `language_model.model.layers` → 12.
fn layer_counts(plan: &Plan) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (prefix, number) in plan.tensors.iter().filter_map(|tensor| split_layer(&tensor.name)) {
        let count: &mut u64 = counts.entry(prefix.to_owned()).or_default();
        *count = (*count).max(number + 1);
    }
    counts
}

fn layer_of(module: &str, counts: &BTreeMap<String, u64>) -> Option<(u64, u64)> {
    let (prefix, number) = split_layer(module)?;
    Some((number, *counts.get(prefix)?))
}

/// What stands before the first number in a name, and the number.
fn split_layer(name: &str) -> Option<(&str, u64)> {
    let mut at = 0_usize;
    for part in name.split('.') {
        if let Ok(number) = part.parse::<u64>() {
            return (number < u64::MAX).then_some((name.get(..at.saturating_sub(1))?, number));
        }
        at += part.len() + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::split_layer;

    #[test]
    fn layers_are_found_in_names() {
        assert_eq!(split_layer("a.layers.12.mlp.3.w"), Some(("a.layers", 12)));
        assert_eq!(split_layer("7.w"), Some(("", 7)));
        assert_eq!(split_layer("a.b"), None);
    }
}
