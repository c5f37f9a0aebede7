//! One file per command: its flags, and the wiring of the rooms that do the work.

pub mod compare;
pub mod convert;
mod hub_progress;
pub mod inspect;
pub mod lock;
pub mod mutate;
pub mod parity;
pub mod preprocess;
pub mod report;
pub mod variants;
pub mod verify;
