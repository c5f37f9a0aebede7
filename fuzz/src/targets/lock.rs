//! The tolerance lockfile. Input: the text.

use mlxport_verdict::Lock;

/// Reads the lockfile; a sound one is written and read again, an unsound one told without anything a terminal would obey.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Lock::parse(text) {
        Ok(lock) => {
            let written = lock.to_text();
            assert_eq!(Lock::parse(&written).as_ref(), Ok(&lock), "{written}");
        }
        Err(violations) => {
            assert!(!violations.is_empty(), "refused without a reason");
            for violation in violations {
                let text = violation.to_string();
                assert_eq!(text.chars().find(|c| c.is_control()), None, "{text:?}");
            }
        }
    }
}
