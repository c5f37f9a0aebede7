//! Reads that fail, files that vanish, limits that are met: whatever happens, a conversion is complete or leaves nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use mlxport_convert::checkpoint::{Checkpoint, SourceFile, TensorInfo, TensorSource};
use mlxport_convert::progress::{Progress, Silent};
use mlxport_convert::{ConvertError, Request, WriteOptions, prepare, verify, writer};

use crate::support::{load_directory, names_in, tiny::Tiny};

/// A checkpoint whose reads work so many times.
struct Failing {
    checkpoint: Checkpoint,
    left: AtomicUsize,
}

impl TensorSource for Failing {
    fn tensors(&self) -> &BTreeMap<String, TensorInfo> {
        self.checkpoint.tensors()
    }

    fn files(&self) -> &[SourceFile] {
        self.checkpoint.files()
    }

    fn read_at(&self, key: &str, byte_offset: u64, out: &mut [u8]) -> Result<(), ConvertError> {
        let left = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        if left.is_err() {
            return Err(ConvertError::io("read", Path::new("model.safetensors"))(io::Error::other("the disk is gone")));
        }
        self.checkpoint.read_at(key, byte_offset, out)
    }
}

/// What a watched conversion has told.
#[derive(Default)]
struct Told {
    byte_len: AtomicUsize,
    flushes: AtomicUsize,
}

impl Progress for Told {
    fn advance(&self, byte_len: u64) {
        self.byte_len.fetch_add(byte_len as usize, Ordering::Relaxed);
    }

    fn flushing(&self) {
        self.flushes.fetch_add(1, Ordering::Relaxed);
    }
}

fn home() -> (tempfile::TempDir, PathBuf, Request) {
    let home = tempfile::tempdir().expect("a directory");
    let source = home.path().join("release");
    Tiny::default().write(&source);
    let request = Request { source: source.clone(), ..Request::default() };
    (home, source, request)
}

#[test]
fn a_read_that_fails_at_any_moment_leaves_nothing() {
    let (home, source, request) = home();
    let plan = prepare(&request).expect("plans").plan;
    let options = WriteOptions { memory_byte_len: 1 << 20, ..WriteOptions::to(home.path().join("out")) };
    let mut reads = 0;
    loop {
        let checkpoint = Checkpoint::scan(&source).expect("scans").checkpoint;
        let failing = Failing { checkpoint, left: AtomicUsize::new(reads) };
        match writer::write(&plan, &failing, Some(&source), &options, &Silent) {
            Ok(_) => break,
            Err(error) => assert!(error.to_string().contains("the disk is gone"), "{error}"),
        }
        assert_eq!(names_in(home.path()), ["release"], "after {reads} reads");
        reads += 7;
    }
    assert!(reads > 100, "{reads} reads are too few for a test");
    assert!(verify(&options.target).expect("reads").differences.is_empty());
}

#[test]
fn a_source_that_vanishes_is_an_error_and_leaves_nothing() {
    let (home, source, request) = home();
    let target = home.path().join("out");
    let ready = prepare(&request).expect("plans");
    fs::remove_file(source.join("config.json")).expect("removes");
    fs::remove_file(source.join("model.safetensors")).expect("removes");
    // Open files outlive their names: what was planned is still there, or it is an error.
    match ready.write(&WriteOptions::to(&target)) {
        Ok(_) => assert!(verify(&target).expect("reads").differences.is_empty()),
        Err(error) => {
            assert!(error.to_string().contains("model.safetensors"), "{error}");
            assert_eq!(names_in(home.path()), ["release"]);
        }
    }
    let error = prepare(&request).expect_err("nothing is left to convert");
    assert!(!error.violations().is_empty(), "{error}");
}

#[test]
fn a_source_that_is_written_to_meanwhile_is_an_error_and_leaves_nothing() {
    let (home, source, request) = home();
    let ready = prepare(&request).expect("plans");
    // The last byte, in place: length and header stay, the time of the last write does not.
    let path = source.join("model.safetensors");
    let byte_len = fs::metadata(&path).expect("there").len();
    let file = fs::File::options().write(true).open(&path).expect("opens");
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(2);
    file.write_all_at(&[0], byte_len - 1).and_then(|()| file.set_modified(later)).expect("writes");
    let error = ready.write(&WriteOptions::to(home.path().join("out"))).expect_err("half old, half new");
    assert!(error.to_string().starts_with("model.safetensors: written to while being read"), "{error}");
    assert_eq!(names_in(home.path()), ["release"]);
}

#[test]
fn a_failure_leaves_the_old_target_as_it_was() {
    let (home, source, request) = home();
    let target = home.path().join("out");
    prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&target))).expect("converts");
    let before = load_directory(&target);
    let plan = prepare(&request).expect("plans").plan;
    let checkpoint = Checkpoint::scan(&source).expect("scans").checkpoint;
    let failing = Failing { checkpoint, left: AtomicUsize::new(50) };
    let options = WriteOptions { force: true, ..WriteOptions::to(&target) };
    writer::write(&plan, &failing, Some(&source), &options, &Silent).expect_err("the disk is gone");
    assert_eq!(names_in(home.path()), ["out", "release"]);
    assert!(verify(&target).expect("reads").differences.is_empty());
    assert_eq!(load_directory(&target), before);
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_is_in_use_is_not() {
    let (home, _, request) = home();
    let target = home.path().join("out");
    // Two stages as they lie on disk: one that nobody holds, one that a running conversion has locked.
    let (stale, held) = (home.path().join(".out.mlxport-new-stale"), home.path().join(".out.mlxport-new-held"));
    for stage in [&stale, &held] {
        fs::create_dir(stage).expect("a directory");
        fs::write(stage.join("model.safetensors"), "half").expect("writes");
    }
    let lock = fs::File::open(&held).expect("opens");
    lock.lock().expect("locks");
    prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&target))).expect("converts");
    assert_eq!(names_in(home.path()), [".out.mlxport-new-held", "out", "release"]);
}

#[test]
fn a_target_that_was_moved_aside_when_its_process_died_comes_back() {
    let (home, _, request) = home();
    let target = home.path().join("out");
    prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&target))).expect("converts");
    fs::rename(&target, home.path().join(".out.mlxport-old-1")).expect("renames");
    let refused = prepare(&request).and_then(|ready| ready.write(&WriteOptions::to(&target)));
    assert!(matches!(refused, Err(ConvertError::TargetExists(_))), "{refused:?}");
    assert!(verify(&target).expect("reads").differences.is_empty());
}

#[test]
fn progress_tells_of_every_byte_once() {
    let (home, _, request) = home();
    let ready = prepare(&request).expect("plans");
    let told = Told::default();
    ready.write_watched(&WriteOptions::to(home.path().join("out")), &told).expect("converts");
    assert_eq!(told.byte_len.load(Ordering::Relaxed) as u64, ready.plan.byte_len());
    assert_eq!(told.flushes.load(Ordering::Relaxed), 1);
}
