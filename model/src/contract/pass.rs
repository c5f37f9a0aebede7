//! One forward pass: who listens, and how each step is computed.

use mlx_rs::Array;

use super::{At, Kind, Listener, Step, Steps, Taps};
use crate::error::Result;

/// What every forward is given. Modules take it by reference and pass it on.
pub struct Pass<'a> {
    taps: Taps<'a>,
    steps: &'a dyn Steps,
}

impl<'a> Pass<'a> {
    /// No one listens; `steps` compute.
    #[must_use]
    pub fn by(steps: &'a dyn Steps) -> Self {
        Self { taps: Taps::none(), steps }
    }

    /// Every tap goes to `listener`; `steps` compute.
    pub fn with_listener(listener: &'a mut dyn Listener, steps: &'a dyn Steps) -> Self {
        Self { taps: Taps::to(listener), steps }
    }

    /// The same steps for another listener.
    pub fn for_another<'b>(&self, listener: &'b mut dyn Listener) -> Pass<'b>
    where
        'a: 'b,
    {
        Pass { taps: Taps::to(listener), steps: self.steps }
    }

    /// The same steps, and no one listens.
    #[must_use]
    pub fn without_listener(&self) -> Pass<'a> {
        Pass { taps: Taps::none(), steps: self.steps }
    }

    /// How the steps are computed.
    #[must_use]
    pub fn steps(&self) -> &'a dyn Steps {
        self.steps
    }

    /// Whether work that PyTorch does one after the other may be done together: the steps do so, and no one wants to see what is between.
    #[must_use]
    pub fn together(&self) -> bool {
        self.steps.together() && self.taps.has_no_listener()
    }

    /// Computes one step of the module at `path`.
    ///
    /// # Errors
    /// MLX's; operands that do not fit.
    pub fn run(&self, path: &str, step: Step) -> Result<Array> {
        self.run_named(path, "", step)
    }

    /// The same, where the module has several steps of the kind.
    ///
    /// # Errors
    /// MLX's; operands that do not fit.
    pub fn run_named(&self, path: &str, name: &'static str, step: Step) -> Result<Array> {
        self.steps.run(At { path, name }, step)
    }

    /// Whether what depends on weights alone may be kept for later passes: see [`Steps::keeps`].
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.steps.keeps()
    }

    /// Whether someone wants the taps of this module.
    #[must_use]
    pub fn listening(&self, path: &str) -> bool {
        self.taps.listening(path)
    }

    /// The experts that a router is to take: see [`Listener::routes`].
    ///
    /// # Errors
    /// The listener's.
    pub fn routes(&self, path: &str, own: &Array) -> Result<Option<Array>> {
        self.taps.routes(path, own)
    }

    /// Shows one tensor; `value` runs only when someone listens.
    ///
    /// # Errors
    /// Those of `value` and of the listener.
    pub fn show(&self, path: &str, kind: Kind, value: impl FnOnce() -> Result<Array>) -> Result<()> {
        self.taps.show(path, kind, value)
    }
}
