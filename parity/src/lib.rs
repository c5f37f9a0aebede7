//! Runs the MLX model against a fixture, tap by tap.
//!
//! [`run`](run::run) is the whole: it opens fixture and model, measures the runtime's floors (`calibrate`), runs the modes
//! (`cumulative`, `isolated`), has every tap judged (`judge`) and returns the versioned record.

pub mod calibrate;
mod cumulative;
pub mod decode;
mod decode_report;
mod distance;
pub mod driver;
pub mod error;
mod experts;
pub mod fault;
mod floors;
pub mod host;
mod inputs;
mod isolated;
mod joined_taps;
mod judge;
pub mod mutate;
mod origin;
pub mod parts;
mod routers;
mod routing;
pub mod run;
pub mod select;
pub mod steps;
mod ties;
mod timing;
mod tuned;

pub use decode::{DecodeRequest, Decoded, decode};
pub use distance::distance;
pub use error::{Error, Result};
pub use mutate::mutate;
pub use origin::other_origin;
pub use run::{Request, run};
pub use select::Selection;
pub use timing::{Timing, timing};
