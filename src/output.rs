//! Where text for people and objects for programs leave the program.

use std::io::Write;

/// Writes text to stdout. A reader that went away (`| head`) has seen enough: that is no error.
pub fn to_stdout(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
