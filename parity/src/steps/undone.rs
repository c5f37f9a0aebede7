//! What a module would have returned with a usual mistake undone: its own steps, one at a time, with the other numbers, functions, filters
//! and layouts that ports have. For hints: tried only where a module failed.

use std::cell::RefCell;

use mlx_rs::Array;
use mlxport_model::{
    Pass, Result,
    backend::{
        Matrix, Param,
        resample::{Bicubic, LinearMode},
    },
    contract::{At, Module, Operation, Step, Steps},
};

use super::{Edited, StepEdit, taken};

/// Epsilons that models have.
const EPSILONS: [f32; 6] = [1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-3];
const ACTIVATIONS: [Operation; 4] = [Operation::Gelu, Operation::GeluTanh, Operation::QuickGelu, Operation::Silu];
const BICUBIC: [(Bicubic, &str); 4] = [
    (Bicubic::Antialias, "bicubic with antialias"),
    (Bicubic::Plain, "bicubic without antialias"),
    (Bicubic::AlignCorners, "bicubic with aligned corners"),
    (Bicubic::WholePixels, "bicubic half a pixel off"),
];
const LINEAR: [(LinearMode, &str); 3] = [
    (LinearMode::HalfPixels, "linear"),
    (LinearMode::AlignCorners, "linear with aligned corners"),
    (LinearMode::WholePixels, "linear half a pixel off"),
];

/// Another way to compute a step.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Change {
    Epsilon(f32),
    Function(Operation),
    Bicubic(Bicubic),
    Linear(LinearMode),
    /// The weight of a product transposed.
    Transposed,
    /// A kernel's height and width exchanged.
    Sides,
    /// A kernel turned by 180°.
    Turned,
    /// A kernel's input channels reversed.
    Channels,
}

/// What `module`, run by `base` with `edits`, would have returned on `inputs` with each change, with the mistake in words; in PyTorch's layout.
///
/// # Errors
/// When the inputs do not fit.
pub fn undone(
    module: &dyn Module,
    inputs: &[Array],
    (base, edits): (&dyn Steps, &[StepEdit]),
) -> Result<Vec<(String, Array)>> {
    let path = module.site().path();
    let watch = Watch { base, path, seen: RefCell::default() };
    module.call(inputs, &Pass::by(&Edited::new(&watch, edits)))?;
    let mut seen = watch.seen.take();
    seen.dedup_by(|a, b| a.0 == b.0);
    let tried = seen.into_iter().map(|(cause, change)| {
        let changed = Changed { base, path, change };
        Ok((cause, module.call(inputs, &Pass::by(&Edited::new(&changed, edits)))?))
    });
    tried.collect()
}

/// Notes what could be otherwise in the steps of one module, as they are computed in the end.
struct Watch<'a> {
    base: &'a dyn Steps,
    path: &'a str,
    seen: RefCell<Vec<(String, Change)>>,
}

impl Steps for Watch<'_> {
    fn run(&self, at: At, step: Step) -> Result<Array> {
        if at.path == self.path {
            self.seen.borrow_mut().extend(changes(step));
        }
        self.base.run(at, step)
    }

    fn together(&self) -> bool {
        self.base.together()
    }
}

fn changes(step: Step) -> Vec<(String, Change)> {
    match step {
        Step::LayerNorm { eps, .. } | Step::RmsNorm { eps, .. } => {
            let others = EPSILONS.into_iter().filter(|other| (other / eps - 1.0).abs() > 1e-3);
            others
                .map(|other| (format!("epsilon is {eps:e} and should be {other:e}"), Change::Epsilon(other)))
                .collect()
        }
        Step::Activate { function, .. } => {
            let others = ACTIVATIONS.into_iter().filter(|other| *other != function);
            let cause = |other| format!("the activation is {function:?} and should be {other:?}");
            others.map(|other| (cause(other), Change::Function(other))).collect()
        }
        Step::Resample { mode, table, size, .. } if table.dim(1) != size => resampled(mode, &BICUBIC, Change::Bicubic),
        Step::ResampleRows { mode, rows, size, .. } if rows.dim(0) != size => resampled(mode, &LINEAR, Change::Linear),
        Step::Product { weight, .. } if weight.rows() == weight.depth() => {
            vec![("the weight is transposed".into(), Change::Transposed)]
        }
        Step::Convolve { weight, .. }
            if weight.stored().dim(1) == weight.stored().dim(2) && weight.stored().dim(1) > 1 =>
        {
            vec![
                ("the kernel's height and width are exchanged".into(), Change::Sides),
                ("the kernel is turned by 180°".into(), Change::Turned),
                ("the kernel's input channels are reversed".into(), Change::Channels),
            ]
        }
        _ => Vec::new(),
    }
}

fn resampled<M: Copy + PartialEq>(own: M, all: &[(M, &str)], change: fn(M) -> Change) -> Vec<(String, Change)> {
    let named = all.iter().find(|(mode, _)| *mode == own).map_or("", |(_, name)| name);
    let cause = |name: &str| format!("the position table is resampled {named} and should be {name}");
    all.iter().filter(|(mode, _)| *mode != own).map(|(mode, name)| (cause(name), change(*mode))).collect()
}

/// The steps of one module with one change.
struct Changed<'a> {
    base: &'a dyn Steps,
    path: &'a str,
    change: Change,
}

impl Steps for Changed<'_> {
    fn run(&self, at: At, step: Step) -> Result<Array> {
        if at.path != self.path {
            return self.base.run(at, step);
        }
        let (matrix, param);
        let step = match (self.change, step) {
            (Change::Epsilon(eps), Step::LayerNorm { x, weight, bias, kernel_area, .. }) => {
                Step::LayerNorm { x, weight, bias, eps, kernel_area }
            }
            (Change::Epsilon(eps), Step::RmsNorm { x, weight, .. }) => Step::RmsNorm { x, weight, eps },
            (Change::Function(function), Step::Activate { x, .. }) => Step::Activate { x, function },
            (Change::Bicubic(mode), Step::Resample { table, size, dtype, .. }) => {
                Step::Resample { table, size, mode, dtype }
            }
            (Change::Linear(mode), Step::ResampleRows { rows, size, dtype, .. }) => {
                Step::ResampleRows { rows, size, mode, dtype }
            }
            (Change::Transposed, Step::Product { x, weight, bias }) => {
                matrix = Matrix::Floats(Param::new(weight.floats(x.dtype())?.t()));
                Step::Product { x, weight: &matrix, bias }
            }
            (change, Step::Convolve { x, weight, bias, stride, padding }) => {
                param = Param::new(kernel(weight.stored(), change)?);
                Step::Convolve { x, weight: &param, bias, stride, padding }
            }
            (_, step) => step,
        };
        self.base.run(at, step)
    }

    fn together(&self) -> bool {
        self.base.together()
    }
}

fn kernel(weight: &Array, change: Change) -> Result<Array> {
    let reversed = |w: &Array, axis: i32| taken(w, axis, (0..w.dim(axis)).rev());
    match change {
        Change::Sides => Ok(weight.transpose_axes(&[0, 2, 1, 3])?),
        Change::Turned => reversed(&reversed(weight, 1)?, 2),
        Change::Channels => reversed(weight, 3),
        _ => Ok(weight.clone()),
    }
}
