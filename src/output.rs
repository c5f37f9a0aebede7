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
