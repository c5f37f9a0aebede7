//! What can go wrong: for those who start a server, and for those who ask it.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// A server that cannot begin, or ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken, not this machine's, or not allowed.
    #[error("{address}: cannot listen there: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The threads that speak HTTP could not be started, or panicked.
    #[error("the HTTP side of the server ended: {0}")]
    Http(String),
    /// A signal cannot be listened for.
    #[error("cannot listen for signals: {0}")]
    Signals(std::io::Error),
}

/// An answer that says no, in the shape that OpenAI's clients know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    /// The field that is wrong.
    pub param: Option<String>,
    pub message: String,
    /// One more header: its name and value.
    #[cfg(feature = "server")]
    pub header: Option<(&'static str, &'static str)>,
}

/// How long a client should wait before it asks again, in seconds.
#[cfg(feature = "server")]
pub(crate) const RETRY_AFTER: &str = "5";
/// How many problems a message names, and little more than how many are looked for.
pub(crate) const NAMED: usize = 50;

/// One thing wrong with a request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The field, `messages[0].content[1].image_url.url` say.
    pub param: String,
    /// What was expected and what was found.
    pub message: String,
    pub code: Option<&'static str>,
}

impl ApiError {
    pub fn new(status: u16, kind: &'static str, code: Option<&'static str>, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            status,
            kind,
            code,
            param: None,
            message,
            #[cfg(feature = "server")]
            header: None,
        }
    }

    /// 400 and the like: the client's doing.
    pub fn request(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self::new(status, "invalid_request_error", code, message)
    }

    pub fn with_param(self, param: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// 400 for all that is wrong with a body, `problems` not being empty; `param` and `code` are the first one's.
    pub fn problems(problems: Vec<Problem>) -> Self {
        let mut texts: Vec<String> =
            problems.iter().take(NAMED).map(|p| format!("{}: {}", p.param, p.message)).collect();
        if problems.len() > NAMED {
            texts.push("and more".to_owned());
        }
        let mut error = Self::request(400, None, texts.join("; "));
        if let Some(first) = problems.into_iter().next() {
            (error.param, error.code) = (Some(first.param), first.code);
        }
        error
    }

    /// `{"error": {"message": …, "type": …, "param": …, "code": …}}`.
    pub fn object(&self) -> Value {
        json!({ "error": { "message": self.message, "type": self.kind, "param": self.param, "code": self.code } })
    }
}

/// What only a server says.
#[cfg(feature = "server")]
impl ApiError {
    /// 500 and the like: ours.
    pub fn server(status: u16, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self::new(status, "server_error", code, message)
    }

    pub fn with_header(self, name: &'static str, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }

    /// The server is about to end.
    pub fn stopping() -> Self {
        Self::server(503, Some("shutting_down"), "the server is shutting down")
    }

    /// Too much at once; `found` says of what.
    pub fn busy(found: impl Into<String>) -> Self {
        Self::server(503, Some("busy"), found).with_header("retry-after", RETRY_AFTER)
    }
}

#[cfg(feature = "server")]
impl axum::response::IntoResponse for ApiError {
    /// The message comes along as an extension, for the log.
    fn into_response(self) -> axum::response::Response {
        use axum::http::{HeaderValue, StatusCode, header};
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self.object())).into_response();
        let headers = response.headers_mut();
        if let Some((name, value)) = self.header {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // What is left of such a body is not read.
        if [408, 413, 415, 503].contains(&self.status) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response.extensions_mut().insert(Refusal(self.message));
        response
    }
}

/// What an error's message said.
#[cfg(feature = "server")]
#[derive(Debug, Clone)]
pub(crate) struct Refusal(pub String);
