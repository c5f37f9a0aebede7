//! An endpoint for tools that already speak to one: OpenAI's chat completions, with images, streamed or whole. What makes the texts
//! is a [`Generator`], and stays on the thread that brought it; with the feature `engine` there is one over any model (`ModelGenerator`).
//!
//! ```text
//! connection ─ http ─ chat ─ request (JSON → prompt, images, wishes) ─ prepare (pages → inputs) ─┐
//!                      ↑                                                                  queue │ job
//!                      └──── events: text, end, error ──── worker: generator, tokens → text ────┘
//! ```
//!
//! Everything is bounded: connections, headers, bodies and their time, pixels, waiting requests, texts side by side, tokens. A client that
//! goes away drops its end of the events, and the worker ends its text at the next step.

#[cfg(feature = "server")]
mod access;
#[cfg(feature = "server")]
mod answer;
#[cfg(feature = "server")]
mod body;
#[cfg(feature = "server")]
mod chat;
#[cfg(feature = "engine")]
mod engine;
mod error;
pub mod flag_values;
#[cfg(feature = "server")]
mod generator;
#[cfg(feature = "server")]
mod job;
mod messages;
#[cfg(feature = "server")]
mod metrics;
mod options;
mod request;
#[cfg(feature = "server")]
mod routes;
#[cfg(feature = "server")]
mod server;
mod settings;
#[cfg(feature = "server")]
mod sse;
#[cfg(feature = "server")]
mod state;
#[cfg(feature = "server")]
mod text;
mod text_options;
#[cfg(feature = "server")]
mod worker;

#[cfg(feature = "engine")]
pub use engine::ModelGenerator;
pub use error::ServeError;
#[cfg(feature = "server")]
pub use generator::{Generator, GeneratorError, Made};
pub use request::{Checked, check};
#[cfg(feature = "server")]
pub use server::{Server, Stopper};
pub use settings::{Limits, Log, Settings};
pub use text_options::{NoRepeat, TextOptions};
