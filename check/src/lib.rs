//! Is a Python MLX port right? The Python package runs PyTorch and the port and records both; this judges what it recorded.
//!
//! ```text
//! recorded (check.json) ─ judge (compare/, scenario by scenario) ─ outcome (one verdict, coverage, the first failure) ─ write
//! ```
//!
//! Nothing is run here, and nothing printed.

mod allowed;
mod judge;
mod outcome;
mod page;
mod recorded;
mod write;

pub use allowed::Allowed;
pub use judge::{Judged, judge};
pub use outcome::Outcome;
pub use recorded::{Cause, Recorded, Scenario, Unmapped};
pub use write::{text, write};
