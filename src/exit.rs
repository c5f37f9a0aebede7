//! Exit codes, the same for every command: 0 pass, 1 divergence, 2 input or environment, 3 a resource ran out;
//! and 130, as shells have it, where `ocr` was asked to stop by a signal.

use std::{io::ErrorKind, process::ExitCode};

use mlxport_convert::ConvertError;

/// Everything was done, and where there was a verdict, it is a pass.
pub const PASS: u8 = 0;
/// The port differs from the recording, or a converted directory from its manifest.
pub const DIVERGENCE: u8 = 1;
/// Usage, input, fixture or environment: no verdict.
pub const INPUT: u8 = 2;
/// A resource ran out: disk, memory, file handles.
pub const RESOURCE: u8 = 3;
/// A signal asked the program to stop, and it did, with what was finished written.
pub const INTERRUPTED: u8 = 130;

/// The code an error ends the program with: 3 where the system ran out of something on the way, else 2.
pub fn code_of(error: &anyhow::Error) -> ExitCode {
    let exhausted = |kind| {
        use ErrorKind::{FileTooLarge, OutOfMemory, QuotaExceeded, StorageFull};
        matches!(kind, StorageFull | QuotaExceeded | FileTooLarge | OutOfMemory)
    };
    let no_room = matches!(error.downcast_ref(), Some(ConvertError::NoRoom { .. }));
    let ran_out =
        error.chain().filter_map(|cause| cause.downcast_ref::<std::io::Error>()).any(|io| exhausted(io.kind()));
    ExitCode::from(if ran_out || no_room { RESOURCE } else { INPUT })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_a_resource_and_a_missing_file_is_input() {
        let code = |kind: ErrorKind| {
            let error = anyhow::Error::from(std::io::Error::from(kind)).context("while writing");
            format!("{:?}", code_of(&error))
        };
        assert_eq!(code(ErrorKind::StorageFull), format!("{:?}", ExitCode::from(RESOURCE)));
        assert_eq!(code(ErrorKind::NotFound), format!("{:?}", ExitCode::from(INPUT)));
    }
}
