//! libFuzzer on [`mlxport_fuzz::targets::geometry`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::geometry::run(data));
