//! A ledger as JSON lines. Input: its text.

use mlxport_reports::{drifts, ledger_html, ledger_object, ledger_text, parse_ledger};

/// Reads the ledger, and shows a sound one in every form.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match parse_ledger(text) {
        Ok(entries) => {
            let printed: String = entries.iter().map(mlxport_reports::Entry::line).collect();
            let again = parse_ledger(&printed).expect("our own print is a ledger");
            let reprinted: String = again.iter().map(mlxport_reports::Entry::line).collect();
            assert_eq!(reprinted, printed, "printed and read again it is the same");
            let control = ledger_text(&entries).chars().find(|c| c.is_control() && *c != '\n');
            assert_eq!(control, None, "nothing that a terminal would obey");
            assert!(!ledger_html(&entries).contains("<script"), "nothing that a browser would run");
            let object: serde_json::Value = serde_json::from_str(&ledger_object(&entries)).expect("one object");
            assert_eq!(object["drifts"].as_array().map(Vec::len), Some(drifts(&entries).len()));
        }
        Err(error) => assert!(error.to_string().starts_with("line "), "a broken line is located: {error}"),
    }
}
