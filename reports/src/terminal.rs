//! The verdict for a person at a terminal: the first line answers, the rest explains.

mod growth;

use mlxport_verdict::{Run, TapRecord, Verdict};

use crate::content::{
    SystemRow, near_ties, next_steps, only_in_candidate, origin, reasons, system_rows, tap, verdict_sentence,
    verdict_word,
};
use crate::text_format::{clean, clip_end, clip_start, environment, numbers, ratio, subject, tap_name};

/// Cells of a full bar: one tolerance.
const BAR_CELLS: usize = 20;

/// The narrowest terminal that is laid out for.
const MIN_WIDTH: usize = 60;

/// How many failures without a ratio are listed.
const MAX_UNMEASURED: usize = 5;

/// How many reasons are listed.
const MAX_REASONS: usize = 20;

/// How the text is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether ANSI colours are used.
    pub color: bool,
    /// Columns of the terminal; less than 60 counts as 60.
    pub width: usize,
}

/// ANSI colours that are used.
#[derive(Clone, Copy)]
pub(crate) enum Paint {
    Bold,
    Dim,
    Green,
    Red,
    Yellow,
}

impl Style {
    pub(crate) fn paint(&self, paint: Paint, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let style = match paint {
            Paint::Bold => anstyle::Style::new().bold(),
            Paint::Dim => anstyle::Style::new().dimmed(),
            Paint::Green => anstyle::AnsiColor::Green.on_default().bold(),
            Paint::Red => anstyle::AnsiColor::Red.on_default().bold(),
            Paint::Yellow => anstyle::AnsiColor::Yellow.on_default().bold(),
        };
        format!("{style}{text}{style:#}")
    }

    pub(crate) fn width(&self) -> usize {
        self.width.max(MIN_WIDTH)
    }

    pub(crate) fn heading(&self, text: &str) -> String {
        format!("\n{}", self.paint(Paint::Bold, text))
    }

    /// `text` broken at spaces (or anywhere, in words that are longer than a line), every line indented.
    pub(crate) fn wrapped(&self, text: &str, indent: usize) -> Vec<String> {
        let room = self.width() - indent;
        let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
        for word in text.split(' ') {
            let length = word.chars().count();
            if used > 0 && used + 1 + length > room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if used > 0 {
                line.push(' ');
                used += 1;
            }
            for c in word.chars() {
                if used == room {
                    lines.push(std::mem::take(&mut line));
                    used = 0;
                }
                line.push(c);
                used += 1;
            }
        }
        lines.push(line);
        lines.into_iter().map(|line| format!("{:indent$}{line}", "")).collect()
    }
}

/// The record as text, without or with colour. Ends with a newline.
#[must_use]
pub fn terminal(run: &Run, style: &Style) -> String {
    let mut lines = head(run, style);
    lines.extend(systems(run, style));
    lines.extend(divergence(run, style));
    lines.extend(growth::growth(run, style));
    lines.extend(unmeasured(run, style));
    lines.extend(worst(run, style));
    lines.extend(not_compared(run, style));
    lines.push(style.heading("Next"));
    lines.extend(next_steps(run).iter().flat_map(|step| style.wrapped(step, 2)));
    lines.push(String::new());
    lines.join("\n")
}

fn head(run: &Run, style: &Style) -> Vec<String> {
    let verdict = run.summary.verdict;
    let paint = match verdict {
        Verdict::Pass => Paint::Green,
        Verdict::Fail => Paint::Red,
        Verdict::NothingCompared | Verdict::Incomplete | Verdict::Nondeterministic => Paint::Yellow,
    };
    let word = verdict_word(verdict);
    let sentence = format!("{word} {}: {}", clean(&run.fixture.name), verdict_sentence(run));
    let mut lines = style.wrapped(&sentence, 0);
    lines[0] = lines[0].replacen(word, &style.paint(paint, word), 1);
    for line in [environment(run), subject(run)] {
        lines.extend(style.wrapped(&line, 0).iter().map(|line| style.paint(Paint::Dim, line)));
    }
    lines
}

