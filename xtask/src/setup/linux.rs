//! `cargo xtask setup` on Linux: the real MLX for Rust, inside `.mlx/` and nowhere else.
//!
//! ```text
//! preflight → source (mlx-c of mlx-sys) → stamp: done already? → wheels → bindings → compile → rename → cargo config
//! ```
//!
//! A runtime lies in `.mlx/<flavour>-<MLX version>-<hash of all inputs>/`. It is built in `.mlx/tmp-…` and renamed when
//! complete; then the generated cargo config is replaced in one step. An interrupted run leaves the former state.

mod bindings;
mod compile;
mod config;
mod layout;
mod preflight;
mod source;
mod stamp;
mod wheels;

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};

use super::Flavour;
use crate::cargo;
use layout::Layout;
use stamp::Stamp;

/// Makes MLX of the given flavour ready; says so and ends when it is ready already.
///
/// # Errors
/// Everything that is missing on this machine, all at once, before anything is fetched; later, the first step that failed.
pub fn run(flavour: Option<Flavour>) -> Result<()> {
    let begun = Instant::now();
    let root = cargo::workspace_root();
    let flavour = flavour.or_else(|| config::active(&root)).unwrap_or(Flavour::Cpu);
    let host = preflight::check(&root)?;
    let metadata = cargo::metadata(&host.triple)?;
    let source = source::find(&metadata)?;
    let stamp = Stamp::new(flavour, &host, &source, &root);
    let layout = Layout::new(&root, &stamp);

    fs::create_dir_all(layout.base()).with_context(|| layout.base().display().to_string())?;
    // One set-up at a time; the second finds the first one's work.
    let lock = File::create(layout.base().join("lock")).context("could not create .mlx/lock")?;
    lock.lock().context("could not lock .mlx/lock")?;

    let built = !stamp.is_complete(&layout.runtime());
    if built && let Err(error) = build(&layout, &stamp, &host, &source) {
        // The error is what matters; what cannot be removed now is removed by the next run.
        let _ = layout.remove_unfinished();
        return Err(error);
    }
    config::activate(&layout, &host.triple, flavour)?;
    println!(
        "setup: MLX {} ({flavour}) {} in {:.1} s",
        source.mlx_version,
        if built { "made ready" } else { "is ready" },
        begun.elapsed().as_secs_f64()
    );
    Ok(())
}

fn build(layout: &Layout, stamp: &Stamp, host: &preflight::Host, source: &source::Source) -> Result<()> {
    layout.remove_unfinished()?;
    let work = layout.work();
    fs::create_dir_all(&work).with_context(|| work.display().to_string())?;
    // The final folder is absent or incomplete: what is in it may not stay under a stamp of ours.
    remove_folder(&layout.runtime())?;

    step("fetching wheels", || wheels::fetch(&work, stamp.flavour, host, source))?;
    step("compiling mlx-c", || compile::library(layout, host, source))?;
    step("writing bindings", || bindings::write(&work, host, source))?;
    layout.drop_build_tools()?;

    stamp.write(&work)?;
    fs::rename(&work, layout.runtime()).with_context(|| format!("could not rename {} into place", work.display()))
}

fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Instant::now();
    eprintln!("setup: {name} …");
    let value = work().with_context(|| format!("setup stopped while {name}"))?;
    eprintln!("setup: {name}: {:.1} s", begun.elapsed().as_secs_f64());
    Ok(value)
}

fn remove_folder(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("could not remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}
