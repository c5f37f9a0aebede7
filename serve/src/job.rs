//! A request on its way to the generator, and what comes back.

use std::time::Instant;

use mlxport_ocr::Inputs;
use tokio::sync::{
    OwnedSemaphorePermit,
    mpsc::{UnboundedReceiver, UnboundedSender},
};

use crate::{error::ApiError, text_options::TextOptions};

/// A request on its way to the generator.
pub(crate) struct Job {
    pub inputs: Inputs,
    pub options: TextOptions,
    pub stops: Vec<String>,
    /// Where its text goes; closed once the client has gone away.
    pub events: UnboundedSender<Event>,
    /// When the request's body was read.
    pub asked: Instant,
    /// The request's slot in the queue.
    pub slot: OwnedSemaphorePermit,
    /// Permission to hold the inputs in memory.
    pub prepared: OwnedSemaphorePermit,
}

/// What a job comes to.
#[derive(Debug)]
pub(crate) enum Event {
    /// The prompt was read.
    Begun,
    /// More of the text, not empty.
    Text(String),
    /// The end.
    Done(Done),
    /// The end, too.
    Failed(ApiError),
}

/// How a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Done {
    /// By a token or a string that ends texts; else it has as many tokens as it may.
    pub stopped: bool,
    pub completion_tokens: usize,
}

/// A text whose prompt was read.
#[derive(Debug)]
pub(crate) struct Begun {
    pub prompt_tokens: usize,
    /// What comes of it, from its first token on.
    pub events: UnboundedReceiver<Event>,
}
