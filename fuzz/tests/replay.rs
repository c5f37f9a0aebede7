//! Seeds and past findings of every target, replayed without a fuzzer.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use mlxport_fuzz::TARGETS;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The entries of a folder by name; none where there is no such folder.
fn entries(folder: &Path) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}

#[test]
fn seeds_and_findings_hold() {
    for (name, run) in TARGETS {
        let seeds = entries(&folder("seeds").join(name));
        assert!(!seeds.is_empty(), "{name} has no seed");
        for path in seeds.into_iter().chain(entries(&folder("findings").join(name))) {
            let bytes = fs::read(&path).expect("readable");
            let outcome = std::panic::catch_unwind(|| run(&bytes));
            assert!(outcome.is_ok(), "target {name} fails on {}", path.display());
        }
    }
}

#[test]
fn nothing_lies_where_no_target_looks() {
    let known: BTreeSet<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    for kind in ["seeds", "findings", "dictionaries"] {
        for path in entries(&folder(kind)) {
            let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
            assert!(known.contains(name), "{} belongs to no target", path.display());
        }
    }
}
