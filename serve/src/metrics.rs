//! Counters, as `/metrics` shows them (Prometheus' text format).

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// Everything counted since the server began.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// Answers by status.
    answers: Mutex<BTreeMap<u16, u64>>,
    /// Texts being made.
    pub running: AtomicU64,
    /// Texts that ended by themselves.
    pub finished: AtomicU64,
    /// Texts whose client went away, or that the server's end cut.
    pub cancelled: AtomicU64,
    /// Texts that failed.
    pub failed: AtomicU64,
    /// Tokens of prompts read.
    pub prompt_tokens: AtomicU64,
    /// Tokens made.
    pub completion_tokens: AtomicU64,
}

impl Metrics {
    pub fn answered(&self, status: u16) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// The text; `waiting` requests have a place, but no text yet.
    pub fn text(&self, waiting: u64) -> String {
        let mut text = String::from("# TYPE mlxport_http_answers_total counter\n");
        for (status, count) in self.answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(text, "mlxport_http_answers_total{{status=\"{status}\"}} {count}");
        }
        let all = [
            ("mlxport_requests_running", "gauge", self.running.load(Relaxed)),
            ("mlxport_requests_waiting", "gauge", waiting),
            ("mlxport_texts_finished_total", "counter", self.finished.load(Relaxed)),
            ("mlxport_texts_cancelled_total", "counter", self.cancelled.load(Relaxed)),
            ("mlxport_texts_failed_total", "counter", self.failed.load(Relaxed)),
            ("mlxport_prompt_tokens_total", "counter", self.prompt_tokens.load(Relaxed)),
            ("mlxport_completion_tokens_total", "counter", self.completion_tokens.load(Relaxed)),
        ];
        for (name, kind, value) in all {
            let _ = writeln!(text, "# TYPE {name} {kind}\n{name} {value}");
        }
        text
    }
}

/// One more as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted<'a>(pub &'a AtomicU64);

impl<'a> Counted<'a> {
    pub fn new(count: &'a AtomicU64) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
