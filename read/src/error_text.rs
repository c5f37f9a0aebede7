//! An error as a person reads it.

/// An error with its causes, from the outermost in; a cause that the text before it already ends with is not said again.
#[must_use]
pub fn error_text(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::error_text;

    #[test]
    fn a_cause_is_said_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let path = std::path::PathBuf::from("a.json");
        let twice = anyhow::Error::from(mlxport_ocr::OcrError::Io { path, source: missing() });
        assert_eq!(error_text(&twice), format!("a.json: {}", missing()));
        let chain = Err::<(), _>(missing()).context("reading").context("a page").expect_err("an error");
        assert_eq!(error_text(&chain), format!("a page: reading: {}", missing()));
    }
}
