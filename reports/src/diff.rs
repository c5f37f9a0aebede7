//! Two records compared: for a terminal, as a section of a Markdown page, as JSON.

use mlxport_verdict::diff::{Change, Diff, TapDiff, TapState};

use crate::content::verdict_word;
use crate::terminal::{Paint, Style};
use crate::text_format::{clean, clip_end, clip_start, ratio, scientific, short_hash};

/// Taps listed under each heading of the text.
const LISTED: usize = 12;
/// Rows of the Markdown table.
const ROWS: usize = 30;
/// Characters of one name in Markdown.
const NAME_CHARS: usize = 160;

/// What the taps under a heading have in common.
type Which = fn(&TapDiff) -> bool;

/// The headings, in order, each with its taps: every tap that is not the same is under one.
const GROUPS: [(&str, Which); 6] = [
    ("Newly failing", |tap| tap.newly_failing),
    ("Failing, and worse", |tap| tap.change == Change::Worse && !tap.newly_failing && !tap.drift),
    ("Drift inside the tolerance", |tap| tap.drift),
    ("New", |tap| tap.change == Change::New && !tap.newly_failing),
    ("Gone", |tap| tap.change == Change::Gone),
    ("Better", |tap| tap.change == Change::Better),
];

/// The comparison as JSON, indented, a newline at the end.
#[must_use]
pub fn diff_json(diff: &Diff) -> String {
    let mut text = serde_json::to_string_pretty(diff).expect("string keys, and non-finite numbers are strings");
    text.push('\n');
    text
}

/// The comparison for a person at a terminal. Ends with a newline.
#[must_use]
pub fn diff_text(diff: &Diff, style: &Style) -> String {
    let (word, paint) = if diff.ok { ("OK", Paint::Green) } else { ("WORSE", Paint::Red) };
    let mut lines = style.wrapped(&format!("{word}: {}", sentence(diff)), 0);
    lines[0] = lines[0].replacen(word, &style.paint(paint, word), 1);
    for (name, side) in [("base", &diff.base), ("head", &diff.head)] {
        let told = format!(
            "{name}: {} {}, {} of {} comparisons failed; model {}",
            verdict_word(side.verdict),
            clean(&side.fixture),
            side.failed,
            side.taps,
            short_hash(&side.weights_hash)
        );
        lines.extend(style.wrapped(&told, 0).iter().map(|line| style.paint(Paint::Dim, line)));
    }
    if !diff.differences.is_empty() {
        lines.push(style.heading("The runs are not alike: part of any change may come from here"));
        lines.extend(diff.differences.iter().flat_map(|d| style.wrapped(&clip_end(&clean(d), 300), 2)));
    }
    for (title, which) in GROUPS {
        let taps: Vec<&TapDiff> = diff.taps.iter().filter(|tap| which(tap)).collect();
        if taps.is_empty() {
            continue;
        }
        lines.push(style.heading(&format!("{title}: {}", taps.len())));
        lines.extend(taps.iter().take(LISTED).map(|tap| row(tap, style)));
        if taps.len() > LISTED {
            lines.push(format!("  … and {} more", taps.len() - LISTED));
        }
    }
    if diff.counts.looser > 0 {
        lines.push(String::new());
        let told = format!("{} taps are allowed more than in the base", diff.counts.looser);
        lines.extend(style.wrapped(&told, 0).iter().map(|line| style.paint(Paint::Yellow, line)));
    }
    lines.join("\n") + "\n"
}

fn row(tap: &TapDiff, style: &Style) -> String {
    let (before, after) = (shown(tap.base.as_ref()), shown(tap.head.as_ref()));
    let factor = tap.factor.map_or_else(String::new, |factor| format!("{} ×", ratio(factor)));
    let numbers = format!("  {before:>9} → {after:<9} {factor:>10}  ");
    let name = format!("{} ({})", clean(&tap.id.to_string()), tap.mode);
    format!("{numbers}{}", clip_start(&name, style.width().saturating_sub(numbers.chars().count())))
}

/// error ÷ tolerance, or what stands for it.
fn shown(state: Option<&TapState>) -> String {
    match state {
        None => "–".to_owned(),
        Some(TapState { ratio: Some(value), .. }) => ratio(*value),
        Some(TapState { passed: true, .. }) => "equal".to_owned(),
        Some(_) => "failed".to_owned(),
    }
}

