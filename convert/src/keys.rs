//! Tensor keys as text.

/// The key with `{n}` for each part that is a number.
pub(crate) fn generalize(key: &str) -> String {
    let parts: Vec<&str> = key
        .split('.')
        .map(|part| {
            let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            if digits { "{n}" } else { part }
        })
        .collect();
    parts.join(".")
}

#[cfg(test)]
mod tests {
    use super::generalize;

    #[test]
    fn numbers_are_generalized() {
        assert_eq!(generalize("a.0.b.12.c1"), "a.{n}.b.{n}.c1");
        assert_eq!(generalize("7"), "{n}");
    }
}
