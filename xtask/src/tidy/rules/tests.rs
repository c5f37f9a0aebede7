//! Each rule is shown a file that breaks it, and the nearest one that does not.

use super::*;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.into(), byte_len: text.len() as u64, text: Some(text.into()) }
}

/// The lines that `rule` complains about.
fn lines(rule: Rule, path: &str, text: &str) -> Vec<usize> {
    rule(&file(path, text)).into_iter().map(|found| found.line).collect()
}

#[test]
fn opening_wants_module_documentation_first() {
    assert_eq!(lines(opening, "a.rs", "fn a() {}\n"), [1]);
    assert_eq!(lines(opening, "a.rs", "\n//! Late.\n"), [1]);
    assert_eq!(lines(opening, "a.rs", ""), [1]);
    assert!(lines(opening, "a.rs", "//! What it is.\n").is_empty());
    assert!(lines(opening, "a.py", "x = 1\n").is_empty());
}

#[test]
fn length_counts_code_lines() {
    assert_eq!(lines(length, "a.rs", &"x\n".repeat(401)), [401]);
    assert_eq!(lines(length, "a.py", &"x\n".repeat(500)), [401]);
    assert!(lines(length, "a.rs", &"x\n".repeat(400)).is_empty());
    assert!(lines(length, "a.json", &"x\n".repeat(9000)).is_empty());
}

#[test]
fn leftovers_are_found_by_line() {
    let text = concat!("//!\nto", "do!()\nun", "implemented!()\n#[ig", "nore]\ndb", "g!(1)\nok\n");
    assert_eq!(lines(leftovers, "a.rs", text), [2, 3, 4, 5]);
    assert!(lines(leftovers, "a.rs", "//! Nothing ignored, no debugging.\n").is_empty());
}

#[test]
fn machine_paths_are_absolute_ones() {
    for bad in [
        concat!("open(\"/tm", "p/x\")"),
        concat!("cd /wo", "rk/main"),
        concat!("/fa", "rm/x"),
        concat!("/ho", "me/someone/x"),
    ] {
        assert_eq!(lines(machine_paths, "notes.md", bad), [1], "{bad}");
    }
    for good in [concat!("a/wo", "rk/b"), concat!("{root}/tm", "p/x"), concat!("frame", "wo", "rk/")] {
        assert!(lines(machine_paths, "notes.md", good).is_empty(), "{good}");
    }
}

#[test]
fn configs_name_no_host() {
    let mirror = concat!("\nindex = \"https", "://mirror.example/index\"\n");
    assert_eq!(lines(hosts, ".cargo/config.toml", mirror), [2]);
    assert_eq!(lines(hosts, "fixtures/capture/requirements.txt", mirror), [2]);
    assert_eq!(lines(hosts, "Cargo.lock", concat!("source = \"registry+http", "://other\"")), [1]);
    assert!(lines(hosts, "README.md", mirror).is_empty());
    let usual = concat!("source = \"registry+https", "://github.com/rust-lang/crates.io-index\"\n");
    assert!(lines(hosts, "Cargo.lock", usual).is_empty());
    assert!(lines(hosts, "Cargo.toml", concat!("repository = \"https", "://x\"\n")).is_empty());
}

#[test]
fn whitespace_is_clean() {
    assert_eq!(lines(whitespace, "a.md", "a \nb\t\nc\r\nd\n"), [1, 2, 3]);
    assert_eq!(lines(whitespace, "a.rs", "a\n\tb\n"), [2]);
    assert_eq!(lines(whitespace, "a.md", "a\nb"), [2]);
    assert!(lines(whitespace, "Makefile", "a:\n\tb\n").is_empty());
    assert!(lines(whitespace, "fixtures/data/x/config.json", "{} ").is_empty());
    assert!(lines(whitespace, "a.md", "").is_empty());
}

#[test]
fn only_two_rooms_see_mlx() {
    let code = concat!("//!\nuse mlx", "_rs::Array;\n");
    // A record may well have a field of that name.
    assert!(lines(mlx_only_in_its_rooms, "verdict/src/run.rs", concat!("//!\nmlx", "_rs: String,\n")).is_empty());
    assert_eq!(lines(mlx_only_in_its_rooms, "ocr/src/a.rs", concat!("let a = mlx", "_rs::array!(1);\n")), [1]);
    assert_eq!(lines(mlx_only_in_its_rooms, "convert/src/lib.rs", code), [2]);
    assert_eq!(lines(mlx_only_in_its_rooms, "src/main.rs", code), [2]);
    assert!(lines(mlx_only_in_its_rooms, "model/src/lib.rs", code).is_empty());
    assert!(lines(mlx_only_in_its_rooms, "parity/tests/a.rs", code).is_empty());

    let line = concat!("mlx", "-rs.workspace = true\n");
    assert_eq!(lines(mlx_only_in_its_rooms, "reports/Cargo.toml", &format!("[dependencies]\n{line}")), [2]);
    assert_eq!(lines(mlx_only_in_its_rooms, "Cargo.toml", &format!("[dependencies]\n{line}")), [2]);
    assert_eq!(lines(mlx_only_in_its_rooms, "ocr/Cargo.toml", concat!("[dependencies.mlx", "-rs]\n")), [1]);
    assert!(lines(mlx_only_in_its_rooms, "Cargo.toml", &format!("[workspace.dependencies]\n{line}")).is_empty());
    assert!(lines(mlx_only_in_its_rooms, "model/Cargo.toml", &format!("[dependencies]\n{line}")).is_empty());
}

#[test]
fn libraries_neither_print_nor_exit() {
    let text = "//!\nprintln!();\neprintln!(\"x\");\nstd::process::exit(1);\n// println!(\n";
    assert_eq!(lines(quiet_libraries, "convert/src/lib.rs", text), [2, 3, 4]);
    assert!(lines(quiet_libraries, "src/main.rs", text).is_empty());
    assert!(lines(quiet_libraries, "xtask/src/main.rs", text).is_empty());
}

#[test]
fn packages_take_part_in_the_lints() {
    let package = "[package]\nname = \"a\"\n";
    assert_eq!(lines(lints, "a/Cargo.toml", package).len(), 1);
    assert_eq!(lines(lints, "a/Cargo.toml", &format!("{package}[lints.rust]\nworkspace = true\n")).len(), 1);
    assert!(lints(&file("a/Cargo.toml", &format!("{package}[lints]\nworkspace = true\n"))).is_empty());
    assert!(lints(&file("Cargo.toml", "[workspace]\n")).is_empty());
}

#[test]
fn the_whole_is_small() {
    let mut files = vec![file("a", ""), file("b", "")];
    files[0].byte_len = MAX_TOTAL_BYTES / 2;
    files[1].byte_len = MAX_TOTAL_BYTES / 2;
    assert!(total_size(&files).is_empty());
    files[1].byte_len += 1;
    let found = total_size(&files);
    assert_eq!((found.len(), found[0].path.as_str()), (1, "b"));
}

#[test]
fn every_file_of_a_test_program_is_a_module_of_it() {
    let main = file("a/tests/it/main.rs", "//!\nmod one;\nmod support;\n");
    let named = [file("a/tests/it/one.rs", ""), file("a/tests/it/support/mod.rs", ""), file("b/tests/two.rs", "")];
    let mut files: Vec<_> = named.into_iter().chain([main]).collect();
    assert!(tests_that_run(&files).is_empty());
    files.push(file("a/tests/it/two.rs", ""));
    let found = tests_that_run(&files);
    assert_eq!((found.len(), found[0].path.as_str()), (1, "a/tests/it/two.rs"));
}
