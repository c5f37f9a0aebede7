//! Where text for people and objects for programs leave the program.

use std::io::Write;

use mlxport_reports::Style;

/// Writes text to stdout. A reader that went away (`| head`) has seen enough: that is no error.
pub fn to_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// How text for people is to look on `stream`: as wide as the terminal is; with colours on a terminal alone, and never where
/// `NO_COLOR` is set or the terminal knows none.
pub fn style(stream: &impl anstream::stream::RawStream) -> Style {
    let color = anstream::AutoStream::choice(stream) != anstream::ColorChoice::Never;
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    Style { color, width }
}

/// An error with its causes, from the outermost in; a cause that the text before it already ends with is not said again.
pub fn told(error: &anyhow::Error) -> String {
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

    #[test]
    fn a_cause_is_said_once() {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let path = std::path::PathBuf::from("a.json");
        let twice = anyhow::Error::from(mlxport_ocr::OcrError::Io { path, source: missing() });
        assert_eq!(super::told(&twice), format!("a.json: {}", missing()));
        let chain = Err::<(), _>(missing()).context("reading").context("a page").expect_err("an error");
        assert_eq!(super::told(&chain), format!("a page: reading: {}", missing()));
    }
}
