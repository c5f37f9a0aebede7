//! One command's time and peak memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

/// How often a running command's memory is read.
const STEP: Duration = Duration::from_millis(5);
/// What Linux counts processors' time in.
const TICKS_PER_SECOND: f64 = 100.0;

/// What a command took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Wall time.
    pub seconds: f64,
    /// The most memory it had in RAM at once, in bytes (its own pages and those of files mapped); `None` where the system does not say.
    pub peak_byte_len: Option<u64>,
    /// Seconds that processors spent on it, in the program and in the system for it; `None` where the system does not say.
    pub cpu_seconds: Option<f64>,
}

/// Runs a command to its end, in silence.
///
/// # Errors
/// When it cannot be started or fails, with what it said.
pub fn measure(command: &mut Command) -> Result<Measured> {
    let shown = format!("{command:?}");
    let begun = Instant::now();
    let said = tempfile::NamedTempFile::new().context("no temporary file")?;
    let stderr = said.reopen().context("no temporary file")?;
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().with_context(|| shown.clone())?;
    let (mut peak_byte_len, mut cpu_seconds) = (None, None);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // The kernel keeps the high-water mark itself, so the last reading before the end has nearly all of it.
        peak_byte_len = peak(&child).or(peak_byte_len);
        cpu_seconds = processor_seconds(&child).or(cpu_seconds);
        thread::sleep(STEP);
    };
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{shown} ended with {status}:\n{}", fs::read_to_string(said.path()).unwrap_or_default());
    Ok(Measured { seconds, peak_byte_len, cpu_seconds })
}

fn peak(child: &Child) -> Option<u64> {
    high_water(&of_process(child, "status")?)
}

fn processor_seconds(child: &Child) -> Option<f64> {
    ticks(&of_process(child, "stat")?).map(|ticks| ticks as f64 / TICKS_PER_SECOND)
}

/// What Linux says of a running command.
fn of_process(child: &Child, file: &str) -> Option<String> {
    fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join(file)).ok()
}

/// The user's and the system's ticks of a Linux process's stat, all threads together.
fn ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may hold anything; what follows begins with the third field.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

/// `VmHWM` of a Linux process's status, in bytes.
fn high_water(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// The middle one of several; of an even number, the lower middle.
pub fn median(runs: &[Measured]) -> Option<Measured> {
    let mut runs = runs.to_vec();
    runs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    runs.get(runs.len().saturating_sub(1) / 2).copied()
}

/// Reads every byte of a file, so that all who read it next find it in memory alike (as far as it fits).
///
/// # Errors
/// When it cannot be read.
pub fn warm(path: &Path) -> Result<()> {
    let mut file = fs::File::open(path).with_context(|| path.display().to_string())?;
    std::io::copy(&mut file, &mut std::io::sink()).with_context(|| path.display().to_string())?;
    Ok(())
}

/// Takes a file out of memory, as far as the system does so: who reads it next reads the disk.
///
/// # Errors
/// When it cannot be opened, or the system refuses.
#[cfg(target_os = "linux")]
pub fn cold(path: &Path) -> Result<()> {
    let file = fs::File::open(path).with_context(|| path.display().to_string())?;
    // What is still to be written stays in memory.
    file.sync_all()?;
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water("Name:\tx\n"), None);
    }

    #[test]
    fn processors_time_is_that_of_the_user_and_the_system() {
        assert_eq!(ticks("7 (a) b) S 1 7 7 0 -1 4194304 90 0 0 0 120 30 0 0 20 0 2 0 99"), Some(150));
        assert_eq!(ticks("7 (a"), None);
    }

    #[test]
    fn the_median_is_one_of_the_runs() {
        let run = |seconds| Measured { seconds, peak_byte_len: None, cpu_seconds: None };
        assert_eq!(median(&[run(3.0), run(1.0), run(2.0)]), Some(run(2.0)));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_command_is_measured_and_a_failure_is_one() {
        assert!(measure(&mut Command::new("true")).expect("runs").seconds >= 0.0);
        let error = measure(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).expect_err("fails");
        assert!(error.to_string().contains("why"), "{error}");
    }
}
