//! Plans without a recipe: every tensor keeps its name, shape and layout.
//!
//! For directories whose names are MLX's already (mlxport's own, mlx-lm's, mlx-vlm's), and for quantized releases that no recipe fits.

use serde_json::Value;

use crate::checkpoint::TensorSource;
use crate::dtype::{DtypeChoice, is_wide_or_narrow};
use crate::error::{Violation, ViolationKind};
use crate::transforms::Assembly;

use super::outputs::{Making, OutputTensor, Plan, PlannedSource};

/// What such a plan is called where a recipe's name would stand.
pub const NAME: &str = "as it is";

/// The plan that copies the tensors of `source`, which `config` describes, with everything that is wrong.
pub fn copy(config: &Value, source: &dyn TensorSource, dtype: DtypeChoice) -> (Plan, Vec<Violation>) {
    let (mut violations, mut outputs) = (Vec::new(), Vec::new());
    for (key, info) in source.tensors() {
        let written = dtype.apply(info.dtype);
        if is_wide_or_narrow(written) {
            // Of 8-bit floats MLX makes whole numbers, and F64 it does not load.
            let found = format!("{written} (--dtype bf16, f16 or f32 converts it)");
            violations.push(Violation::new(ViolationKind::WrongDtype, key, "a dtype that MLX computes in", found));
        }
        let source = PlannedSource::stored(key, info);
        let assembly = Assembly::of(source.view());
        outputs.push(OutputTensor {
            name: key.clone(),
            dtype: written,
            shape: info.shape.clone(),
            sources: vec![source],
            op: "copy".to_owned(),
            row: 0,
            assembly,
            making: Making::Store,
        });
    }
    let plan = Plan {
        recipe: NAME.to_owned(),
        recipe_hash: blake3::hash(NAME.as_bytes()).to_hex().to_string(),
        layout: config.pointer("/mlxport/layout").and_then(Value::as_str).unwrap_or("as it was").to_owned(),
        dtype,
        quantization: None,
        tensors: outputs,
        dropped: Vec::new(),
        config: config.clone(),
        notes: Vec::new(),
    };
    (plan, violations)
}
