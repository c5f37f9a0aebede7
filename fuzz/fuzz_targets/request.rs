//! libFuzzer on [`mlxport_fuzz::targets::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::request::run(data));
