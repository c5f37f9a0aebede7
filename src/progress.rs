//! The progress bar: on stderr, on a terminal only, gone when the work is done.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};
use mlxport_convert::progress::Progress;

/// How often the bar is drawn anew while nothing is written (a flush can take seconds), in milliseconds.
const TICK_MS: u64 = 200;

/// A bar of bytes, with throughput and the time that is left.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar for `byte_len` bytes; `None` where stderr is no terminal.
    pub fn on_terminal(byte_len: u64) -> Option<Self> {
        if !std::io::stderr().is_terminal() {
            return None;
        }
        let bar = ProgressBar::new(byte_len);
        let template = "{msg} {wide_bar} {decimal_bytes}/{decimal_total_bytes}, {decimal_bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message("writing");
        bar.enable_steady_tick(std::time::Duration::from_millis(TICK_MS));
        Some(Self(bar))
    }
}

impl Progress for Bar {
    fn advance(&self, byte_len: u64) {
        self.0.inc(byte_len);
    }

    fn flushing(&self) {
        self.0.set_message("flushing to disk");
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
