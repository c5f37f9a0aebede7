//! The record as JSON: what machines read, and what other formats can be made from again.

use mlxport_verdict::{Run, SCHEMA};

use crate::Result;
use crate::error::ReportError;

/// The record, indented, fields in declaration order, a newline at the end. NaN and Inf are the strings `"NaN"`, `"Infinity"`,
/// `"-Infinity"`.
#[must_use]
pub fn json(run: &Run) -> String {
    let mut text = serde_json::to_string_pretty(run)
        .expect("a record has string keys only and its non-finite numbers are written as strings");
    text.push('\n');
    text
}

/// Reads a record back, bit for bit, and checks it against itself.
///
/// # Errors
/// The text is no JSON or no record (with line and column), has another schema, or claims what does not follow from its numbers.
pub fn from_json(text: &str) -> Result<Run> {
    #[derive(serde::Deserialize)]
    struct Version {
        #[serde(default)]
        schema: serde_json::Value,
    }
    let version: Version = serde_json::from_str(text).map_err(parse_error)?;
    if version.schema.as_u64() != Some(u64::from(SCHEMA)) {
        let found = crate::text_format::clip_end(&crate::text_format::clean(&version.schema.to_string()), 40);
        return Err(ReportError::Schema { found, expected: SCHEMA });
    }
    let run: Run = serde_json::from_str(text).map_err(parse_error)?;
    let violations: Vec<String> =
        run.check().iter().map(|violation| crate::text_format::clean(&violation.to_string())).collect();
    if violations.is_empty() { Ok(run) } else { Err(ReportError::Contradiction { violations }) }
}

fn parse_error(error: serde_json::Error) -> ReportError {
    let (line, column) = (error.line(), error.column());
    let full = error.to_string();
    let message = full.strip_suffix(&format!(" at line {line} column {column}")).unwrap_or(&full);
    ReportError::Parse { line, column, message: crate::text_format::clean(message) }
}

#[cfg(test)]
mod tests {
    use mlxport_verdict::{Mode, Verdict};
    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn message(text: &str) -> String {
        from_json(text).expect_err("not a sound record").to_string()
    }

    #[test]
    fn a_record_reads_well() {
        insta::assert_snapshot!(json(&samples::failing()).lines().take(120).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn a_record_reads_back_bit_for_bit() {
        for run in [samples::passing(), samples::failing(), samples::nothing()] {
            let text = json(&run);
            assert!(text.ends_with("}\n"));
            let back = from_json(&text).expect("our own record");
            assert_eq!(back, run);
            assert_eq!(json(&back), text);
        }
    }

    #[test]
    fn a_nan_error_reads_back_as_a_failure() {
        let mut run = samples::passing();
        let header = samples::header("model.norm", 1, "out", Mode::Cumulative, &[2, 4, 8]);
        run.taps.push(samples::measured(header, f64::NAN));
        let run = run.concluded(mlxport_verdict::Points { recorded: 28, mapped: 20 });
        let back = from_json(&json(&run)).expect("our own record");
        let tap = back.taps.last().expect("pushed");
        assert!(!tap.passed() && tap.error().is_some_and(f64::is_nan));
        assert_eq!(back.summary.verdict, Verdict::Fail);
    }

    #[test]
    fn another_schema_is_named() {
        let text = json(&samples::passing());
        let other = text.replacen("\"schema\": 1", "\"schema\": 2", 1);
        assert_eq!(message(&other), "the record has schema 2, expected 1");
        assert_eq!(message("{}"), "the record has schema null, expected 1");
        assert!(message("{\"schema\": \"1\"}").contains("schema \"1\""));
    }

    #[test]
    fn a_broken_record_is_located() {
        let text = json(&samples::passing());
        let cut = &text[..text.len() / 2];
        let lines = cut.lines().count();
        assert!(message(cut).starts_with(&format!("line {lines}, column ")), "{}", message(cut));
        let wrong = text.replacen("\"threads\": 2", "\"threads\": \"two\"", 1);
        let line = wrong.lines().position(|line| line.contains("two")).expect("replaced") + 1;
        let found = message(&wrong);
        assert!(found.starts_with(&format!("line {line}, column ")), "{found}");
        assert!(found.contains("expected usize"), "{found}");
        assert!(message("").starts_with("line 1, column 0: "));
    }

    #[test]
    fn a_record_that_was_edited_into_a_pass_is_refused() {
        let text = json(&samples::failing()).replace("\"status\": \"fail\"", "\"status\": \"pass\"");
        assert!(message(&text).contains("status pass, yet it failed: tolerance exceeded"));
        let text = json(&samples::failing()).replacen("\"verdict\": \"fail\"", "\"verdict\": \"pass\"", 1);
        assert!(message(&text).contains("summary: does not follow from the taps"));
        let text = json(&samples::failing()).replace("\"k\": 4.0", "\"k\": 4e9");
        assert!(message(&text).contains("expected k · floor"), "{}", message(&text));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,200}", cut in 0_usize..4_000, with in any::<char>()) {
            let _ = from_json(&text);
            let record = json(&samples::passing());
            let cut = (0..=cut).rev().find(|at| record.is_char_boundary(*at)).unwrap_or(0);
            let mangled = format!("{}{with}{}", &record[..cut], &record[cut..]);
            let _ = from_json(&mangled);
        }
    }
}
