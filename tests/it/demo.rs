//! `mlxport demo`: the main job on the data that the binary carries, in an empty directory and again.

use crate::support::{code, mlxport, stderr};

#[test]
fn it_passes_twice_and_leaves_the_files_of_others_alone() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let out = dir.path().join("out");
    for run in ["in an empty place", "over its own results"] {
        let output = mlxport(["demo".as_ref(), "--out".as_ref(), out.as_os_str()]);
        assert_eq!(code(&output), 0, "{run}: {}", stderr(&output));
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(text.contains("PASS tiny-small: all 469 comparisons"), "{run}: {text}");
        assert!(out.join("report/report.html").is_file(), "{run}");
    }

    let taken = dir.path().join("taken");
    std::fs::create_dir(&taken).expect("writable");
    std::fs::write(taken.join("thesis.txt"), "mine").expect("writable");
    let output = mlxport(["demo".as_ref(), "--out".as_ref(), taken.as_os_str()]);
    assert_eq!(code(&output), 2);
    assert!(stderr(&output).contains("holds files that no demo made"), "{}", stderr(&output));
    assert_eq!(std::fs::read_dir(&taken).expect("readable").count(), 1, "nothing was added");
}
