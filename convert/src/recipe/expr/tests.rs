//! What expressions mean, and what they refuse.

use super::*;

fn dims() -> Dims {
    let mut dims = Dims::default();
    dims.ints.insert("w".into(), Some(64));
    dims.ints.insert("broken".into(), None);
    dims.lists.insert("globals".into(), Some(vec![2, 5]));
    dims
}

fn value(text: &str) -> Result<i128, EvalError> {
    Expr::parse(text).expect(text).eval(&dims(), Some(5))
}

#[test]
fn arithmetic_binds_as_usual() {
    for (text, expected) in [
        ("2*w-1", 127),
        ("1 + 2 * 3", 7),
        ("(1+2)*3", 9),
        ("7/2", 3),
        ("-7/2", -4),
        ("7 % 4 == 3", 1),
        ("!0 && w > 63", 1),
        ("i in globals", 1),
        ("3 in globals || i >= 6", 0),
        ("globals[1]", 5),
        ("globals[i - 5]", 2),
        ("i - 1 in globals", 0),
        ("0 && 1/0", 0),
        ("w - sum(globals)", 57),
        ("index_of(globals, 5) + 1", 2),
        ("count_of(globals, 2)*3", 3),
        ("count_of( globals , i - 1 )", 0),
        ("!count_of(globals, index_of(globals, 2))", 1),
    ] {
        assert_eq!(value(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_has_no_value_says_why() {
    assert_eq!(value("broken + 1"), Err(EvalError::Unset));
    for text in ["1/0", "index_of(globals, 3)", "globals[2]", "globals[-1]", "99999999999999999999999999999999999999*9"]
    {
        assert!(matches!(value(text), Err(EvalError::Bad(_))), "{text}");
    }
}

#[test]
fn nonsense_is_refused() {
    let long = "(".repeat(1000);
    for text in [
        "",
        "1 +",
        "(1",
        "1 2",
        "a b",
        "w[",
        "w[]",
        "w[1",
        "sum(w",
        "sum()",
        "sum(1)",
        "1..2",
        "é",
        "index_of(globals 2)",
        "count_of(w",
        "index_of(2, globals)",
        "in",
        &long,
    ] {
        let parsed = Expr::parse(text);
        assert!(parsed.is_err() || text == "in", "{text}");
    }
}