fn systems(run: &Run, style: &Style) -> Vec<String> {
    let rows = system_rows(run);
    if rows.is_empty() {
        return Vec::new();
    }
    let title = "system     mode         taps  failed      worst  at";
    let mut lines = vec![style.heading(title)];
    let mut last = None;
    for row in rows {
        let name = if last == Some(row.system) { String::new() } else { row.system.to_string() };
        last = Some(row.system);
        lines.push(system_line(&row, &name, style));
    }
    let summary = &run.summary;
    let legend = format!("worst: error ÷ tolerance; tolerance: {}", crate::content::tolerance_rule(run));
    lines.extend(style.wrapped(&legend, 0).iter().map(|line| style.paint(Paint::Dim, line)));
    if let Some(said) = crate::content::last_logits(run) {
        lines.extend(style.wrapped(&said, 0));
    }
    if let Some(ties) = near_ties(run) {
        lines.extend(style.wrapped(&ties, 0).iter().map(|line| style.paint(Paint::Yellow, line)));
    }
    if summary.points_unaccounted > 0 {
        let text = format!("{} recorded points are unaccounted for", summary.points_unaccounted);
        lines.push(style.paint(Paint::Red, &text));
    }
    lines
}

fn system_line(row: &SystemRow<'_>, name: &str, style: &Style) -> String {
    let worst = row.worst.map_or_else(String::new, worst_number);
    let fixed = format!("{name:<10} {:<11} {:>5}", row.mode.to_string(), row.taps);
    let failed = format!("{:>6}", row.failed);
    let failed = if row.failed > 0 { style.paint(Paint::Red, &failed) } else { failed };
    let at = row.worst.map(tap_name).unwrap_or_default();
    // 49 columns stand before it.
    let at = clip_start(&at, style.width().saturating_sub(49));
    format!("{fixed}  {failed}  {worst:>9}  {at}").trim_end().to_owned()
}

/// The ratio, or what stands for it where there is none.
fn worst_number(tap: &TapRecord) -> String {
    match tap.ratio {
        Some(value) => ratio(value),
        None if tap.passed() => "equal".to_owned(),
        None => "failed".to_owned(),
    }
}

fn divergence(run: &Run, style: &Style) -> Vec<String> {
    let summary = &run.summary;
    let mut lines = Vec::new();
    let blocks = [
        ("First divergence (cumulative)", &summary.first_divergence),
        ("Fails by itself (isolated)", &summary.first_isolated_failure),
        ("Fails as users run it (tuned)", &summary.first_tuned_failure),
    ];
    for (title, named) in blocks {
        let Some(tap) = named.as_ref().and_then(|named| tap(run, named)) else { continue };
        lines.push(style.heading(title));
        let name = clip_start(&tap_name(tap), style.width() - 2);
        lines.push(format!("  {}", style.paint(Paint::Red, &name)));
        lines.extend(numbers(tap).iter().flat_map(|line| style.wrapped(line, 2)));
    }
    if let Some(origin) = origin(run) {
        lines.extend(style.wrapped(&format!("Origin: {origin}."), 2));
    }
    lines
}

/// Failures that no ratio ranks: missing, extra, other shapes, other experts.
fn unmeasured(run: &Run, style: &Style) -> Vec<String> {
    let failed: Vec<&TapRecord> = run.taps.iter().filter(|tap| !tap.passed() && tap.ratio.is_none()).collect();
    if failed.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![style.heading("Failed without a ratio")];
    for tap in failed.iter().take(MAX_UNMEASURED) {
        let why = tap.failure.as_ref().map_or_else(String::new, |failure| clip_end(&failure.to_string(), 300));
        let text = clean(&format!("{} ({}): {why}", tap.id(), tap.mode));
        lines.extend(style.wrapped(&text, 2));
    }
    if failed.len() > MAX_UNMEASURED {
        lines.push(format!("  … and {} more", failed.len() - MAX_UNMEASURED));
    }
    lines
}

fn worst(run: &Run, style: &Style) -> Vec<String> {
    if run.summary.worst.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![style.heading("Closest to, or furthest over, the tolerance")];
    for named in &run.summary.worst {
        let value = named.ratio.unwrap_or(f64::NAN);
        let over = value > 1.0 || value.is_nan();
        let bar = style.paint(if over { Paint::Red } else { Paint::Green }, &bar(value));
        let name = format!("{} ({})", clean(&named.id().to_string()), named.mode);
        // 36 columns stand before it.
        let name = clip_start(&name, style.width().saturating_sub(36));
        lines.push(format!("  {bar} {:>9}  {name}", ratio(value)));
    }
    lines
}

/// Filled up to the ratio, where full is the tolerance; an arrow where it goes beyond.
fn bar(ratio: f64) -> String {
    if ratio > 1.0 || ratio.is_nan() {
        return format!("{}▶", "█".repeat(BAR_CELLS));
    }
    let filled = ((ratio * BAR_CELLS as f64).round() as usize).min(BAR_CELLS);
    format!("{}{} ", "█".repeat(filled), "░".repeat(BAR_CELLS - filled))
}

