//! `--keep-quantized`: the same codes as MLX's affine words, scales and biases.
//!
//! A weight is `(code − zero) × scale`, MLX's is `code × scale + bias`: with `bias = −zero × scale` both are the same number. Scales and
//! biases are written in float32, where code × scale, the bias and their sum are all exact for scales of 16 bits. Every scale is looked at:
//! one with so many digits that a product would be rounded is an error, never a loss.

use std::collections::BTreeMap;

use safetensors::Dtype;

use crate::checkpoint::{TensorInfo, TensorSource};
use crate::dtype::DtypeChoice;
use crate::error::{Violation, ViolationKind};
use crate::plan::{Making, OutputTensor, Part, Plan, pack};
use crate::quantize::{Mode, Quantization};
use crate::transforms::{Assembly, View};

use super::block::Stored;
use super::packed::{Form, Packed, Repacked};
use super::source::Opened;

/// Puts MLX's three parts in the place of every quantized weight of a plan. What cannot be held without loss, or is rearranged in a way
/// that words cannot follow, is a violation.
pub fn repack(plan: &mut Plan, source: &mut Opened, dtype: DtypeChoice) -> Vec<Violation> {
    let scales = dtype.apply(Dtype::F32);
    let mut repacker =
        Repacker { source, scales, made: BTreeMap::new(), packed: BTreeMap::new(), violations: Vec::new() };
    let outputs = std::mem::take(&mut plan.tensors);
    plan.tensors = outputs.into_iter().flat_map(|tensor| repacker.output(tensor)).collect();
    let Repacker { made, packed, violations, .. } = repacker;
    let mut counts: BTreeMap<(u32, u32), (usize, Quantization)> = BTreeMap::new();
    for to in packed.values() {
        counts.entry((to.bits(), to.group_size())).or_insert((0, *to)).0 += 1;
    }
    if let Some((_, base)) = counts.into_values().max_by_key(|(count, _)| *count) {
        plan.quantization = Some(base);
        pack::state_in_config(&mut plan.config, base, &packed);
        let kept = "the codes are the release's own; scales and biases are";
        plan.notes.push(match scales {
            Dtype::F32 => format!("{kept} F32, in which no product is rounded"),
            _ => format!("{kept} {scales}, exactly; MLX rounds while it computes in {scales}"),
        });
    }
    source.add(made.into_values().flatten().collect());
    violations
}

struct Repacker<'a> {
    source: &'a Opened,
    scales: Dtype,
    /// The parts of each weight, by its key.
    made: BTreeMap<String, [Packed; 3]>,
    packed: BTreeMap<String, Quantization>,
    violations: Vec<Violation>,
}

impl Repacker<'_> {
    /// The outputs that stand in for one.
    fn output(&mut self, tensor: OutputTensor) -> Vec<OutputTensor> {
        let keys: Vec<String> = tensor.assembly.views.iter().map(|view| view.key.clone()).collect();
        if keys.iter().all(|key| self.source.weight(key).is_none()) {
            return vec![tensor];
        }
        match self.parts(&tensor) {
            Ok(parts) => parts,
            Err(problem) => {
                let expected = "a quantized weight that MLX's affine packing holds without loss";
                let found = format!("{problem}; --dequantize makes floats of it");
                self.violations.push(Violation::new(ViolationKind::Unsupported, &tensor.name, expected, found));
                Vec::new()
            }
        }
    }

    fn parts(&mut self, tensor: &OutputTensor) -> Result<Vec<OutputTensor>, String> {
        let mut to = None;
        for view in &tensor.assembly.views {
            let weight = self.source.weight(&view.key).ok_or("made of quantized and of float weights")?;
            let own = target(weight, self.source.checkpoint())?;
            if *to.get_or_insert(own) != own {
                return Err("made of weights with other bits or groups".into());
            }
            let whole_rows = weight.shape.last().is_some_and(|&cols| is_rows(view, cols));
            if tensor.assembly.interleave != 1 || !whole_rows || tensor.shape.last() != weight.shape.last() {
                return Err(format!("rearranged by the recipe ({}), which packed words cannot follow", tensor.op));
            }
            let scales = self.scales;
            self.made.entry(view.key.clone()).or_insert_with(|| {
                [Part::Weight, Part::Scales, Part::Biases].map(|part| Repacked::of(weight, own, part, scales))
            });
        }
        let module = tensor.name.strip_suffix(".weight").ok_or("no weight of a module (its name ends otherwise)")?;
        let to = to.ok_or("made of nothing")?;
        self.packed.insert(module.to_owned(), to);
        let words = to.weight_shape(&tensor.shape)?;
        let groups = to.scales_shape(&tensor.shape);
        let names =
            [("weight", Dtype::U32, &words), ("scales", self.scales, &groups), ("biases", self.scales, &groups)];
        let made = names.into_iter().enumerate().map(|(at, (part, dtype, shape))| {
            let views = tensor.assembly.views.iter().map(|view| {
                let (part, weight) = (&self.made[&view.key][at], self.source.weight(&view.key));
                let cols = weight.and_then(|weight| weight.shape.last().copied()).unwrap_or(1);
                let width = part.shape.last().copied().unwrap_or(1);
                let mut own = View::whole(&part.key, dtype, &[view.len() / cols, width]);
                own.start = view.start / cols * width;
                own
            });
            OutputTensor {
                name: format!("{module}.{part}"),
                dtype,
                shape: shape.clone(),
                assembly: Assembly::sequence(views.collect()),
                making: Making::Repack { to },
                op: "repack".to_owned(),
                ..tensor.clone()
            }
        });
        Ok(made.collect())
    }
}

