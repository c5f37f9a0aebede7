//! `mlxport draw-pdf`, which nobody types: the process that draws a document's pages for `mlxport ocr`.

use std::{path::PathBuf, process::ExitCode};

use mlxport_read::drawer;

/// What `mlxport ocr` passes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    document: PathBuf,
    #[arg(long)]
    dpi: u16,
    #[arg(long)]
    page_seconds: u64,
    #[arg(long)]
    fonts: Vec<PathBuf>,
}

/// Draws what stdin asks for until it ends.
///
/// # Errors
/// When stdin or stdout are gone.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    drawer::limit_memory();
    drawer::watch(args.page_seconds, || std::process::exit(i32::from(drawer::TOO_LONG)));
    let (requests, answers) = (std::io::stdin().lock(), std::io::stdout().lock());
    let is_document = drawer::draw(&args.document, args.dpi, &args.fonts, requests, answers)?;
    Ok(ExitCode::from(if is_document { crate::exit::PASS } else { crate::exit::INPUT }))
}
