//! `mlxport ocr`: images and documents in, the release's Markdown out. What reads is the library `read/`.

mod args;
mod progress;

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
};

use anyhow::Context;
use mlxport_read::{Watcher as _, read_pages};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use self::progress::Progress;
use crate::{
    exit,
    output::{to_stdout, with_error_object},
};

pub use self::args::{Args, Flatten};

/// Runs the command: exit code 2 where a page could not be read (the others are done all the same), 130 where it was interrupted
/// (what was finished is there).
///
/// # Errors
/// When model, tokenizer or device cannot be used, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, read(args))
}

fn read(args: &Args) -> anyhow::Result<ExitCode> {
    let stop = stop_when_asked().context("listening for signals")?;
    let mut progress = Progress::new();
    let outcome = read_pages(&args.settings()?, &stop, &mut progress)?;
    for line in std::iter::once(progress.summary()).chain(outcome.remarks()) {
        progress.note(&line);
    }
    drop(progress);
    if args.json {
        to_stdout(&format!("{}\n", outcome.json()))?;
    }
    if outcome.interrupted {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    Ok(outcome.failed.first().map_or(ExitCode::SUCCESS, |(_, error)| exit::code_of(error)))
}

/// Set by the first signal; the second one ends the program at once. SIGHUP is left alone: `nohup` means it.
fn stop_when_asked() -> std::io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // In this order the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, i32::from(exit::INTERRUPTED), Arc::clone(&stop))?;
        flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}
