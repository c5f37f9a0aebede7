//! `cargo xtask fuzz`: every parser under libFuzzer, built by the pinned stable toolchain.
//!
//! Coverage comes from LLVM's own pass through rustc flags, so no nightly and no cargo-fuzz is needed; libFuzzer itself is C++ and
//! compiled by the `libfuzzer-sys` crate. Grown corpora, logs and findings lie under `target/fuzz`; seeds are in git.

mod build;
mod report;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::{fs, thread};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo;
use report::Outcome;

/// Seconds that each target gets in `cargo xtask test`.
const SHORT_SECONDS: u64 = 3;
/// The most memory a target may really use, in MiB.
const RSS_LIMIT_MIB: u64 = 512;
/// The most memory it may ask for, in KiB: a claim that is believed fails here even when the memory is never touched.
const CLAIM_LIMIT_KIB: u64 = 2 << 20;
/// Seconds after which one input counts as a hang.
const INPUT_SECONDS: u64 = 5;
/// Where everything that fuzzing makes lies, under the root.
const OUTPUT: &str = "target/fuzz";

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub struct Options {
    /// Targets; all of them unless named.
    targets: Vec<String>,
    /// Seconds for each target.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Targets that run at once.
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Run the one target on this input only, as a finding asks for.
    #[arg(long, conflicts_with_all = ["seconds", "jobs"])]
    input: Option<PathBuf>,
}

/// Builds the targets and runs them; a finding is a failure.
///
/// # Errors
/// When they cannot be built here, or something was found: with the input and the command that runs it again.
pub fn run(options: &Options) -> Result<ExitCode> {
    if let Some(reason) = missing() {
        bail!("the fuzz targets cannot be built here: {reason}");
    }
    let targets = chosen(&options.targets)?;
    let program = build::run()?;
    if let Some(input) = &options.input {
        let [target] = targets.as_slice() else { bail!("--input runs one target: name it") };
        return once(&program, target, input);
    }
    all(&program, &targets, options.seconds, options.jobs)?;
    Ok(ExitCode::SUCCESS)
}

/// Every target: each has its folder of seeds, and the tests of `fuzz/` hold these folders against its list.
fn known() -> Result<Vec<String>> {
    let seeds = cargo::workspace_root().join("fuzz/seeds");
    let entries = fs::read_dir(&seeds).with_context(|| seeds.display().to_string())?;
    let mut names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// The targets of these names; all of them where no name is given.
fn chosen(names: &[String]) -> Result<Vec<String>> {
    let known = known()?;
    let strange: Vec<&str> = names.iter().filter(|name| !known.contains(name)).map(String::as_str).collect();
    ensure!(strange.is_empty(), "no such target: {}; there are: {}", strange.join(", "), known.join(", "));
    Ok(if names.is_empty() { known } else { names.to_vec() })
}

/// A short run of every target, as many at once as there are cores.
///
/// # Errors
/// As [`run`].
pub fn short() -> Result<()> {
    let jobs = thread::available_parallelism().map_or(1, usize::from);
    all(&build::run()?, &known()?, SHORT_SECONDS, jobs)
}

/// What keeps the targets from being built on this machine, if anything does.
pub fn missing() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some(format!("tried on Linux only, this is {}", std::env::consts::OS));
    }
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let found = Command::new(&compiler).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return None;
    }
    Some(format!("libFuzzer needs a C++ compiler, and `{compiler}` does not run (install g++, or name one in CXX)"))
}

/// Runs targets, `jobs` at a time, and tells of each; fails after all when any has found something.
fn all(program: &Path, targets: &[String], seconds: u64, jobs: usize) -> Result<()> {
    let waiting = Mutex::new(targets.iter());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, targets.len().max(1)) {
            scope.spawn(|| {
                while let Some(target) = next() {
                    let outcome = fuzz(program, target, seconds);
                    println!("{}", report::line(target, &outcome));
                    let sound = outcome.is_ok_and(|outcome| outcome.finding.is_none());
                    if let (false, Ok(mut failed)) = (sound, failed.lock()) {
                        failed.push(target.as_str());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_default();
    ensure!(failed.is_empty(), "fuzzing found something: {}", failed.join(", "));
    Ok(())
}

/// One target for so many seconds.
fn fuzz(program: &Path, target: &str, seconds: u64) -> Result<Outcome> {
    let root = cargo::workspace_root();
    let output = root.join(OUTPUT);
    let made = |kind: &str| {
        let path = output.join(kind).join(target);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok::<_, anyhow::Error>(path)
    };
    let (corpus, findings) = (made("corpus")?, made("findings")?);
    let mut command = limited(program, target);
    command.arg(corpus).arg(root.join("fuzz/seeds").join(target));
    let known = root.join("fuzz/findings").join(target);
    if known.is_dir() {
        command.arg(known);
    }
    let dictionary = root.join("fuzz/dictionaries").join(format!("{target}.dict"));
    if dictionary.is_file() {
        command.arg(format!("-dict={}", dictionary.display()));
    }
    command.arg(format!("-artifact_prefix={}/", findings.display()));
    command.arg(format!("-max_total_time={seconds}")).arg("-print_final_stats=1");
    let folder = TempFolder::new(target)?;
    let ended = command.env("TMPDIR", &folder.0).output().context("could not start the target")?;
    let log = String::from_utf8_lossy(&ended.stderr).into_owned();
    let log_path = made("logs")?.join("log");
    fs::write(&log_path, &log).with_context(|| log_path.display().to_string())?;
    Ok(report::read(&log, ended.status.success(), &log_path))
}

/// One input, with what the target says on this terminal.
fn once(program: &Path, target: &str, input: &Path) -> Result<ExitCode> {
    let folder = TempFolder::new(target)?;
    let status = limited(program, target).arg(input).env("TMPDIR", &folder.0).status()?;
    ensure!(status.success(), "{target} fails on {} ({status})", input.display());
    println!("{target}: {} is fine", input.display());
    Ok(ExitCode::SUCCESS)
}

/// The program on one target, under limits of memory and time.
fn limited(program: &Path, target: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("ulimit -v {CLAIM_LIMIT_KIB} && exec \"$0\" \"$@\""));
    command.arg(program).env("MLXPORT_FUZZ_TARGET", target);
    command.arg(format!("-rss_limit_mb={RSS_LIMIT_MIB}")).arg(format!("-timeout={INPUT_SECONDS}"));
    // Each thread reserves address space of its own.
    command.env("RAYON_NUM_THREADS", "2").stdin(Stdio::null());
    command
}

/// A folder for a target's temporary files, in memory where the system offers that; it goes when the value does.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new(target: &str) -> Result<Self> {
        let memory = Path::new("/dev/shm");
        let base = if memory.is_dir() { memory.to_path_buf() } else { cargo::workspace_root().join(OUTPUT) };
        let path = base.join(format!("mlxport-fuzz-{}-{target}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_chosen_by_name() {
        let all = chosen(&[]).expect("seeds");
        assert!(all.len() >= 17 && all.contains(&"header".to_owned()), "{all:?}");
        assert_eq!(chosen(&["index".into()]).expect("there"), ["index"]);
        let error = chosen(&["index".into(), "../x".into()]).expect_err("strange").to_string();
        assert!(error.starts_with("no such target: ../x; there are: "), "{error}");
    }
}
