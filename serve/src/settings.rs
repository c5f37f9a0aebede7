//! What a server is told when it begins: where, whose model, and how much of everything.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

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
    /// Names that a request's `Host` may have on loopback, besides addresses and `localhost`; without ports.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may ask (`http://localhost:3000`); `*`: any.
    pub cors_origins: Vec<String>,
    /// Fields that are unknown, or cannot be followed, are refused; else they are ignored with a warning.
    pub strict_fields: bool,
    /// How much of everything.
    pub limits: Limits,
    /// Is told what happens; must be quick.
    pub log: Arc<dyn Fn(&Log) + Send + Sync>,
}

impl Settings {
    /// The usual settings for a model of this name: any free port on loopback, no key, no log.
    #[must_use]
    pub fn new(model: impl Into<String>) -> Self {
        Self {
            address: (std::net::Ipv4Addr::LOCALHOST, 0).into(),
            model: model.into(),
            api_key: None,
            mode: Mode::Gundam,
            no_repeat_ngram: 20,
            end_ids: vec![1],
            allowed_hosts: Vec::new(),
            cors_origins: Vec::new(),
            strict_fields: false,
            limits: Limits::default(),
            log: Arc::new(|_| ()),
        }
    }
}

/// How much of everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time; as many more wait for `wait_time`, others to be accepted.
    pub connections: usize,
    /// Bytes of a request's line and headers.
    pub header_byte_len: usize,
    /// Bytes of a request's body.
    pub body_byte_len: usize,
    /// Bytes of all bodies being read, as far as they have arrived; more of them waits for `wait_time`.
    pub bodies_byte_len: usize,
    /// How long a client may take for its headers, from the connection's or the last answer's end.
    pub header_time: Duration,
    /// How long a client may take for its body.
    pub body_time: Duration,
    /// How long a client may send nothing of its body.
    pub body_stall_time: Duration,
    /// How long a connection or a body waits for others to end before the answer is 503.
    pub wait_time: Duration,
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
            connections: 256,
            header_byte_len: 32 << 10,
            body_byte_len: 32 << 20,
            bodies_byte_len: 256 << 20,
            header_time: Duration::from_secs(15),
            body_time: Duration::from_secs(60),
            body_stall_time: Duration::from_secs(10),
            wait_time: Duration::from_secs(5),
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
    /// A request is answered, but not all of it was followed.
    Ignored {
        /// What was not.
        fields: Vec<String>,
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

/// As a line of a log.
impl fmt::Display for Log {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered { method, path, status, message, seconds } => {
                let message = message.as_ref().map_or(String::new(), |message| format!(": {}", message.escape_debug()));
                write!(to, "{method} {path} {status}, {seconds:.2} s{message}")
            }
            Self::Ignored { fields } => write!(to, "ignored in a request: {}", fields.join(", ")),
            Self::Made { prompt_tokens, completion_tokens, finish, seconds } => {
                let speed = *completion_tokens as f64 / seconds.max(1e-9);
                write!(
                    to,
                    "{prompt_tokens} tokens read, {completion_tokens} made, {seconds:.2} s, {speed:.1} tokens/s, end: {finish}"
                )
            }
            Self::Stopping => write!(to, "stopping: requests under way finish; a second signal cuts them off"),
        }
    }
}
