//! Where text for people and objects for programs leave the program.

use std::io::{IsTerminal, Write};

use mlxport_reports::{Style, json, terminal};
use mlxport_verdict::Run;

/// Writes text to stdout. A reader that went away (`| head`) has seen enough: that is no error.
pub fn to_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Shows a record: people's text on stdout, or on stderr where stdout is for the record as JSON.
pub fn show_record(record: &Run, as_json: bool) -> std::io::Result<()> {
    let text = |is_terminal: bool| {
        let color = is_terminal && std::env::var_os("NO_COLOR").is_none();
        let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
        terminal(record, &Style { color, width })
    };
    if as_json {
        eprint!("{}", text(std::io::stderr().is_terminal()));
        to_stdout(&json(record))
    } else {
        to_stdout(&text(std::io::stdout().is_terminal()))
    }
}
