//! Lines that read back, broken ones that are located, drift, and how both look.

use super::*;
use crate::samples;

const TIME: &str = "2026-01-02T03:04:05Z";

fn entry(run: &Run, commit: &str) -> Entry {
    Entry::of(run, commit, TIME)
}

/// Six runs that drift, the third of which fails.
fn history() -> Vec<Entry> {
    let mut entries: Vec<Entry> = (0..6)
        .map(|at| {
            let run = samples::with_errors(|index, _| 1e-7 * (1.0 + index as f64) * 1.25f64.powi(at));
            entry(&run, &format!("{at}{at}{at}{at}abcdef0123"))
        })
        .collect();
    entries[2] = entry(&samples::failing(), "2222abcdef0123");
    entries
}

#[test]
fn a_line_reads_back_and_is_one_line() {
    for run in [samples::passing(), samples::failing(), samples::nothing(), samples::compared()] {
        let entry = entry(&run, "abc");
        let line = entry.line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(parse_ledger(&line.repeat(3)).expect("our own"), vec![entry.clone(), entry.clone(), entry]);
    }
    assert!(parse_ledger("").expect("empty").is_empty());
    insta::assert_snapshot!("ledger_line", entry(&samples::failing(), "abc").line());
}

#[test]
fn a_nan_survives() {
    let mut run = samples::passing();
    run.taps[0].metrics.as_mut().expect("measured").rel_rms = f64::NAN;
    let back = parse_ledger(&entry(&run, "abc").line()).expect("our own");
    assert!(back[0].systems.iter().any(|system| system.error.is_some_and(f64::is_nan)));
}

#[test]
fn a_broken_line_is_located() {
    let good = entry(&samples::passing(), "abc").line();
    for (line, said) in [
        ("{", "line 2, column 1: EOF"),
        ("", "line 2, column 0: EOF"),
        ("{\"schema\":1}", "line 2, column 11: invalid type: integer `1`"),
        ("[]", "line 2, column 2: "),
    ] {
        let error = parse_ledger(&format!("{good}{line}\n{good}")).expect_err("broken").to_string();
        assert!(error.starts_with(said), "{line}: {error}");
    }
    let other = good.replace("ledger/1", "ledger/2");
    let error = parse_ledger(&other).expect_err("another schema").to_string();
    assert_eq!(error, "line 1, column 1: schema \"mlxport.ledger/2\", expected \"mlxport.ledger/1\"");
    let more = good.replacen('{', "{\"more\":1,", 1);
    assert!(parse_ledger(&more).expect_err("unknown").to_string().contains("unknown field `more`"));
}

#[test]
fn drift_is_flagged_against_the_best_run_of_the_same_series() {
    let entries = history();
    let found = drifts(&entries);
    assert!(!found.is_empty());
    for drift in &found {
        assert!(drift.commit.starts_with("0000") && drift.to > 3.0 * drift.from, "{drift:?}");
    }
    assert!(drifts(&entries[..1]).is_empty());
    assert!(drifts(&entries[..3]).is_empty(), "what fails is no drift");
    let mut elsewhere = entries.clone();
    elsewhere[5].device = "gpu".to_owned();
    assert!(drifts(&elsewhere).iter().all(|drift| !drift.series.contains("gpu")), "another series has no past");
    insta::assert_snapshot!("ledger_text", ledger_text(&entries));
}

#[test]
fn the_page_draws_every_run_and_fetches_nothing() {
    let entries = history();
    let page = ledger_html(&entries);
    assert_eq!(page.matches("<svg ").count(), 4, "error and ratio, cumulative and isolated");
    assert!(page.contains("Drift inside the tolerance"));
    for word in ["http://", "https://", " src=", "url(", "@import", "<link", "<script"] {
        assert!(!page.contains(word), "{word}");
    }
    for entry in &entries {
        assert!(page.contains(&entry.commit[..8]), "{}", entry.commit);
    }
    assert!(ledger_html(&[]).contains("0 runs"));
}

#[test]
fn names_are_data() {
    let mut entry = entry(&samples::passing(), "</title><script>alert(1)</script>\u{1b}[2J");
    entry.fixture = "<img src=x>".to_owned();
    entry.systems[0].name = "<b>".to_owned();
    let page = ledger_html(std::slice::from_ref(&entry));
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"));
    assert!(!ledger_text(&[entry]).contains('\u{1b}'));
}

#[test]
fn an_atlas_is_a_line_for_each_port() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let cell = |port: &str, kind: &str, verdict: Option<&str>| {
        let mut cell = serde_json::json!({ "port": port, "model_type": kind, "seed": 0, "made_by": {
            "mlx": "0.32.4", "binary": "mlxport 0.1.0", "device": "the CPU", "system": "linux/x86_64" } });
        if let Some(verdict) = verdict {
            cell["verdict"] = verdict.into();
        }
        cell
    };
    let cells = [
        cell("mlx-lm", "llama", Some("pass")),
        cell("mlx-lm", "llama", Some("fail")),
        cell("mlx-lm", "qwen3", Some("pass")),
        cell("mlx-lm", "none", None),
        cell("mlx-vlm", "qwen3_vl", Some("pass")),
    ];
    let path = dir.path().join("atlas.json");
    std::fs::write(&path, serde_json::json!({ "schema": 1, "cells": cells }).to_string()).expect("written");
    for at in [dir.path(), &path] {
        let lines = atlas_entries(at, "abc", TIME).expect("an atlas").expect("an atlas");
        let told: Vec<_> = lines.iter().map(|line| (line.series(), line.verdict, line.taps, line.failed)).collect();
        assert_eq!(
            told,
            [
                ("atlas of mlx-lm/f32/cpu/linux/x86_64".to_owned(), Verdict::Fail, 2, 1),
                ("atlas of mlx-vlm/f32/cpu/linux/x86_64".to_owned(), Verdict::Pass, 1, 0),
            ]
        );
        assert_eq!(parse_ledger(&lines[0].line()).expect("our own"), lines[..1]);
        assert!(ledger_text(&lines).contains("abc") && ledger_html(&lines).contains("atlas of mlx-lm"));
    }
    std::fs::write(&path, "{\"schema\": 2, \"cells\": []}").expect("written");
    assert!(
        atlas_entries(&path, "abc", TIME).expect_err("another schema").to_string().contains("schema 2, expected 1")
    );
    std::fs::write(&path, "{").expect("written");
    assert!(atlas_entries(&path, "abc", TIME).expect_err("broken").to_string().contains("line 1, column 1"));
    assert!(atlas_entries(&dir.path().join("record.json"), "abc", TIME).expect("no atlas").is_none());
}
