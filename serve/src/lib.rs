//! An endpoint for tools that already speak to one: OpenAI's chat completions, with images, streamed or whole. Never sees MLX: what makes
//! the texts is a [`Generator`], and stays on the thread that brought it.
//!
//! ```text
//! connection ─ http ─ chat ─ request (JSON → prompt, images, wishes) ─ prepare (pages → inputs) ─┐
//!                      ↑                                                                  queue │ job
//!                      └──── events: text, end, error ──── worker: generator, tokens → text ────┘
//! ```
//!
//! Everything is bounded: connections, headers, bodies and their time, pixels, waiting requests, texts side by side, tokens. A client that
//! goes away drops its end of the events, and the worker ends its text at the next step.

mod answer;
mod chat;
mod error;
mod generator;
mod http;
mod messages;
mod metrics;
mod options;
mod request;
mod server;
mod settings;
mod sse;
mod text;
mod worker;

pub use error::ServeError;
pub use generator::{Generator, GeneratorError, Made, Making, NoRepeat};
pub use server::{Server, Stopper};
pub use settings::{Limits, Log, Settings};