/// Whether a view is some whole rows of a matrix of so many columns, in their order.
fn is_rows(view: &View, cols: u64) -> bool {
    let mut expected = 1;
    let contiguous = view.axes.iter().rev().filter(|axis| axis.len != 1).all(|axis| {
        let fits = axis.stride == expected;
        expected *= axis.len;
        fits
    });
    contiguous && cols > 0 && view.start.is_multiple_of(cols) && view.len().is_multiple_of(cols)
}

/// The packing of MLX that holds the weight's codes as they are.
fn target(weight: &Packed, source: &dyn TensorSource) -> Result<Quantization, String> {
    let cols = weight.shape.last().copied().unwrap_or(0);
    let (bits, group, g_idx) = match &weight.form {
        Form::Grid(grid) if grid.codes.dtype == Dtype::I8 => (8, grid.blocks.cols, None),
        Form::Grid(grid) => return Err(format!("{} codes, which are no even grid", grid.codes.dtype)),
        Form::Rows(rows) => (rows.bits, rows.group, rows.g_idx.as_ref()),
        Form::Columns(columns) => (columns.bits, columns.group, columns.g_idx.as_ref()),
        Form::Mlx(_) | Form::Repacked(_) => return Err("packed by MLX already".into()),
    };
    let whole = if group >= cols { cols } else { group };
    let mut sizes = [128_u64, 64, 32].into_iter().filter(|size| cols.is_multiple_of(*size));
    let fits = |size: &u64| match g_idx {
        None => whole.is_multiple_of(*size),
        Some(g_idx) => in_order(g_idx, cols, *size, source),
    };
    match sizes.find(fits) {
        Some(size) => Quantization::new(Mode::Affine, Some(bits), u32::try_from(size).ok()),
        None if g_idx.is_some() => Err(format!(
            "in an order of columns of its own (act-order: {} mixes groups)",
            g_idx.map_or("", |g_idx| &g_idx.key)
        )),
        None => Err(format!("in groups of {whole} of {cols} columns, and MLX has groups of 32, 64 or 128")),
    }
}

/// Whether every `size` neighbours are in one group.
fn in_order(g_idx: &Stored, cols: u64, size: u64, source: &dyn TensorSource) -> bool {
    let mut bytes = Vec::new();
    (0..cols).step_by(1 << 14).all(|at| {
        let read = g_idx.bytes(source, at..(at + (1 << 14)).min(cols), &mut bytes);
        let same = |group: &[[u8; 4]]| group.iter().all(|&one| one == group[0]);
        read.is_ok() && bytes.as_chunks::<4>().0.chunks(size as usize).all(same)
    })
}

/// Tensors that a plan's outputs are really made of: the parts in the place of what was made of them.
pub fn stored_parts<'a>(source: &'a Opened, key: &'a str) -> Vec<(&'a str, &'a TensorInfo)> {
    let tensors = source.checkpoint().tensors();
    match source.weight(key) {
        None => tensors.get_key_value(key).map(|(key, info)| (key.as_str(), info)).into_iter().collect(),
        Some(weight) => weight.parts.iter().filter_map(|part| Some((part.as_str(), tensors.get(part)?))).collect(),
    }
}
