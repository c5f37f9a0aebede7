//! A recipe's integer expressions. Input: one expression.

use mlxport_convert::recipe::expr::{Dims, Expr};

/// Parses the expression and works it out.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Expr::parse(text) {
        Ok(expr) => {
            round_trip(&expr);
            evaluate(&expr);
        }
        Err(why) => assert!(!why.is_empty()),
    }
}

/// Printed and parsed again it is the same.
///
/// # Panics
/// When it is not.
pub fn round_trip(expr: &Expr) {
    let again = Expr::parse(&expr.to_string());
    assert_eq!(again.as_ref(), Ok(expr));
}

/// Its value is the same each time; without dims it has one only when it names none; in parentheses it stays what it is.
fn evaluate(expr: &Expr) {
    let mut dims = Dims::default();
    for (name, is_list) in expr.names() {
        if is_list {
            dims.lists.insert(name.to_owned(), Some(vec![3, -1, i128::MAX]));
        } else {
            dims.ints.insert(name.to_owned(), Some(name.len() as i128));
        }
    }
    let value = expr.eval(&dims, Some(5));
    assert_eq!(value, expr.eval(&dims, Some(5)));
    if let Ok(wrapped) = Expr::parse(&format!("({expr})")) {
        assert_eq!(wrapped.eval(&dims, Some(5)), value);
    }
    if expr.names().is_empty() {
        assert_eq!(expr.eval(&Dims::default(), None), value);
    }
}
