//! One file per command: its flags, and the wiring of the libraries that do the work.

pub mod audit;
pub mod check;
pub mod compare;
pub mod convert;
pub mod decode;
pub mod demo;
pub mod draw_pdf;
mod hub_progress;
pub mod inspect;
pub mod lock;
pub mod mutate;
pub mod ocr;
pub mod parity;
pub mod preprocess;
mod prompt_args;
pub mod recipe;
pub mod report;
pub mod serve;
pub mod verify;
