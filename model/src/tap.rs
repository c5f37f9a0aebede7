//! Taps: where the model shows its intermediate tensors, and how a single module is run by name.
//!
//! A tap's name is the PyTorch module's path (`model.sam_model.blocks.0.attn`), its values are in PyTorch's layout. Taps cost
//! nothing when no one listens: the layout change and the recording happen only with a [`Listener`].

use std::cell::RefCell;

use mlx_rs::Array;

use crate::error::{Error, Result};

/// Which tensor of a module a tap shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// The tensor input at this place, from 0.
    Input(u8),
    /// What the module returned.
    Output,
    /// What a router scored: \[tokens, experts\], float32. PyTorch has no such tensor; it tells how close a choice was.
    Scores,
    /// The best score of each group, \[tokens, groups\], float32, shown after [`Kind::Scores`] where a router takes experts of
    /// some groups only: negative for those that it left out.
    Groups,
}

/// Who wants to see the taps.
pub trait Listener {
    /// Takes one tensor, in PyTorch's layout, not yet evaluated.
    ///
    /// # Errors
    /// Ends the forward pass with what it returns.
    fn tap(&mut self, path: &str, kind: Kind, value: Array) -> Result<()>;

    /// The experts that a router's next tokens must take, \[tokens, k\] int32, instead of `own`, those it chose and has shown.
    /// None: its own.
    ///
    /// # Errors
    /// MLX's.
    fn routes(&mut self, path: &str, own: &Array) -> Result<Option<Array>> {
        let _ = (path, own);
        Ok(None)
    }

    /// Whether taps of this module are wanted; asked before anything is computed only for them.
    fn wants(&self, path: &str) -> bool {
        let _ = path;
        true
    }
}

/// The listener of one forward pass, or no one.
pub struct Taps<'a>(Option<RefCell<&'a mut dyn Listener>>);

impl<'a> Taps<'a> {
    /// No one listens.
    pub fn none() -> Self {
        Self(None)
    }

    /// Every tap goes to `listener`.
    pub fn to(listener: &'a mut dyn Listener) -> Self {
        Self(Some(RefCell::new(listener)))
    }

    /// Whether there is a listener at all.
    pub(crate) fn is_none(&self) -> bool {
        self.0.is_none()
    }

    /// Whether someone wants the taps of this module.
    pub fn listening(&self, path: &str) -> bool {
        self.0.as_ref().is_some_and(|l| l.borrow().wants(path))
    }

    /// What the listener wants a router to take: see [`Listener::routes`].
    ///
    /// # Errors
    /// The listener's.
    pub fn routes(&self, path: &str, own: &Array) -> Result<Option<Array>> {
        self.0.as_ref().map_or(Ok(None), |listener| listener.borrow_mut().routes(path, own))
    }

    /// Shows one tensor; `value` runs only when someone listens.
    ///
    /// # Errors
    /// Those of `value` and of the listener.
    pub fn show(&self, path: &str, kind: Kind, value: impl FnOnce() -> Result<Array>) -> Result<()> {
        match &self.0 {
            Some(listener) if listener.borrow().wants(path) => {
                let value = value()?;
                listener.borrow_mut().tap(path, kind, value)
            }
            _ => Ok(()),
        }
    }
}

/// How a tensor lies in PyTorch, where this model's own layout is channels-last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TorchLayout {
    /// As in this model.
    Same,
    /// Channels first: \[N, C, H, W\] in PyTorch, \[N, H, W, C\] here.
    Nchw,
    /// Columns of an unfold with that many places: \[…, C·places\] in PyTorch, \[…, places·C\] here.
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
            Self::Columns(places) => columns_turned(x, places, false)?,
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
            Self::Columns(places) => columns_turned(x, places, true)?,
        })
    }
}

/// The last axis read as channels and places (`from_torch`) or as places and channels, and written the other way round.
fn columns_turned(x: &Array, places: i32, from_torch: bool) -> Result<Array> {
    let width = x.dim(-1);
    if places < 1 || width % places != 0 {
        return Err(Error::input("unfold", format!("a multiple of {places} columns"), format!("{width}")));
    }
    let (channels, rows) = (width / places, x.size() as i32 / width.max(1));
    let apart = if from_torch { [rows, channels, places] } else { [rows, places, channels] };
    Ok(x.reshape(&apart)?.transpose_axes(&[0, 2, 1])?.reshape(x.shape())?)
}

/// A module's place in the model: its PyTorch path and how PyTorch lays out what goes in and comes out.
#[derive(Debug, Clone)]
pub struct Site {
    path: String,
    input: TorchLayout,
    output: TorchLayout,
}

impl Site {
    /// A site whose tensors lie alike in both.
    pub fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), input: TorchLayout::Same, output: TorchLayout::Same }
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

    /// Runs `f` as this module: shows the inputs, runs, shows the output.
    ///
    /// # Errors
    /// Those of `f` and of the listener.
    pub fn run(&self, taps: &Taps, inputs: &[&Array], f: impl FnOnce() -> Result<Array>) -> Result<Array> {
        for (index, input) in (0u8..).zip(inputs) {
            taps.show(&self.path, Kind::Input(index), || self.input.to_torch(input))?;
        }
        let out = f()?;
        taps.show(&self.path, Kind::Output, || self.output.to_torch(&out))?;
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

/// A part of the model that can be found by its PyTorch path and run on its own.
pub trait Module {
    /// Where it is.
    fn site(&self) -> &Site;

    /// Runs it on `inputs`, given as PyTorch gave them (order and layout), and returns what PyTorch returned.
    /// Taps inside it are shown as in a whole pass.
    ///
    /// # Errors
    /// When the inputs do not fit.
    fn call(&self, inputs: &[Array], taps: &Taps) -> Result<Array>;

    /// The modules inside it, in PyTorch's order.
    fn children(&self) -> Vec<&dyn Module> {
        Vec::new()
    }

    /// What the module would have returned with a usual mistake undone, with the mistake in words; outputs in PyTorch's layout.
    /// For hints: called only where the module failed.
    ///
    /// # Errors
    /// When the inputs do not fit.
    fn alternatives(&self, inputs: &[Array]) -> Result<Vec<(String, Array)>> {
        let _ = inputs;
        Ok(Vec::new())
    }

    /// The bare operations of its own, without those of the modules inside it.
    fn operations(&self) -> Vec<Operation> {
        Vec::new()
    }

    /// The bare operations that a value meets on its way through, for the runtime's floor.
    fn chain(&self) -> Vec<Operation> {
        let mut all = self.operations();
        self.children().into_iter().for_each(|child| all.extend(child.chain()));
        all
    }
}

/// A bare operation with the size that decides its rounding error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Operation {
    /// Products summed over `depth` terms: linear layers and convolutions.
    Product {
        /// Terms per sum.
        depth: i32,
    },
    /// LayerNorm over `width` values.
    LayerNorm {
        /// Values per row.
        width: i32,
    },
    /// RMSNorm over `width` values.
    RmsNorm {
        /// Values per row.
        width: i32,
    },
    /// softmax(QKᵀ)V with heads of `head_dim`.
    Attention {
        /// Width of a head.
        head_dim: i32,
    },
    /// x·Φ(x).
    Gelu,
    /// Its approximation by tanh.
    GeluTanh,
    /// x·σ(1.702x).
    QuickGelu,
    /// x·σ(x).
    Silu,
    /// Rotation by position: cosines and sines of float32 angles.
    Rope {
        /// Width of a head.
        head_dim: i32,
    },
}
