//! A module's place in the model: its PyTorch path, and how PyTorch lays out what goes in and comes out.

use mlx_rs::Array;

use super::{Kind, Pass, Step};
use crate::error::{Error, Result};

/// How a tensor lies in PyTorch, where this model's own layout is channels-last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorchLayout {
    /// As in this model.
    Same,
    /// Channels first: \[N, C, H, W\] in PyTorch, \[N, H, W, C\] here.
    Nchw,
    /// Columns of an unfold whose kernel has that area: \[…, C·kernel_area\] in PyTorch, \[…, kernel_area·C\] here.
    Columns(i32),
}

impl TorchLayout {
    /// From this model's layout to PyTorch's.
    ///
    /// # Errors
    /// When the array is not four-dimensional.
    pub fn to_torch(self, x: &Array) -> Result<Array> {
        Ok(match self {
            Self::Same => x.clone(),
            Self::Nchw => x.transpose_axes(&[0, 3, 1, 2])?,
            Self::Columns(kernel_area) => columns_turned(x, kernel_area, false)?,
        })
    }

    /// From PyTorch's layout to this model's.
    ///
    /// # Errors
    /// When the array is not four-dimensional.
    pub fn from_torch(self, x: &Array) -> Result<Array> {
        Ok(match self {
            Self::Same => x.clone(),
            Self::Nchw => x.transpose_axes(&[0, 2, 3, 1])?,
            Self::Columns(kernel_area) => columns_turned(x, kernel_area, true)?,
        })
    }
}

/// The last axis read as channels and kernel elements (`from_torch`) or as kernel elements and channels, and written the other way round.
fn columns_turned(x: &Array, kernel_area: i32, from_torch: bool) -> Result<Array> {
    let width = x.dim(-1);
    if kernel_area < 1 || width % kernel_area != 0 {
        return Err(Error::input("unfold", format!("a multiple of {kernel_area} columns"), format!("{width}")));
    }
    let (channels, rows) = (width / kernel_area, x.size() as i32 / width.max(1));
    let apart = if from_torch { [rows, channels, kernel_area] } else { [rows, kernel_area, channels] };
    Ok(x.reshape(&apart)?.transpose_axes(&[0, 2, 1])?.reshape(x.shape())?)
}

/// A module's place in the model: its PyTorch path and how PyTorch lays out what goes in and comes out.
#[derive(Debug, Clone)]
pub struct Site {
    path: String,
    /// The module's path in the released checkpoint: every family has the same one for the same module, so steps stand there.
    released: String,
    input: TorchLayout,
    output: TorchLayout,
}

impl Site {
    /// A site whose tensors lie alike in both.
    pub fn new(path: impl Into<String>) -> Self {
        let path = path.into();
        Self { released: path.clone(), path, input: TorchLayout::Same, output: TorchLayout::Same }
    }

    /// The same for a class whose modules have other paths than the released checkpoint.
    pub fn renamed(path: impl Into<String>, released: impl Into<String>) -> Self {
        Self { released: released.into(), ..Self::new(path) }
    }

    /// Says that PyTorch's inputs, outputs or both are channels-first.
    #[must_use]
    pub fn with_layouts(mut self, input: TorchLayout, output: TorchLayout) -> Self {
        (self.input, self.output) = (input, output);
        self
    }

    /// The PyTorch module's path.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Computes a step of this module.
    ///
    /// # Errors
    /// MLX's; operands that do not fit.
    pub fn step(&self, pass: &Pass, step: Step) -> Result<Array> {
        pass.run(&self.released, step)
    }

    /// The same, where the module has several steps of the kind.
    ///
    /// # Errors
    /// MLX's; operands that do not fit.
    pub fn step_named(&self, pass: &Pass, name: &'static str, step: Step) -> Result<Array> {
        pass.run_named(&self.released, name, step)
    }

    /// Runs `f` as this module: shows the inputs, runs, shows the output.
    ///
    /// # Errors
    /// Those of `f` and of the listener.
    pub fn run(&self, pass: &Pass, inputs: &[&Array], f: impl FnOnce() -> Result<Array>) -> Result<Array> {
        for (index, input) in (0u8..).zip(inputs) {
            pass.show(&self.path, Kind::Input(index), || self.input.to_torch(input))?;
        }
        let out = f()?;
        pass.show(&self.path, Kind::Output, || self.output.to_torch(&out))?;
        Ok(out)
    }

    /// Runs `f` on inputs in PyTorch's layout and returns the output in PyTorch's layout.
    ///
    /// # Errors
    /// Those of `f`, and a wrong number of dimensions.
    pub fn isolated(&self, inputs: &[Array], f: impl FnOnce(&[Array]) -> Result<Array>) -> Result<Array> {
        let inputs = inputs.iter().map(|x| self.input.from_torch(x)).collect::<Result<Vec<_>>>()?;
        self.output.to_torch(&f(&inputs)?)
    }
}
