//! Progress in pages, with pages and tokens a second: on stderr, on a terminal only. Notes for people go to stderr, texts to stdout.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};
use mlxport_read::Watcher;

use crate::output::to_stdout;

/// How often the figures are drawn anew.
const EVERY: Duration = Duration::from_millis(200);

/// Pages and tokens so far.
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    drawn: Instant,
    tokens: usize,
    read: usize,
    pages: usize,
}

impl Progress {
    /// Nothing yet; no bar where stderr is no terminal.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            if let Ok(style) = ProgressStyle::with_template("{pos}/{len} pages {wide_bar} {msg}, {eta} left") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(EVERY);
            bar
        });
        let now = Instant::now();
        Self { bar, begun: now, drawn: now, tokens: 0, read: 0, pages: 0 }
    }

    /// All that was read.
    pub fn summary(&self) -> String {
        let (pages, seconds) = (if self.read == 1 { "page" } else { "pages" }, self.begun.elapsed().as_secs_f64());
        format!("{} {pages}, {} tokens, {seconds:.1} s, {}", self.read, self.tokens, self.speed())
    }

    fn speed(&self) -> String {
        let seconds = self.begun.elapsed().as_secs_f64().max(1e-9);
        format!("{:.2} pages/s, {:.1} tokens/s", self.read as f64 / seconds, self.tokens as f64 / seconds)
    }
}

impl Watcher for Progress {
    fn more_pages(&mut self, count: usize) {
        self.pages += count;
        if let Some(bar) = &self.bar {
            bar.set_length(self.pages as u64);
        }
    }

    fn page_done(&mut self, was_read: bool) {
        self.read += usize::from(was_read);
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    fn tokens(&mut self, made: usize, pages: usize) {
        self.tokens += made;
        if let Some(bar) = self.bar.as_ref().filter(|_| self.drawn.elapsed() >= EVERY) {
            bar.set_message(format!("{pages} at a time, {}", self.speed()));
            self.drawn = Instant::now();
        }
    }

    fn note(&mut self, line: &str) {
        let write = || {
            // A note that cannot be written is no reason to stop.
            let _ = writeln!(std::io::stderr(), "{line}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    fn text(&mut self, text: &str) -> std::io::Result<()> {
        to_stdout(text)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
