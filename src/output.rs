//! Where text for people and objects for programs leave the program.

use std::{io::Write, process::ExitCode};

use mlxport_convert::{ConvertError, Violation};
use mlxport_read::error_text;
use mlxport_reports::Style;
use mlxport_verdict::SCHEMA;
use serde_json::{Value, json};

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

/// A command's outcome; where `json` was asked for and there is none, one object on stdout says why.
pub fn with_error_object(json: bool, outcome: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    if let (true, Err(error)) = (json, &outcome) {
        let object = json!({ "schema": SCHEMA, "ok": false, "error": error_text(error) });
        to_stdout(&format!("{object}\n"))?;
    }
    outcome
}

/// The fields of `object` and those of `more`, as a line of JSON.
pub fn json_line(mut object: Value, more: Value) -> String {
    if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
        object.extend(more);
    }
    format!("{object}\n")
}

/// The same of a command whose object has this schema, with everything that is wrong with the input.
pub fn with_violations(json: bool, schema: &str, outcome: anyhow::Result<ExitCode>) -> anyhow::Result<ExitCode> {
    if let (true, Err(error)) = (json, &outcome) {
        let (why, list) = (error.to_string(), violations(error));
        let object = json!({ "schema": schema, "verdict": "none", "error": why, "violations": list });
        to_stdout(&format!("{object}\n"))?;
    }
    outcome
}

/// What is wrong with the input, where the error is of that kind.
pub fn violations(error: &anyhow::Error) -> &[Violation] {
    error.downcast_ref::<ConvertError>().map_or(&[], ConvertError::violations)
}
