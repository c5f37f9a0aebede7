//! Taps: where the model shows its intermediate tensors.
//!
//! A tap's name is the PyTorch module's path (`model.sam_model.blocks.0.attn`), its values are in PyTorch's layout. Taps cost
//! nothing when no one listens: the layout change and the recording happen only with a [`Listener`].

use std::cell::RefCell;

use mlx_rs::Array;

use crate::error::Result;

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

    /// Whether it hears routers only. Then work that PyTorch does one after the other may be done together all the same.
    fn hears_routers_only(&self) -> bool {
        false
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

    /// Whether no one wants to see what is between the modules' inputs and outputs.
    pub(crate) fn has_no_listener(&self) -> bool {
        self.0.as_ref().is_none_or(|listener| listener.borrow().hears_routers_only())
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
