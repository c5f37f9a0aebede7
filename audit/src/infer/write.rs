//! The recipe as TOML, with what a person should know of it in comments.

use std::fmt::Write as _;

use super::example::Example;
use super::table::{Table, listed, quote};
use super::translate::{Section, section};
use super::{Pair, fits};

/// Keys that a comment names.
const NAMED: usize = 3;

/// The whole file.
pub fn recipe(table: &Table<'_>, examples: &[Example], pairs: &[Pair]) -> String {
    let (types, architectures) = fits(examples);
    let section = section(table, examples);
    let mut text = head(table, examples, pairs);
    let name = types.first().cloned().unwrap_or_else(|| "learned".to_owned());
    let mut said = format!("model_type = {}", listed(&types));
    if !architectures.is_empty() {
        said += &format!(", architectures = {}", listed(&architectures));
    }
    // Writing to a String cannot fail.
    let _ = write!(text, "schema = 1\nname = {}\nlayouts = [\"mlx\"]\nfits = {{ {said} }}\n\n", quote(&name));
    config(&mut text, &section);
    if !table.indices.is_empty() {
        text += "[indices]\n";
        for index in &table.indices {
            let count = if index.count.starts_with('"') { index.count.clone() } else { quote(&index.count) };
            let filter = index.filter.as_ref().map(|filter| format!(", where = {}", quote(filter))).unwrap_or_default();
            let empty = if index.may_be_empty { ", may_be_empty = true" } else { "" };
            let _ = writeln!(text, "{} = {{ count = {count}{filter}{empty} }}", index.name);
        }
        text.push('\n');
    }
    text += "[table]\nrows = [\n";
    for (notes, row) in &table.rows {
        for note in notes {
            let _ = writeln!(text, "  # {note}");
        }
        let _ = writeln!(text, "  {{ {row} }},");
    }
    text + "]\n"
}

fn head(table: &Table<'_>, examples: &[Example], pairs: &[Pair]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let of: Vec<String> =
        pairs.iter().map(|pair| format!("{} and {}", one_line(&pair.names.0), one_line(&pair.names.1))).collect();
    lines.push(format!("Learned by `mlxport recipe infer` from {}.", of.join("; ")));
    lines.push(
        "Run on the release it gives the MLX side's tensors bit by bit. Read it before it is used on another model."
            .to_owned(),
    );
    if examples.iter().any(Example::is_packed) {
        lines.push(
            "The MLX side is packed; the recipe makes the tensors that were packed, and says nothing of packing."
                .to_owned(),
        );
    }
    let ambiguous = ambiguous(table);
    if !ambiguous.is_empty() {
        lines.push(String::new());
        let more = if pairs.len() == 1 { "; a second pair of another size would tell" } else { "" };
        lines.push(format!("Ambiguous: the examples fit these as well{more}."));
        lines.extend(ambiguous.into_iter().map(|line| format!("  {line}")));
    }
    let constants = constants(table);
    if !constants.is_empty() {
        lines.push(String::new());
        lines.push("Numbers that no config field gives: they hold for these examples.".to_owned());
        lines.extend(constants.into_iter().map(|line| format!("  {line}")));
    }
    let comment = |line: String| if line.is_empty() { "#\n".to_owned() } else { format!("# {line}\n") };
    lines.into_iter().map(comment).collect::<String>() + "\n"
}

/// Text that stays in one comment line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn config(text: &mut String, section: &Section) {
    for note in &section.notes {
        let _ = writeln!(text, "# {note}");
    }
    *text += "[config]\n";
    if !section.drop.is_empty() {
        let _ = writeln!(text, "drop = {}", listed(&section.drop));
    }
    *text += "fields = [\n";
    for field in &section.fields {
        let _ = writeln!(text, "  {{ {field} }},");
    }
    *text += "]\n\n";
}

/// What could be said otherwise, one line for each.
pub fn ambiguous(table: &Table<'_>) -> Vec<String> {
    let line = |((chosen, others), count): (&(String, Vec<String>), &usize)| {
        let places = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        format!("{chosen} ({places}): or {}", others.join(", or "))
    };
    table.ambiguous.iter().map(line).collect()
}

/// Numbers that no field gives, one line for each.
pub fn constants(table: &Table<'_>) -> Vec<String> {
    let line = |(number, keys): (&String, &std::collections::BTreeSet<String>)| {
        let shown: Vec<String> = keys.iter().take(NAMED).cloned().collect();
        let more = if keys.len() > NAMED { format!(" and {} more", keys.len() - NAMED) } else { String::new() };
        format!("{number}: {}{more}", shown.join(", "))
    };
    table.constants.iter().map(line).collect()
}

/// What the config section tells before it begins.
pub fn config_notes(table: &Table<'_>, examples: &[Example]) -> Vec<String> {
    section(table, examples).notes
}
