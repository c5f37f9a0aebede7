//! A parity record as JSON. Input: its text.

use mlxport_reports::{ReportError, Style, diff_text, from_json, html, json, junit, markdown, taps_csv, terminal};
use mlxport_verdict::diff::diff;

/// Reads the record, and shows a sound one in every format.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match from_json(text) {
        Ok(record) => {
            let printed = json(&record);
            let again = from_json(&printed).expect("our own print is a record");
            assert_eq!(json(&again), printed, "printed and read again it is the same");
            harmless(&markdown(&record));
            let plain = Style { color: false, width: 80 };
            harmless(&terminal(&record, &plain));
            assert_eq!(html(&record).matches("</script>").count(), 2, "data stays data");
            junit(&record).expect("written to memory");
            taps_csv(&record).expect("written to memory");
            let unchanged = diff(&record, &record);
            assert_eq!(unchanged.counts.newly_failing, 0);
            harmless(&diff_text(&unchanged, &plain));
        }
        Err(ReportError::Contradiction { violations }) => {
            assert!(!violations.is_empty(), "refused without a reason");
            violations.iter().for_each(|violation| harmless(violation));
        }
        Err(other) => harmless(&other.to_string()),
    }
}

/// Nothing that a terminal would obey.
fn harmless(text: &str) {
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{text:?}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seed_is_a_sound_record() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds/report");
        for entry in std::fs::read_dir(folder).expect("seeds") {
            let path = entry.expect("an entry").path();
            let read = from_json(&std::fs::read_to_string(&path).expect("readable"));
            assert!(read.is_ok(), "{}: {:?}", path.display(), read.err());
        }
    }
}
