//! What a server is told when it begins: where, whose model, and how much of everything.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mlxport_ocr::Mode;

/// All that a server is told.
#[derive(Clone)]
pub struct Settings {
    /// Where to listen; port 0 takes any that is free.
    pub address: SocketAddr,
    /// The model's name, as `/v1/models` lists it and requests must give it.
    pub model: String,
    /// The key that requests must bring as `Authorization: Bearer KEY`; none: no key is asked for.
    pub api_key: Option<String>,
    /// How pages are cut and scaled where a request does not say.
    pub mode: Mode,
    /// The n of the no-repeat rule where a request does not say; 0: no rule.
    pub no_repeat_ngram: usize,
    /// Tokens that end a text; they are no part of it.
    pub end_ids: Vec<i32>,
    /// How much of everything.
    pub limits: Limits,
    /// Is told what happens; must be quick.
    pub log: Arc<dyn Fn(&Log) + Send + Sync>,
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; others wait to be accepted.
    pub connections: usize,
    /// Bytes of a request's line and headers.
    pub header_byte_len: usize,
    /// Bytes of a request's body.
    pub body_byte_len: usize,
    /// Bodies being read at a time; others wait.
    pub bodies: usize,
    /// How long a client may take for its headers, from the connection's or the last answer's end.
    pub header_time: Duration,
    /// How long a client may take for its body.
    pub body_time: Duration,
    /// How long a client may take nothing of an answer.
    pub stall_time: Duration,
    /// Images of a request.
    pub images: usize,
    /// Pixels of a request's images together.
    pub image_pixels: u64,
    /// Requests that wait while as many as `batch` are worked on.
    pub queue: usize,
    /// Texts made side by side.
    pub batch: usize,
    /// Tokens of a text.
    pub max_tokens: usize,
    /// Tokens of a prompt and its text together.
    pub context_tokens: usize,
    /// How long requests under way may take once the server has been told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 128,
            header_byte_len: 32 << 10,
            body_byte_len: 32 << 20,
            bodies: 8,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            stall_time: Duration::from_secs(60),
            images: 1,
            image_pixels: 50_000_000,
            queue: 32,
            batch: 8,
            max_tokens: 8192,
            context_tokens: 8192,
            grace: Duration::from_secs(30),
        }
    }
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Log {
    /// A request was answered; of a streamed answer, its head.
    Answered {
        /// GET, POST, …
        method: String,
        /// The path, cut to 200 characters, control characters escaped.
        path: String,
        /// The status.
        status: u16,
        /// What an error said.
        message: Option<String>,
        /// From the headers' end to the answer's head.
        seconds: f64,
    },
    /// A text ended.
    Made {
        /// Tokens of the prompt.
        prompt_tokens: usize,
        /// Tokens made.
        completion_tokens: usize,
        /// `stop`, `length`, `cancelled` or `failed`.
        finish: &'static str,
        /// From the prompt's beginning to the text's end.
        seconds: f64,
    },
    /// The server was told to stop, and finishes what is under way.
    Stopping,
}