fn not_compared(run: &Run, style: &Style) -> Vec<String> {
    let summary = &run.summary;
    let mut lines = vec![style.heading(&format!(
        "{} recorded points, {} mapped, {} not",
        summary.points_recorded, summary.points_mapped, summary.points_unmapped
    ))];
    let reasons = reasons(run);
    for reason in reasons.iter().take(MAX_REASONS) {
        let mode = reason.mode.map_or_else(String::new, |mode| format!("{mode}: "));
        let text = clip_end(&clean(reason.reason), 300);
        let wrapped = style.wrapped(&format!("{mode}{text}"), 8);
        for (index, line) in wrapped.iter().enumerate() {
            let count = if index == 0 { reason.entries.len().to_string() } else { String::new() };
            lines.push(format!("{count:>6}{}", &line[6..]));
        }
    }
    if reasons.len() > MAX_REASONS {
        lines.push(format!("        … and {} more reasons", reasons.len() - MAX_REASONS));
    }
    if let Some(extra) = only_in_candidate(run) {
        lines.extend(style.wrapped(&clip_end(&extra, 600), 2));
    }
    if reasons.is_empty() {
        lines.push("  every recorded point was compared".to_owned());
    } else {
        lines.push(style.paint(Paint::Dim, "  not compared, by reason (all in the record)"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    const PLAIN: Style = Style { color: false, width: 100 };

    #[test]
    fn a_pass_reads_well() {
        insta::assert_snapshot!(terminal(&samples::passing(), &PLAIN));
    }

    #[test]
    fn two_recordings_read_well() {
        insta::assert_snapshot!(terminal(&samples::compared(), &PLAIN));
    }

    #[test]
    fn a_failure_reads_well() {
        insta::assert_snapshot!(terminal(&samples::failing(), &PLAIN));
    }

    #[test]
    fn nothing_compared_reads_well() {
        insta::assert_snapshot!(terminal(&samples::nothing(), &PLAIN));
    }

    #[test]
    fn lines_keep_to_the_width_and_colour_changes_no_text() {
        for run in [samples::passing(), samples::failing(), samples::nothing()] {
            for width in [0, 60, 80, 200] {
                let plain = terminal(&run, &Style { color: false, width });
                for line in plain.lines() {
                    assert!(line.chars().count() <= width.max(MIN_WIDTH), "{width}: {line}");
                }
                let mut colored = terminal(&run, &Style { color: true, width });
                assert_ne!(colored, plain);
                for code in ["0", "1", "2", "31", "32", "33"] {
                    colored = colored.replace(&format!("\u{1b}[{code}m"), "");
                }
                assert_eq!(colored, plain);
            }
        }
    }

    #[test]
    fn bars_are_full_at_the_tolerance_and_overflow_beyond_it() {
        assert_eq!(bar(0.0), format!("{} ", "░".repeat(20)));
        assert_eq!(bar(1.0), format!("{} ", "█".repeat(20)));
        for over in [1.000_001, f64::INFINITY, f64::NAN] {
            assert_eq!(bar(over), format!("{}▶", "█".repeat(20)));
        }
    }

    #[test]
    fn tolerated_near_ties_and_lost_points_are_told() {
        let mut run = samples::passing();
        let choices = run.taps.iter_mut().find_map(|tap| tap.choices.as_mut()).expect("a router");
        (choices.differing_rows, choices.near_ties) = (2, 2);
        let run = run.concluded(mlxport_verdict::Points { recorded: 28, mapped: 20 });
        let text = terminal(&run, &PLAIN);
        assert!(text.contains("2 tokens' choices were a near tie"), "{text}");
        assert!(text.contains("FAIL sample: 1 recorded points are neither compared nor listed"), "{text}");
        assert!(text.contains("1 recorded points are unaccounted for"), "{text}");
    }

    #[test]
    fn escapes_in_names_do_not_reach_the_terminal() {
        let mut run = samples::failing();
        run.fixture.name = "\u{1b}]0;x\u{7}".to_owned();
        for tap in &mut run.taps {
            tap.point.push_str("\u{1b}[2J\n");
        }
        for entry in &mut run.not_compared {
            entry.reason = "\u{1b}[2J".to_owned();
        }
        let points = mlxport_verdict::Points { recorded: 27, mapped: 19 };
        assert!(!terminal(&run.concluded(points), &PLAIN).contains('\u{1b}'));
    }
}
