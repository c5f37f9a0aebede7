//! Fields that two configs say in different words: strings that stand for other values, objects that gain and lose members.
//!
//! transformers 5 keeps everything about rotary positions in `rope_parameters`, where ports read `rope_theta` and `rope_scaling` at the top;
//! it names each layer's kind where a port wants numbers. What is translated already is left as it is, so a converted config reads as well.

use serde_json::Value;

use crate::recipe::checker::Checker;
use crate::recipe::table::{Kind, RawField};

/// Whether a field is written in other words than it may be read in.
pub(super) fn translates(field: &RawField) -> bool {
    !field.words.is_empty() || has_members(field)
}

fn has_members(field: &RawField) -> bool {
    !(field.without.is_empty() && field.adds.is_empty() && field.null_where.is_empty())
}

/// The value as the written config has it.
pub(super) fn translated(field: &RawField, value: &Value) -> Value {
    let word = |value: &Value| value.as_str().and_then(|text| field.words.get(text)).unwrap_or(value).clone();
    match value {
        Value::Array(items) if !field.words.is_empty() => items.iter().map(word).collect(),
        Value::Object(members) if has_members(field) => {
            if field.null_where.iter().any(|(name, value)| members.get(name) == Some(value)) {
                return Value::Null;
            }
            let mut members = members.clone();
            members.retain(|name, _| !field.without.contains(name));
            for (name, like) in &field.adds {
                if let (None, Some(value)) = (members.get(name), members.get(like).cloned()) {
                    members.insert(name.clone(), value);
                }
            }
            if members.is_empty() { Value::Null } else { Value::Object(members) }
        }
        other => word(other),
    }
}

/// What may be said of which kinds.
pub(super) fn check(field: &RawField, checker: &mut Checker) {
    if has_members(field) && field.kind != Kind::ObjectOrNull {
        checker.complain(&field.path, "without, adds and null_where only for the kind object_or_null", "another kind");
    }
    if !field.words.is_empty() && field.kind == Kind::ObjectOrNull {
        checker.complain(&field.path, "no words for an object", "some");
    }
    if translates(field) && field.mirror {
        checker.complain(&field.path, "no mirror for a field that is translated", "it");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn field(more: Value) -> RawField {
        let mut field = json!({ "path": "rope_scaling", "also": ["rope_parameters"], "kind": "object_or_null" });
        let (Value::Object(field), Value::Object(more)) = (&mut field, more) else { unreachable!("both are objects") };
        field.extend(more);
        from_value(Value::Object(field.clone())).expect("a field")
    }

    #[test]
    fn rotary_settings_lose_and_gain_members_once() {
        let field = field(json!({
            "without": ["rope_theta"], "adds": { "type": "rope_type" }, "null_where": { "rope_type": "default" },
        }));
        let new = json!({ "rope_theta": 5e5, "rope_type": "yarn", "factor": 4.0 });
        let old = json!({ "rope_type": "yarn", "factor": 4.0, "type": "yarn" });
        assert_eq!(translated(&field, &new), old);
        assert_eq!(translated(&field, &old), old);
        assert_eq!(translated(&field, &json!({ "rope_theta": 5e5, "rope_type": "default" })), Value::Null);
        assert_eq!(translated(&field, &json!({ "rope_theta": 5e5 })), Value::Null);
        assert_eq!(translated(&field, &json!(3)), json!(3), "what is no object stays, and its kind is wrong");
    }

    #[test]
    fn words_stand_for_values_alone_and_in_lists() {
        let field = field(json!({ "kind": "counts", "words": { "sliding": 1, "full": 0 } }));
        assert_eq!(translated(&field, &json!(["full", "sliding", "other", 1])), json!([0, 1, "other", 1]));
        assert_eq!(translated(&field, &json!("full")), json!(0));
    }
}
