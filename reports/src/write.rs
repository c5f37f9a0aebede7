//! A report directory: record.json, report.md, report.html, report.txt, taps.csv, junit.xml.

use std::fs::Permissions;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mlxport_verdict::{MutationReport, Run};
use tempfile::NamedTempFile;

use crate::error::ReportError;
use crate::terminal::Style;
use crate::{Result, html, json, junit, markdown, mutation_json, mutation_markdown, mutation_text, taps_csv, terminal};

/// The width of report.txt.
const TEXT_WIDTH: usize = 120;

/// Writes `record.json`, `report.md`, `report.html`, `report.txt`, `taps.csv` and `junit.xml` into `dir`, which is made if needed. Each file is
/// replaced as a whole: a reader sees the old one or the new one, never half of one. The record comes last, so where it is new, all are.
///
/// # Errors
/// A directory or file could not be written.
pub fn write_report(dir: impl AsRef<Path>, run: &Run) -> Result<()> {
    let dir = dir.as_ref();
    let failed = |source| ReportError::Write { path: dir.to_owned(), source };
    std::fs::create_dir_all(dir).map_err(failed)?;
    replace(&dir.join("report.txt"), &terminal(run, &Style { color: false, width: TEXT_WIDTH }))?;
    replace(&dir.join("report.md"), &markdown(run))?;
    replace(&dir.join("report.html"), &html(run))?;
    replace(&dir.join("taps.csv"), &taps_csv(run).map_err(failed)?)?;
    replace(&dir.join("junit.xml"), &junit(run).map_err(io::Error::other).map_err(failed)?)?;
    replace(&dir.join("record.json"), &json(run))
}

/// Writes `mutation.json`, `mutation.md` and `mutation.txt` into `dir`, as [`write_report`] does its files.
///
/// # Errors
/// A directory or file could not be written.
pub fn write_mutation_report(dir: impl AsRef<Path>, report: &MutationReport) -> Result<()> {
    let dir = dir.as_ref();
    std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
    replace(&dir.join("mutation.txt"), &mutation_text(report))?;
    replace(&dir.join("mutation.md"), &mutation_markdown(report))?;
    replace(&dir.join("mutation.json"), &mutation_json(report))
}

/// Writes one text file: a reader sees the old one or the new one.
///
/// # Errors
/// The file could not be written.
pub fn write_text(path: impl AsRef<Path>, text: &str) -> Result<()> {
    replace(path.as_ref(), text)
}

/// Writes one text file where there is none yet: it appears whole, or not at all.
///
/// # Errors
/// The file is there already, or could not be written.
pub fn write_new_text(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    let file = staged(path, text)?;
    file.persist_noclobber(path).map_err(|error| ReportError::Write { path: path.to_owned(), source: error.error })?;
    Ok(())
}

fn replace(path: &Path, text: &str) -> Result<()> {
    let file = staged(path, text)?;
    file.persist(path).map_err(|error| ReportError::Write { path: path.to_owned(), source: error.error })?;
    Ok(())
}

/// The text in a file of its own, beside `path` and safe on the disk.
fn staged(path: &Path, text: &str) -> Result<NamedTempFile> {
    let failed = |source| ReportError::Write { path: path.to_owned(), source };
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".report-")
        // Readable like any other file, as far as the umask allows.
        .permissions(Permissions::from_mode(0o666))
        .tempfile_in(dir)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_report_is_six_whole_files_and_no_leftovers() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let out = dir.path().join("a/b");
        write_report(&out, &samples::failing()).expect("writable");
        write_report(&out, &samples::passing()).expect("replaceable");
        let mut names: Vec<_> = std::fs::read_dir(&out)
            .expect("made")
            .map(|entry| entry.expect("readable").file_name().into_string().expect("UTF-8"))
            .collect();
        names.sort();
        assert_eq!(names, ["junit.xml", "record.json", "report.html", "report.md", "report.txt", "taps.csv"]);
        let read = |name| std::fs::read_to_string(out.join(name)).expect("written");
        assert_eq!(crate::from_json(&read("record.json")).expect("sound"), samples::passing());
        assert!(read("report.md").starts_with("# PASS: sample\n"));
        assert!(read("report.txt").starts_with("PASS sample: "));
        let mode = std::fs::metadata(out.join("record.json")).expect("there").permissions().mode();
        assert_eq!(mode & 0o400, 0o400);
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let file = dir.path().join("file");
        std::fs::write(&file, "").expect("writable");
        let error = write_report(&file, &samples::passing()).expect_err("no directory");
        assert!(error.to_string().contains("file"), "{error}");
    }
}
