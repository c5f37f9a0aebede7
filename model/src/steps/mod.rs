//! Who computes: [`Plain`], the released arithmetic, one kernel after another; [`Tuned`], what makes it fast, and what users run.
//!
//! Both spread large work over a processor's cores (`backend::lanes`): that is how one kernel runs, and changes no bit.

mod attention;
mod plain;
mod tuned;
mod windows;

pub use attention::{attend, causal_bias};
pub use plain::Plain;
pub use tuned::Tuned;
