//! `mlxport parity`: run a converted model against a recording of PyTorch, layer by layer.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::ValueEnum;
use mlxport_model::runtime::DeviceKind;
use mlxport_parity::{Request, Selection, parts::parts};
use mlxport_reports::{json, terminal, write_report};
use mlxport_verdict::{Mode, Precision, Run, Shard, Verdict};

use crate::{
    cmd::{lock::LockArgs, mutate},
    exit,
    output::{style, to_stdout, with_error_object},
};

/// Flags of `mlxport parity`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The converted model's directory
    #[arg(long, value_name = "DIR", required_unless_present = "parts")]
    model: Option<PathBuf>,
    /// The recording's directory
    #[arg(long, value_name = "DIR", required_unless_present = "parts")]
    fixture: Option<PathBuf>,
    /// A recording of single parts (projectors.*, operations.*) instead of a model's
    #[arg(long, value_name = "DIR", conflicts_with_all = ["model", "fixture", "shard", "select", "report", "mutate"])]
    parts: Option<PathBuf>,
    /// From the recording's inputs, or every module from its own recorded input
    #[arg(long, value_enum, default_value_t = Modes::Both)]
    mode: Modes,
    /// Which steps compute: the released arithmetic one kernel after another, compared at every tap; as users run the model, compared at
    /// what leaves it: image rows, logits, decoding steps
    #[arg(long, value_enum, default_value_t = Steps::Both)]
    steps: Steps,
    /// Where to run
    #[arg(long, value_enum, default_value_t = DeviceKind::Cpu)]
    device: DeviceKind,
    /// The dtype of activations; bf16 needs a recording with bfloat16 floors
    #[arg(long, value_enum, default_value_t = Precision::F32)]
    dtype: Precision,
    /// Let a GPU round float32 products to TF32, to see what that does to the verdict; never with --lock
    #[arg(long)]
    tf32: bool,
    /// Only taps whose path fits this glob, `model.layers.*` say
    #[arg(long, value_name = "GLOB")]
    select: Option<String>,
    /// Only the K-th of N shares of the modules, each from its own recorded input; `mlxport report merge` joins them
    #[arg(long, value_name = "K/N", conflicts_with = "update")]
    shard: Option<Shard>,
    /// Run so often; runs that are not the same, bit for bit, are a verdict of their own
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    #[command(flatten)]
    lock: LockArgs,
    /// Plant faults one by one and say which are caught, and where; run correct variants and say which are accused
    #[arg(long, conflicts_with_all = ["shard", "repeat", "select", "tolerances"])]
    mutate: bool,
    /// Write record.json, report.md, report.html, report.txt, taps.csv and junit.xml there
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Print the record as one JSON object on stdout; the report for people goes to stderr
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Modes {
    Cumulative,
    Isolated,
    Both,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Steps {
    Plain,
    Tuned,
    Both,
}

impl Args {
    /// The modes of the record, in its order. A share, and the isolated mode alone, are parts of a run: the tuned steps are another part's.
    fn modes(&self) -> Vec<Mode> {
        if self.steps == Steps::Tuned {
            return vec![Mode::Tuned];
        }
        let tuned = (self.steps == Steps::Both).then_some(Mode::Tuned);
        match self.mode {
            Modes::Cumulative => [Mode::Cumulative].into_iter().chain(tuned).collect(),
            Modes::Isolated => vec![Mode::Isolated],
            Modes::Both if self.shard.is_some() => vec![Mode::Isolated],
            Modes::Both => [Mode::Cumulative].into_iter().chain(tuned).chain([Mode::Isolated]).collect(),
        }
    }

    /// Whether float32 products may be rounded to TF32.
    pub fn wants_tf32(&self) -> bool {
        self.tf32
    }
}

/// Runs the command.
///
/// # Errors
/// When model, fixture or device cannot be used: no verdict.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    with_error_object(args.json, verdict(args))
}

fn verdict(args: &Args) -> anyhow::Result<ExitCode> {
    let device = args.device;
    if let Some(dir) = &args.parts {
        let report = parts(dir, device)?;
        to_stdout(&if args.json { format!("{}\n", serde_json::to_string(&report)?) } else { report.text() })?;
        return Ok(ExitCode::from(if report.passes() { exit::PASS } else { exit::DIVERGENCE }));
    }
    if args.tf32 {
        eprintln!("warning: TF32 is on: a GPU rounds float32 products to 10 bits, so this is no verdict on float32");
    }
    let (model, fixture) = (args.model.clone().unwrap_or_default(), args.fixture.clone().unwrap_or_default());
    let request = Request {
        modes: args.modes(),
        selection: Selection::parse(args.select.as_deref())?,
        device,
        precision: args.dtype,
        shard: args.shard,
        ..Request::new(model, fixture)
    };
    if let Some(warning) = mlxport_parity::other_origin(&request.model, &request.fixture) {
        eprintln!("warning: {warning}");
    }
    if args.mutate {
        return mutate::run(&request, args.report.as_deref(), args.json);
    }
    let mut record = mlxport_parity::run(&request)?;
    for _ in 1..args.repeat {
        record = record.repeated(mlxport_parity::run(&request)?);
    }
    let record = args.lock.apply(record)?;
    if let Some(dir) = &args.report {
        write_report(dir, &record).with_context(|| format!("writing the report to {}", dir.display()))?;
    }
    print(args.json, &record)?;
    Ok(exit_code(&record))
}

/// What the verdict ends the program with.
pub(super) fn exit_code(record: &Run) -> ExitCode {
    ExitCode::from(match record.summary.verdict {
        Verdict::Pass => exit::PASS,
        Verdict::Fail | Verdict::Incomplete | Verdict::Nondeterministic => exit::DIVERGENCE,
        Verdict::NothingCompared => exit::INPUT,
    })
}

/// People's text to stdout, or to stderr where stdout is for the record.
pub(super) fn print(json_too: bool, record: &Run) -> anyhow::Result<()> {
    if json_too {
        eprint!("{}", terminal(record, &style(&std::io::stderr())));
        to_stdout(&json(record))?;
    } else {
        to_stdout(&terminal(record, &style(&std::io::stdout())))?;
    }
    Ok(())
}
