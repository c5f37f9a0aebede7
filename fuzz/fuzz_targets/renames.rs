//! libFuzzer on [`mlxport_fuzz::targets::renames`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::renames::run(data));
