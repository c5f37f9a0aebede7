//! A run: pages that are ready join the batch, the model makes their texts, and what comes out becomes results.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, TryRecvError},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use mlxport_model::{registry, runtime};

use crate::{
    batch::Batch,
    fingerprint::ModelFingerprint,
    outcome::Outcome,
    prepare::{self, PageEvent},
    results::Results,
    settings::Settings,
    sources::{self, Kind, Listing, Skipped, Sources},
    tokenizer::{refuse_other_token_counts, tokenizer},
    watcher::Watcher,
    write,
};

/// How long to wait for a page before looking whether to stop.
const A_MOMENT: Duration = Duration::from_millis(100);

/// Reads all pages of `settings.inputs`, until `stop` is set. A page that cannot be read is in [`Outcome::failed`]; the others are read
/// all the same.
///
/// # Errors
/// When inputs, model, tokenizer or device cannot be used, or the output cannot be written.
pub fn read_pages(settings: &Settings, stop: &AtomicBool, watcher: &mut dyn Watcher) -> anyhow::Result<Outcome> {
    let Sources { all: sources, skipped } = checked_sources(settings)?;
    refuse_other_token_counts(&settings.model)?;
    let fingerprint = ModelFingerprint::of(&settings.model, settings.tokenizer.as_ref())?;
    let reading = registry::facts(&settings.model)?.reading;
    let settings = Arc::new(Settings { reading: Some(reading), ..settings.clone() });
    let prompter = Arc::new(tokenizer(&settings.model, settings.tokenizer.as_ref())?);
    runtime::use_device(settings.device).context("this MLX cannot run there")?;
    let model = mlxport_model::load(&settings.model, settings.load_options())?;
    if let Some(out) = &settings.out {
        std::fs::create_dir_all(out).with_context(|| format!("making {}", out.display()))?;
        write::sweep(out);
    }
    let events = prepare::begin(Arc::clone(&settings), Arc::clone(&prompter), fingerprint, sources);
    let mut results = Results::new(&settings, &prompter, watcher);
    for Skipped { path, reason } in &skipped {
        results.watcher.note(&format!("not read: {}: {reason}", path.display()));
    }
    results.outcome.skipped = skipped;
    let mut batch = Batch::new(&settings, &*model);
    read_all(&events, stop, &mut batch, &mut results)?;
    Ok(results.outcome)
}

/// What there is to read, once it is sure that it can be read as it is asked and that no result takes an input's place.
fn checked_sources(settings: &Settings) -> anyhow::Result<Sources> {
    let listing = Listing { recursive: settings.recursive, out: settings.out.as_deref() };
    let sources = sources::list(&settings.inputs, settings.format, listing)?;
    let documents: Vec<&str> =
        sources.all.iter().filter(|source| source.kind == Kind::Document).map(|source| source.name.as_str()).collect();
    if settings.together && !documents.is_empty() {
        bail!("--together: expected images, found documents: {}", documents.join(", "));
    }
    settings.prompt(if settings.together { sources.all.len() } else { 1 })?;
    if let Some(out) = &settings.out {
        write::refuse_inputs(out, settings.format, &sources.all)?;
    }
    Ok(sources)
}

fn read_all(
    events: &Receiver<PageEvent>,
    stop: &AtomicBool,
    batch: &mut Batch<'_>,
    results: &mut Results<'_>,
) -> anyhow::Result<()> {
    let (mut turn, mut at_end) = (0, false);
    while !(at_end && batch.is_empty()) {
        if stop.load(Ordering::Relaxed) {
            results.outcome.interrupted = true;
            let pages = batch.len();
            results.watcher.note(&format!("interrupted: {pages} pages were being read, to be done again"));
            break;
        }
        while !at_end && batch.has_room() {
            let Some(event) = next(events, batch.is_empty())? else { break };
            at_end = matches!(event, PageEvent::End);
            handle(event, &mut turn, batch, results)?;
        }
        let reading = batch.len();
        for ended in batch.step() {
            results.ended(ended)?;
        }
        results.watcher.tokens(reading, batch.len());
    }
    Ok(())
}

/// The next event; waits a moment where there is nothing else to do.
fn next(events: &Receiver<PageEvent>, is_idle: bool) -> anyhow::Result<Option<PageEvent>> {
    const PANICKED: &str = "the thread that prepares pages panicked";
    if is_idle {
        return match events.recv_timeout(A_MOMENT) {
            Ok(event) => Ok(Some(event)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!(PANICKED),
        };
    }
    match events.try_recv() {
        Ok(event) => Ok(Some(event)),
        Err(TryRecvError::Empty) => Ok(None),
        Err(TryRecvError::Disconnected) => bail!(PANICKED),
    }
}

fn handle(event: PageEvent, turn: &mut usize, batch: &mut Batch<'_>, results: &mut Results<'_>) -> anyhow::Result<()> {
    let at = *turn;
    *turn += usize::from(matches!(event, PageEvent::Ready(_) | PageEvent::DoneBefore(_) | PageEvent::Failed(..)));
    match event {
        PageEvent::More(count) => results.watcher.more_pages(count),
        PageEvent::Ready(page) => {
            results.begun(&page.id);
            if let Err(ended) = batch.join(at, page) {
                results.ended(*ended)?;
            }
        }
        PageEvent::DoneBefore(page) => results.done_before(at, *page)?,
        PageEvent::Again(id, differs) => results.again(&id, &differs),
        PageEvent::Failed(id, error) => results.failed(at, &id, error)?,
        PageEvent::EndOfDocument(end) => results.end_of_document(end),
        PageEvent::End => {}
    }
    Ok(())
}
