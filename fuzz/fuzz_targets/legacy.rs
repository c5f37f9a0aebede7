//! libFuzzer on [`mlxport_fuzz::targets::legacy`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| mlxport_fuzz::targets::legacy::run(data));
