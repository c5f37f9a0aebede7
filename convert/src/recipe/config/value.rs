//! What the kinds of config fields admit, and when two values are the same.

use serde_json::Value;

use crate::recipe::table::Kind;

/// The largest `size` or `count`: far above any model, far below any overflow.
const MAX_INTEGER: u64 = 1 << 26;

pub(super) fn integer(value: &Value) -> Option<i128> {
    value.as_u64().map(i128::from)
}

/// A whole number written as `4.0`, where an integer is wanted, as that integer; anything else as it is.
pub(super) fn as_integer(kind: Kind, value: Value) -> Value {
    let counts = matches!(kind, Kind::Size | Kind::Count | Kind::SizeOrNull | Kind::CountOrNull);
    match value.as_f64() {
        Some(number) if counts && value.is_f64() && number.fract() == 0.0 && (0.0..=1e9).contains(&number) => {
            Value::from(number as u64)
        }
        _ => value,
    }
}

/// Equal as the config means it: 10000 and 10000.0 are one number.
pub(super) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_f64(), right.as_f64()) {
        (Some(left), Some(right)) => left == right,
        _ => left == right,
    }
}

pub(super) fn fits(kind: Kind, value: &Value) -> bool {
    let count = |value: &Value| value.as_u64().is_some_and(|n| n <= MAX_INTEGER);
    let size = |value: &Value| count(value) && value.as_u64() != Some(0);
    let all = |test: &dyn Fn(&Value) -> bool| value.as_array().is_some_and(|l| l.iter().all(test));
    match kind {
        Kind::Size => size(value),
        Kind::Count => count(value),
        Kind::SizeOrNull => value.is_null() || size(value),
        Kind::CountOrNull => value.is_null() || count(value),
        Kind::Number => value.is_number(),
        Kind::Positive => value.as_f64().is_some_and(|n| n > 0.0),
        Kind::Flag => value.is_boolean(),
        Kind::Text => value.is_string(),
        Kind::Texts => all(&Value::is_string),
        Kind::Sizes => all(&size),
        Kind::Counts => all(&count),
        Kind::ObjectOrNull => value.is_null() || value.is_object(),
        Kind::Null => value.is_null(),
        Kind::Any => true,
    }
}

pub(super) fn wording(kind: Kind) -> &'static str {
    match kind {
        Kind::Size => "an integer from 1 to 67108864",
        Kind::Count => "an integer from 0 to 67108864",
        Kind::SizeOrNull => "an integer from 1 to 67108864, or null",
        Kind::CountOrNull => "an integer from 0 to 67108864, or null",
        Kind::Number => "a number",
        Kind::Positive => "a number above 0",
        Kind::Flag => "true or false",
        Kind::Text => "a string",
        Kind::Texts => "a list of strings",
        Kind::Sizes => "a list of integers from 1",
        Kind::Counts => "a list of integers from 0",
        Kind::ObjectOrNull => "an object, or null",
        Kind::Null => "null",
        Kind::Any => "anything",
    }
}

pub(super) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whole_numbers_are_integers_where_integers_are_wanted() {
        assert_eq!(as_integer(Kind::Size, json!(4.0)), json!(4));
        for (kind, kept) in [(Kind::Number, json!(4.0)), (Kind::Size, json!(4.5)), (Kind::Size, json!(-4.0))] {
            assert_eq!(as_integer(kind, kept.clone()), kept);
        }
        assert_eq!(as_integer(Kind::Size, json!(1e300)), json!(1e300));
    }

    #[test]
    fn kinds_admit_what_they_say() {
        for (kind, good, bad) in [
            (Kind::Size, json!(1), json!(0)),
            (Kind::Count, json!(0), json!(-1)),
            (Kind::SizeOrNull, json!(null), json!(0)),
            (Kind::CountOrNull, json!(0), json!("0")),
            (Kind::Number, json!(-0.5), json!("x")),
            (Kind::Positive, json!(1e-6), json!(0.0)),
            (Kind::Flag, json!(false), json!(0)),
            (Kind::Text, json!("a"), json!(1)),
            (Kind::Texts, json!(["a"]), json!(["a", 1])),
            (Kind::Sizes, json!([1, 2]), json!([1, 0])),
            (Kind::Counts, json!([0]), json!([0.5])),
            (Kind::ObjectOrNull, json!({}), json!([])),
            (Kind::Null, json!(null), json!(0)),
            (Kind::Size, json!(1 << 26), json!((1 << 26) + 1)),
        ] {
            assert!(fits(kind, &good) && !fits(kind, &bad), "{kind:?}: {good}, {bad}");
        }
        assert!(same(&json!(10000), &json!(10000.0)) && !same(&json!(0), &json!(null)));
    }
}
