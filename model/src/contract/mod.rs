//! What every model keeps: the model and its prompt, modules and their paths, one forward pass, what it shows.

mod image;
mod model;
mod module;
mod operation;
mod pass;
mod site;
mod steps;
mod taps;

pub use image::{Image, TileGrid, merge};
pub use model::{Facts, Junction, Model, Prompt, Reading, Recorded, System, UsualRule, chunks};
pub use module::{Module, by_path, one};
pub use operation::Operation;
pub use pass::Pass;
pub use site::{Site, TorchLayout};
pub use steps::{At, MadeBias, Mask, Scoring, Step, Steps};
pub use taps::{Kind, Listener, Taps};
