//! Other names of a recording's points (`mlxport compare --map`), as TOML. Input: the text.

use mlxport_compare::Renames;

/// Names as recordings have them.
const NAMES: [&str; 5] =
    ["model.norm", "language_model.model.layers.0.mlp.gate", "a", "", "sam_model.blocks.11.attn.qkv.sam_model.blocks"];

/// Reads the rules, and applies sound ones to a recording's names.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Renames::parse(text) {
        Ok(rules) => match rules.apply(NAMES.into_iter()) {
            Ok(names) => assert_eq!(names.len(), NAMES.len(), "a name for every point"),
            Err(error) => harmless(&error.to_string()),
        },
        Err(violations) => {
            assert!(!violations.is_empty(), "refused without a reason");
            violations.iter().for_each(|violation| harmless(violation));
        }
    }
}

/// Nothing that a terminal would obey.
fn harmless(text: &str) {
    let control = text.chars().find(|c| c.is_control() && *c != '\n');
    assert_eq!(control, None, "{text:?}");
}
