//! A report as one page that fetches nothing and runs nothing.

use maud::{DOCTYPE, PreEscaped, html as markup};

use crate::report::{Report, Severity};
use crate::text::{clean, counts, headline};

/// What the page may do: its own style, nothing from anywhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";
const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;background:#fff}\
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%;margin:1rem 0}th,td{text-align:left;vertical-align:top;padding:.35rem .6rem;\
border-bottom:1px solid #d8dee4}code{font-size:.85em;overflow-wrap:anywhere}.fault{color:#b3261e;font-weight:600}.minor{color:#8a5a00}\
.note{color:#57606a}summary{cursor:pointer}@media(prefers-color-scheme:dark){body{background:#0d1117;color:#e6edf3}th,td{border-color:#30363d}\
.fault{color:#ff8078}.minor{color:#e3b341}.note{color:#9da7b3}}";

/// The report as HTML.
pub fn html(report: &Report) -> String {
    let title = headline(report);
    let page = markup! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { code { (clean(&report.mlx)) } " against " code { (clean(&report.release)) } }
                p { (counts(report)) }
                @for line in &report.quantization { p { "Quantized: " (line) } }
                @if !report.findings.is_empty() {
                    h2 { "Findings" }
                    table {
                        thead { tr { th { "severity" } th { "kind" } th { "count" } th { "what" } th { "keys" } } }
                        tbody { @for finding in &report.findings { tr {
                            td class=(class(finding.severity)) { (class(finding.severity)) }
                            td { (finding.kind) }
                            td { (finding.count) }
                            td { (clean(&finding.detail)) }
                            td { (keys(&finding.keys)) }
                        } } }
                    }
                }
                h2 { "Tensors" }
                details { summary { (report.matches.len()) " tensors, one by one" }
                    table {
                        thead { tr { th { "tensor" } th { "verdict" } th { "from" } } }
                        tbody { @for one in &report.matches { tr {
                            td { code { (clean(&one.name)) } } td { (one.verdict) } td { (keys(&one.sources)) }
                        } } }
                    }
                }
                @if !report.dropped.is_empty() {
                    details { summary { (report.dropped.len()) " tensors of the release left out" }
                        table { tbody { @for one in &report.dropped { tr {
                            td { code { (clean(&one.key)) } } td { (clean(&one.reason)) }
                        } } } }
                    }
                }
            }
        }
    };
    page.into_string() + "\n"
}

fn class(severity: Severity) -> &'static str {
    match severity {
        Severity::Fault => "fault",
        Severity::Minor => "minor",
        Severity::Note => "note",
    }
}

/// Keys, all but the first folded away.
fn keys(keys: &[String]) -> maud::Markup {
    markup! {
        @match keys {
            [] => {},
            [one] => code { (clean(one)) },
            [first, rest @ ..] => details { summary { code { (clean(first)) } " and " (rest.len()) " more" }
                @for key in rest { code { (clean(key)) } br; } },
        }
    }
}
