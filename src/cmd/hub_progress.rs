//! SRC as a person writes it becomes a path: a hub id is downloaded first, with a bar on a terminal.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use mlxport_hub::{HubError, Progress, Settings, Silent, Source, fetch};

/// Where SRC lies on this machine, after a download if it is a hub id. `json` shows no bar.
///
/// # Errors
/// [`HubError`] when SRC is nothing, or cannot be downloaded whole.
pub fn resolve(text: &str, json: bool) -> Result<PathBuf, HubError> {
    let id = match Source::parse(text)? {
        Source::Local(path) => return Ok(path),
        Source::Hub(id) => id,
    };
    let settings = Settings::from_env()?;
    if json || !std::io::stderr().is_terminal() {
        return fetch(&id, &settings, &Silent);
    }
    let bar = Bar(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()));
    let outcome = fetch(&id, &settings, &bar);
    bar.0.finish_and_clear();
    outcome
}

struct Bar(ProgressBar);

impl Progress for Bar {
    fn file(&self, name: &str, byte_len: u64, done_byte_len: u64) {
        let template = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(template) {
            self.0.set_style(style);
        }
        self.0.set_message(name.to_owned());
        self.0.set_length(byte_len);
        self.0.set_position(done_byte_len);
        self.0.reset_eta();
        self.0.enable_steady_tick(Duration::from_millis(200));
    }

    fn advance(&self, byte_len: u64) {
        self.0.inc(byte_len);
    }

    fn restart(&self) {
        self.0.set_position(0);
    }

    fn finish(&self) {}
}
