//! The binary is killed, and its disk is full: the target is what it was or complete, and the next run works.
#![cfg(unix)]

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{code, fixture, mlxport, stderr};

/// Kills of one conversion, spread over the time it takes.
const KILLS: u32 = 24;

fn binary() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("mlxport"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("listed").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn verified(model: &Path) -> bool {
    code(&mlxport([OsStr::new("verify"), model.as_os_str()])) == 0
}

/// Starts the conversion and kills it after `delay`; whether it was still running.
fn killed(arguments: &[&OsStr], delay: Duration) -> bool {
    let mut child = binary().args(arguments).spawn().expect("starts");
    std::thread::sleep(delay);
    let running = child.try_wait().expect("asked").is_none();
    // SIGKILL on Unix: nothing of the process runs after it.
    child.kill().expect("killed, or ended already");
    child.wait().expect("waited for");
    running
}

#[test]
fn killed_at_any_moment_the_target_is_absent_or_complete() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (source, target) = (fixture("tiny-gundam").join("checkpoint"), home.path().join("model"));
    let arguments = [OsStr::new("convert"), source.as_os_str(), target.as_os_str()];
    let begun = Instant::now();
    assert!(binary().args(arguments).status().expect("runs").success());
    let whole = begun.elapsed();
    let mut stopped = 0;
    for at in 0..KILLS {
        let _ = fs::remove_dir_all(&target);
        stopped += u32::from(killed(&arguments, whole * at / KILLS));
        assert!(!target.exists() || verified(&target), "a half-written target after kill {at}");
    }
    assert!(stopped > KILLS / 4, "only {stopped} of {KILLS} kills came before the end");
    let _ = fs::remove_dir_all(&target);
    // What the kills left behind is in nobody's way, and goes.
    assert!(binary().args(arguments).status().expect("runs").success());
    assert!(verified(&target));
    assert_eq!(names(home.path()), ["model"]);
}

#[test]
fn killed_at_any_moment_a_replacement_leaves_the_old_or_the_new() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (source, target) = (fixture("tiny-small").join("checkpoint"), home.path().join("model"));
    let layout = |name| {
        [
            OsStr::new("convert"),
            source.as_os_str(),
            target.as_os_str(),
            OsStr::new("--layout"),
            OsStr::new(name),
            OsStr::new("--force"),
        ]
    };
    let begun = Instant::now();
    assert!(binary().args(layout("mlx-vlm")).status().expect("runs").success());
    let whole = begun.elapsed();
    for at in 0..KILLS {
        killed(&layout(if at % 2 == 0 { "split" } else { "mlx-vlm" }), whole * at / KILLS);
        assert!(verified(&target), "neither the old nor the new after kill {at}");
    }
    assert!(binary().args(layout("split")).status().expect("runs").success());
    assert!(verified(&target));
    assert_eq!(names(home.path()), ["model"]);
}

#[test]
fn a_full_disk_is_told_as_one_and_leaves_nothing() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (source, target) = (fixture("tiny-gundam").join("checkpoint"), home.path().join("model"));
    // No file may grow beyond 64 blocks; without the signal, the write itself fails, as on a full disk.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 64; exec \"$0\" convert \"$1\" \"$2\""])
        .arg(assert_cmd::cargo::cargo_bin!("mlxport"))
        .args([&source, &target])
        .output()
        .expect("runs");
    let text = stderr(&limited);
    assert_eq!(code(&limited), 3, "{text}");
    assert!(text.contains("model.safetensors"), "{text}");
    assert_eq!(names(home.path()), [""; 0]);
}

#[test]
fn no_bar_is_drawn_where_no_terminal_is() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let (source, target) = (fixture("tiny-small").join("checkpoint"), home.path().join("model"));
    let output = mlxport([OsStr::new("convert"), source.as_os_str(), target.as_os_str()]);
    assert_eq!(code(&output), 0);
    assert_eq!(stderr(&output), "");
    let said = String::from_utf8_lossy(&output.stdout);
    for part in ["tensors from", "read and written", "recipe deepseek-ocr", "stack"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    assert!(!said.contains(['\r', '\u{1b}']), "{said:?}");
}
