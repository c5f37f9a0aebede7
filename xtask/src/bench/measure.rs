//! One command's time and peak memory.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use anyhow::{Context, Result, ensure};

/// How often a running command's memory is read.
const STEP: Duration = Duration::from_millis(5);

/// What a command took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// Wall time.
    pub seconds: f64,
    /// The most memory it had in RAM at once, in bytes (its own pages and those of files mapped); `None` where the system does not say.
    pub peak_byte_len: Option<u64>,
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
    let mut peak_byte_len = None;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        // The kernel keeps the high-water mark itself, so the last reading before the end has nearly all of it.
        peak_byte_len = peak(&child).or(peak_byte_len);
        thread::sleep(STEP);
    };
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{shown} ended with {status}:\n{}", fs::read_to_string(said.path()).unwrap_or_default());
    Ok(Measured { seconds, peak_byte_len })
}

fn peak(child: &Child) -> Option<u64> {
    high_water(&fs::read_to_string(Path::new("/proc").join(child.id().to_string()).join("status")).ok()?)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read() {
        assert_eq!(high_water("Name:\tx\nVmHWM:\t   2048 kB\nVmRSS:\t 1 kB\n"), Some(2 << 20));
        assert_eq!(high_water("Name:\tx\n"), None);
    }

    #[test]
    fn the_median_is_one_of_the_runs() {
        let run = |seconds| Measured { seconds, peak_byte_len: None };
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
