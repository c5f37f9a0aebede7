//! Counters, as `/metrics` shows them (OpenMetrics' text format).

use prometheus_client::{
    encoding::text::encode,
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

/// Everything counted since the server began.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    /// Answers by status.
    pub answers: Family<[(&'static str, u16); 1], Counter>,
    /// Texts being made.
    pub running: Gauge,
    /// Requests that hold a slot, but no text yet; set when the metrics are shown.
    waiting: Gauge,
    /// Texts that ended by themselves.
    pub finished: Counter,
    /// Texts whose client went away, or that the server's end cut.
    pub cancelled: Counter,
    /// Texts that failed.
    pub failed: Counter,
    /// Tokens of prompts read.
    pub prompt_tokens: Counter,
    /// Tokens made.
    pub completion_tokens: Counter,
    /// Seconds from a request's body to its first token.
    pub first_token_seconds: Histogram,
}

impl Metrics {
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("mlxport"),
            answers: Family::default(),
            running: Gauge::default(),
            waiting: Gauge::default(),
            finished: Counter::default(),
            cancelled: Counter::default(),
            failed: Counter::default(),
            prompt_tokens: Counter::default(),
            completion_tokens: Counter::default(),
            first_token_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
        };
        let registry = &mut metrics.registry;
        registry.register("http_answers", "Answers by status", metrics.answers.clone());
        registry.register("requests_running", "Texts being made", metrics.running.clone());
        registry.register("requests_waiting", "Requests that wait for their text", metrics.waiting.clone());
        registry.register("texts_finished", "Texts that ended by themselves", metrics.finished.clone());
        let cancelled = "Texts whose client went away, or that the server's end cut";
        registry.register("texts_cancelled", cancelled, metrics.cancelled.clone());
        registry.register("texts_failed", "Texts that failed", metrics.failed.clone());
        registry.register("prompt_tokens", "Tokens of prompts read", metrics.prompt_tokens.clone());
        registry.register("completion_tokens", "Tokens made", metrics.completion_tokens.clone());
        let first = "Seconds from a request's body to its first token";
        registry.register("first_token_seconds", first, metrics.first_token_seconds.clone());
        metrics
    }

    /// Counts an answer.
    pub fn answered(&self, status: u16) {
        self.answers.get_or_create(&[("status", status)]).inc();
    }

    /// The text; `waiting` requests hold a slot, but no text yet.
    pub fn text(&self, waiting: i64) -> String {
        self.waiting.set(waiting);
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// Counts one more as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(&'a Gauge);

impl<'a> Counted<'a> {
    pub fn new(gauge: &'a Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}
