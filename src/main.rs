//! The command line: parse, wire, print, exit code. Nothing else in this project prints or exits.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the room that prints")]

#[cfg(test)]
mod cli_doc;
mod cmd;
mod exit;
mod output;
mod progress;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Converts a PyTorch release to MLX-ready safetensors and proves the port layer by layer.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show keys, shapes and dtypes of a checkpoint, and which recipe fits
    Inspect(cmd::inspect::Args),
    /// Write a PyTorch checkpoint as MLX-ready safetensors
    Convert(cmd::convert::Args),
    /// Re-hash a converted directory against its manifest
    Verify(cmd::verify::Args),
    /// Work on records of parity runs
    Report(cmd::report::Args),
    /// Run a converted model against a recording of PyTorch, layer by layer
    Parity(cmd::parity::Args),
    /// Read pages: images and PDF documents in, Markdown out
    Ocr(Box<cmd::ocr::Args>),
    /// Draws a document's pages for `ocr`, in a process of its own
    #[command(hide = true)]
    DrawPdf(cmd::draw_pdf::Args),
    /// Answer OpenAI-compatible requests: chat completions with images, streamed or whole
    Serve(cmd::serve::Args),
    /// Decode a recording's prompt and hold the tokens against PyTorch's
    Decode(cmd::decode::Args),
    /// Make images and a prompt into a model's inputs, as the release does
    Preprocess(cmd::preprocess::Args),
    /// Judge one recording by another, whoever made them
    Compare(cmd::compare::Args),
    /// Do the main job on data that the program carries: convert, check every layer, write the report
    Demo(cmd::demo::Args),
    /// Say whether a Python MLX port computes what PyTorch computes: any model, no script
    Check(cmd::check::Args),
    /// Is an MLX conversion the release it claims to be? Tensor by tensor, by content
    Audit(cmd::audit::Args),
    /// Learn a recipe from an example; list the built-in ones
    Recipe(cmd::recipe::Args),
}

fn main() -> ExitCode {
    let command = Cli::parse().command;
    set_tf32(matches!(&command, Command::Parity(args) if args.wants_tf32()));
    dispatch(command).unwrap_or_else(|error| {
        eprintln!("error: {}", mlxport_read::error_text(&error));
        exit::code_of(&error)
    })
}

/// Runs one command.
fn dispatch(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Inspect(args) => cmd::inspect::run(&args),
        Command::Convert(args) => cmd::convert::run(&args),
        Command::Verify(args) => cmd::verify::run(&args),
        Command::Report(args) => cmd::report::run(&args),
        Command::Parity(args) => cmd::parity::run(&args),
        Command::Ocr(args) => cmd::ocr::run(&args),
        Command::Serve(args) => cmd::serve::run(&args),
        Command::DrawPdf(args) => cmd::draw_pdf::run(&args),
        Command::Decode(args) => cmd::decode::run(&args),
        Command::Preprocess(args) => cmd::preprocess::run(&args),
        Command::Compare(args) => cmd::compare::run(&args),
        Command::Demo(args) => cmd::demo::run(&args),
        Command::Check(args) => cmd::check::run(&args),
        Command::Audit(args) => cmd::audit::run(&args),
        Command::Recipe(args) => cmd::recipe::run(&args),
    }
}

/// MLX rounds float32 operands of products to TF32 on recent GPUs unless told not to: 8e-4 instead of 3e-7. It reads the
/// variable once, before its first product. Whatever the caller's environment says, float32 here is float32, but where `--tf32` asks.
#[allow(unsafe_code, reason = "set_var is unsafe where threads may read the environment")]
fn set_tf32(wanted: bool) {
    // SAFETY: main has only read its arguments; no other thread exists yet.
    unsafe { std::env::set_var("MLX_ENABLE_TF32", if wanted { "1" } else { "0" }) };
}
