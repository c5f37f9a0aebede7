//! The whole of a conversion in a few lines: `convert SRC DST [LAYOUT]`.

use std::process::ExitCode;

use mlxport_convert::{ConvertError, Manifest, Request, WriteOptions, prepare};

fn convert(source: &str, target: &str, layout: Option<String>) -> Result<Manifest, ConvertError> {
    let request = Request { source: source.into(), layout, ..Request::default() };
    prepare(&request)?.write(&WriteOptions::to(target))
}

#[allow(clippy::print_stdout, clippy::print_stderr, reason = "an example speaks for itself")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [source, target, layout @ ..] = arguments.as_slice() else {
        eprintln!("usage: convert SRC DST [LAYOUT]");
        return ExitCode::from(2);
    };
    match convert(source, target, layout.first().cloned()) {
        Ok(manifest) => {
            println!("{} tensors", manifest.tensors.len());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
