//! `mlxport ocr`: images and documents in, the release's Markdown out. Several pages are decoded together, the next ones are made
//! ready meanwhile, and finished pages are not done again.
//!
//! ```text
//! sources ─ pages (a thread; documents are drawn by a process) ─ batch (the model) ─ results (files, stdout, documents)
//! ```

#[path = "../../../read/src/settings.rs"]
mod args;
#[path = "progress.rs"]
mod bar;
#[path = "../../../read/src/batch.rs"]
mod batch;
#[path = "../../../read/src/document.rs"]
mod document;
#[path = "../../../read/src/drawing.rs"]
mod drawing;
#[path = "../../../read/src/json.rs"]
mod json;
#[path = "../../../read/src/prepare.rs"]
mod pages;
#[path = "../../../read/src/read_page.rs"]
mod read;
#[path = "../../../read/src/fingerprint.rs"]
mod record;
#[path = "../../../read/src/results.rs"]
mod results;
#[path = "../../../read/src/sources.rs"]
mod sources;
#[path = "../../../read/src/write.rs"]
mod write;

use std::{
    collections::BTreeMap,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

pub use args::{Args, END_OF_SENTENCE_ID, Flatten};
use batch::Batch;
pub use batch::given;
use pages::News;
use read::Read;
use results::Results;
use sources::{Kind, Listing, Skipped, Sources};

use crate::{
    cmd::{
        parity::error_object,
        reading::{refuse_other_token_counts, tokenizer},
    },
    exit,
    output::to_stdout,
};

/// How long to wait for a page before looking whether to stop.
const A_MOMENT: Duration = Duration::from_millis(100);

/// How a run went.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Pages that were read, by their place in the order, where `--json` wants them.
    done: BTreeMap<usize, Read>,
    done_before: Vec<String>,
    /// Pages whose text came to no end by itself, now or before.
    cut_off: Vec<String>,
    /// Pages that lost something on their way to the model, and what.
    degraded: Vec<(String, Vec<String>)>,
    /// Files of directories that are not read.
    skipped: Vec<Skipped>,
    failed: Vec<(String, anyhow::Error)>,
    interrupted: bool,
}

/// Runs the command: exit code 2 where a page could not be read (the others are done all the same), 130 where it was interrupted
/// (what was finished is there).
///
/// # Errors
/// When model, tokenizer or device cannot be used, or the output cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let outcome = read(args);
    if let (true, Err(error)) = (args.json, &outcome) {
        to_stdout(&error_object(error))?;
    }
    outcome
}

fn read(args: &Args) -> anyhow::Result<ExitCode> {
    let listing = Listing { recursive: args.recursive, out: args.out.as_deref() };
    let Sources { all: sources, skipped } = sources::sources(&args.inputs, args.format, listing)?;
    let documents: Vec<&str> =
        sources.iter().filter(|source| source.kind == Kind::Document).map(|source| source.name.as_str()).collect();
    if args.together && !documents.is_empty() {
        bail!("--together: expected images, found documents: {}", documents.join(", "));
    }
    args.prompt(if args.together { sources.len() } else { 1 })?;
    if let Some(out) = &args.out {
        write::refuse_inputs(out, args.format, &sources)?;
    }
    refuse_other_token_counts(&args.model)?;
    let run = record::Run::of(&args.model, args.tokenizer.as_ref())?;
    let args = &args.knowing(mlxport_model::registry::facts(&args.model)?.reading);
    let prompter = Arc::new(tokenizer(&args.model, args.tokenizer.as_ref())?);
    let stop = stop_when_asked().context("listening for signals")?;
    args.device.begin()?;
    let model = mlxport_model::load(&args.model, args.load_options())?;
    if let Some(out) = &args.out {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        write::sweep(out);
    }
    let news = pages::begin(Arc::new(args.clone()), Arc::clone(&prompter), run, sources);
    let mut results = Results::new(args, &prompter);
    for Skipped { path, reason } in &skipped {
        results.progress.note(&format!("not read: {}: {reason}", path.display()));
    }
    results.outcome.skipped = skipped;
    let mut batch = Batch::new(args, &*model);
    read_all(&news, &stop, &mut batch, &mut results)?;
    told(args, results)
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

fn read_all(
    news: &Receiver<News>,
    stop: &AtomicBool,
    batch: &mut Batch<'_>,
    results: &mut Results<'_>,
) -> anyhow::Result<()> {
    let (mut turn, mut all_told) = (0, false);
    while !(all_told && batch.is_empty()) {
        if stop.load(Ordering::Relaxed) {
            results.outcome.interrupted = true;
            let pages = batch.len();
            results.progress.note(&format!("interrupted: {pages} pages were being read, to be done again"));
            break;
        }
        while !all_told && batch.has_room() {
            let Some(news) = next(news, batch.is_empty())? else { break };
            all_told = matches!(news, News::End);
            hear(news, &mut turn, batch, results)?;
        }
        let reading = batch.len();
        for ended in batch.step() {
            results.ended(ended)?;
        }
        results.progress.tokens(reading, batch.len());
    }
    Ok(())
}

/// What the pages' thread says next; waits a moment where there is nothing else to do.
fn next(news: &Receiver<News>, is_idle: bool) -> anyhow::Result<Option<News>> {
    const GONE: &str = "what makes pages ready broke down";
    if is_idle {
        return match news.recv_timeout(A_MOMENT) {
            Ok(news) => Ok(Some(news)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!(GONE),
        };
    }
    match news.try_recv() {
        Ok(news) => Ok(Some(news)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => bail!(GONE),
    }
}

fn hear(news: News, turn: &mut usize, batch: &mut Batch<'_>, results: &mut Results<'_>) -> anyhow::Result<()> {
    let at = *turn;
    *turn += usize::from(matches!(news, News::Ready(_) | News::DoneBefore(_) | News::Failed(..)));
    match news {
        News::More(pages) => results.progress.more(pages),
        News::Ready(ready) => {
            results.begun(&ready.place);
            if let Err(ended) = batch.join(at, ready) {
                results.ended(*ended)?;
            }
        }
        News::DoneBefore(before) => results.done_before(at, *before)?,
        News::Again(name, differs) => results.again(&name, &differs),
        News::Failed(place, error) => results.failed(at, &place, error)?,
        News::EndOfDocument(told) => results.end_of_document(told),
        News::End => {}
    }
    Ok(())
}

fn told(args: &Args, results: Results<'_>) -> anyhow::Result<ExitCode> {
    let Results { outcome, progress, .. } = results;
    progress.note(&progress.summary());
    for (count, what) in [
        (outcome.failed.len(), "failed"),
        (
            outcome.degraded.len(),
            "degraded: they lost something on their way to the model; --strict makes that a failure",
        ),
        (outcome.cut_off.len(), "came to no end by themselves"),
        (outcome.skipped.len(), "not read, see above"),
    ] {
        if count > 0 {
            progress.note(&format!("{count} {what}"));
        }
    }
    drop(progress);
    if args.json {
        to_stdout(&format!("{}\n", json::run(&outcome)))?;
    }
    if outcome.interrupted {
        return Ok(ExitCode::from(exit::INTERRUPTED));
    }
    Ok(outcome.failed.first().map_or(ExitCode::SUCCESS, |(_, error)| exit::code_of(error)))
}