/// The comparison in one sentence.
fn sentence(diff: &Diff) -> String {
    let c = &diff.counts;
    let failing = match c.newly_failing {
        0 if diff.ok => "nothing newly fails".to_owned(),
        0 => "no tap newly fails, and yet the head does not pass".to_owned(),
        1 => "1 comparison newly fails".to_owned(),
        n => format!("{n} comparisons newly fail"),
    };
    format!(
        "{failing}; of {} in both records {} worse ({} within the tolerance), {} better, {} the same; {} new, {} gone",
        c.in_both, c.worse, c.drifting, c.better, c.same, c.new, c.gone
    )
}

/// The comparison as a section of a Markdown page. Bounded, whatever the records hold.
#[must_use]
pub fn diff_markdown(diff: &Diff) -> String {
    let mark = if diff.ok { "" } else { "**" };
    let mut page = format!("\n## Change from the base\n\n{mark}{}.{mark}\n", capital(&sentence(diff)));
    if diff.counts.looser > 0 {
        page.push_str(&format!("\n{} taps are allowed more than in the base.\n", diff.counts.looser));
    }
    if !diff.differences.is_empty() {
        page.push_str("\nThe runs are not alike:\n\n");
        for difference in &diff.differences {
            page.push_str(&format!("- {}\n", crate::markdown::text(difference)));
        }
    }
    if diff.taps.is_empty() {
        return page;
    }
    page.push_str(
        "\n| what | tap | mode | base | head | error | error ÷ base's |\n| --- | --- | --- | --: | --: | --: | --: |\n",
    );
    for tap in diff.taps.iter().take(ROWS) {
        let what = GROUPS.iter().find(|(_, which)| which(tap)).map_or("", |(title, _)| title);
        let name = crate::markdown::code(&clip_start(&clean(&tap.id.to_string()), NAME_CHARS));
        let error = tap.head.and_then(|head| head.error).map_or_else(|| "–".to_owned(), scientific);
        let factor = tap.factor.map_or_else(|| "–".to_owned(), ratio);
        let (base, head) = (shown(tap.base.as_ref()), shown(tap.head.as_ref()));
        page.push_str(&format!("| {what} | {name} | {} | {base} | {head} | {error} | {factor} |\n", tap.mode));
    }
    page.push_str("\nBase and head: error ÷ tolerance.\n");
    if diff.taps.len() > ROWS {
        page.push_str(&format!("\n… and {} more: see `mlxport report diff --json`.\n", diff.taps.len() - ROWS));
    }
    page
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use mlxport_verdict::diff::diff;

    use super::*;
    use crate::samples;

    const PLAIN: Style = Style { color: false, width: 100 };

    #[test]
    fn a_regression_reads_well() {
        let diff = diff(&samples::passing(), &samples::failing());
        insta::assert_snapshot!("diff_text", diff_text(&diff, &PLAIN));
        insta::assert_snapshot!("diff_markdown", diff_markdown(&diff));
        let json = diff_json(&diff);
        let back: Diff = serde_json::from_str(&json).expect("our own");
        assert_eq!(diff_json(&back), json);
    }

    #[test]
    fn a_repair_and_nothing_at_all_read_well() {
        let repaired = diff(&samples::failing(), &samples::passing());
        insta::assert_snapshot!("diff_repaired", diff_text(&repaired, &PLAIN));
        let same = diff(&samples::passing(), &samples::passing());
        insta::assert_snapshot!("diff_same", diff_text(&same, &PLAIN));
        assert!(diff_markdown(&same).contains("Nothing newly fails"));
    }

    #[test]
    fn lines_keep_to_the_width_and_names_command_nothing() {
        let mut head = samples::failing();
        for tap in &mut head.taps {
            tap.point.push_str("\u{1b}[2J|`");
        }
        let diff = diff(&samples::passing(), &head);
        for width in [60, 80, 200] {
            let plain = diff_text(&diff, &Style { color: false, width });
            assert!(plain.lines().all(|line| line.chars().count() <= width), "{plain}");
            assert!(!plain.contains('\u{1b}'));
        }
        assert!(!diff_markdown(&diff).contains("|`"));
    }
}
