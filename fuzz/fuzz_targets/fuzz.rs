//! libFuzzer on the target that the environment variable MLXPORT_FUZZ_TARGET names. One program for all targets: it is linked once.
#![no_main]

use std::sync::OnceLock;

use mlxport_fuzz::{TARGETS, Target};

static TARGET: OnceLock<Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("MLXPORT_FUZZ_TARGET").unwrap_or_default();
        let target = TARGETS.iter().find(|(known, _)| *known == name);
        TARGET.get_or_init(|| *target.unwrap_or_else(|| panic!("MLXPORT_FUZZ_TARGET is {name:?}, which is no target")));
    },
    |data: &[u8]| {
        if let Some((_, run)) = TARGET.get() {
            run(data);
        }
    }
);
